// Deleting a volume: what is to be done next.
//
// The record says that the volume is being deleted before its first copy goes, since nobody may attach what is not whole any
// more. It goes after the last one, since only who is named there is asked again. Whoever is interrupted, or cannot do a
// step, begins anew, or somebody else does, from the record as it is then.
//
// Thread-safety: none.
#ifndef WEIR_VOLUME_ENGINE_DELETION_H_
#define WEIR_VOLUME_ENGINE_DELETION_H_

#include <cstddef>

namespace weir::engine {

class Deletion {
 public:
  // `marked`: the record, as it was just read, says that the volume is being deleted. `members`: how many it names.
  Deletion(bool marked, size_t members) : members_(members), marked_(marked) {}

  enum class Act {
    kMark,        // the record, by compare-and-swap
    kDeleteCopy,  // of the step's member; one that can have none any more, since its store has gone, has none
    kRemove,      // the record, by compare-and-swap
    kDone,
  };
  struct Step {
    Act act = Act::kDone;
    size_t member = 0;
  };
  // The one before has been done.
  Step Next();

 private:
  size_t members_;
  // What was asked for.
  bool marked_;
  size_t deleted_ = 0;  // members, in order
  bool removed_ = false;
};

}  // namespace weir::engine

#endif  // WEIR_VOLUME_ENGINE_DELETION_H_
