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
#include <string>

namespace weir::engine {

class Deletion {
 public:
  // `marked`: the record, as it was just read, says that the volume is being deleted. `members`: how many it names.
  Deletion(bool marked, size_t members) : members_(members), marked_(marked) {}

  enum class Act {
    kMark,        // the record, by compare-and-swap
    kDeleteCopy,  // of the step's member, see LeftAt
    kRemove,      // the record, by compare-and-swap
    kDone,
  };
  struct Step {
    Act act = Act::kDone;
    size_t member = 0;
  };
  // The one before has been done.
  Step Next();

  // What the replica that a member's copy was on is found to be.
  struct Replica {
    bool forgotten = false;  // the catalog does not know it any more
    bool silent = false;     // nothing answers where it was, or another one does
    std::string store_id;    // it has now; unless silent
  };
  enum class Left {
    kNothing,  // the copy has gone with its store, or with the replica
    kCopy,     // is to be deleted by the replica, if it is still there
    kUnknown,  // the step cannot be done now
  };
  // `store_id`: of the copy, as the record names it.
  static Left LeftAt(const Replica& replica, const std::string& store_id);

 private:
  size_t members_;
  // What was asked for.
  bool marked_;
  size_t deleted_ = 0;  // members, in order
  bool removed_ = false;
};

}  // namespace weir::engine

#endif  // WEIR_VOLUME_ENGINE_DELETION_H_
