// Restoring a volume from one of its snapshots: what is to be done next.
//
// The record says from which one, from before the first block is written until after the last one is durable, and as long as it
// does no client gets at the volume. What was cut short is done again, all of it, from the record as it is then: it writes the
// same. Or another snapshot's restore takes its place: it writes all that was written since that one, what was restored in part too.
//
// A record that is made anew from copies, see rebuild.h, says the same: else half of a restore would be served, or one that has
// ended be done again, over what clients have written since. So a copy is told before the first block, and before clients come; to a
// volume that was attached for this, they come by a takeover, which tells copies by itself.
//
// Thread-safety: none.
#ifndef WEIR_VOLUME_ENGINE_RESTORATION_H_
#define WEIR_VOLUME_ENGINE_RESTORATION_H_

#include <map>

#include "volume/engine/types.h"
#include "volume/engine/view.h"

namespace weir::engine {

class Restoration {
 public:
  // How clients are kept out meanwhile.
  enum class Held {
    kSuspended,  // they wait
    kAttached,   // for this, and for nobody else
  };
  // `marked`: the record says that the volume is being restored from this very snapshot, and said so when it was taken over:
  // then members have copies.
  Restoration(Held held, bool marked)
      : held_(held), shut_(held == Held::kAttached), marked_(marked), told_(marked), told_of_the_end_(held == Held::kAttached) {}

  enum class Act {
    kShut,    // Engine::StartRestore
    kMark,    // the record, by compare-and-swap
    kCopy,    // what was written since the snapshot is written as it was then; then all is flushed
    kUnmark,  // the record, by compare-and-swap
    kTell,    // members in sync get copies of the record as it is now: at least one that answers
    kOpen,    // Engine::EndRestore
    kLetGo,   // of the volume: detach it
    kDone,
    kGiveUp,  // replicas come and go
  };
  // The one before has been done. `view`: of the engine, as of now.
  Act Next(const EngineView& view);

 private:
  // Since when each member in sync is there.
  using Sessions = std::map<TargetId, Time>;
  static Sessions SessionsIn(const EngineView& view);

  Held held_;
  // What was asked for.
  bool shut_;
  bool marked_;
  bool told_;
  int copies_ = 0;
  Sessions sessions_;  // when the last copy began
  bool copied_ = false;
  bool unmarked_ = false;
  bool told_of_the_end_;
  bool ended_ = false;
};

}  // namespace weir::engine

#endif  // WEIR_VOLUME_ENGINE_RESTORATION_H_
