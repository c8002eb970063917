// A volume's record made anew after the catalog was lost, from the copies that its replicas keep.
//
// A copy is told to each good member at the end of a takeover, after its base and before the record says ACTIVE, so of
// every epoch that has served whoever was a member at its begin has one; changes since may be missing. DESIGN.md,
// "When the catalog is lost", says why the newest copy is enough all the same.
//
// Thread-safety: pure functions.
#ifndef WEIR_VOLUME_ENGINE_REBUILD_H_
#define WEIR_VOLUME_ENGINE_REBUILD_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "volume/engine/takeover.h"

namespace weir::engine {

// A record that is made anew skips so many epochs: who has not answered may have promised, or even served, some that nobody
// else knows of.
inline constexpr Epoch kEpochsSkipped = 1024;

struct RecordCopy {
  Epoch epoch = 0;        // that it was told under
  uint64_t revision = 0;  // within the epoch
  TakeoverRecord record;
};

// What one replica says of the volume.
struct RebuildSource {
  std::string replica;
  std::string store_id;
  Epoch promised = 0;
  std::vector<SealedState::Lane> lanes;
  std::vector<uint64_t> pins;       // ids
  uint64_t size_blocks = 0;         // for which it has room
  std::optional<RecordCopy> copy;
};

struct Rebuilt {
  size_t source = 0;      // whose copy it is
  // Recovering: the takeover that follows must reach and examine every member that it has in sync. No client may go on.
  // Its epoch is above every promise that was heard of, and by so much that none of the lost epochs comes again.
  TakeoverRecord record;
  std::vector<uint64_t> lost_pins;  // the copy names them, and not every member has them
};

// `without`: replicas that need not be among the sources, and do not count if they are; they are no members in sync then.
// FAILED_PRECONDITION: no copy, or a replica of its is missing. DATA_LOSS: somebody has writes that no copy accounts for, or was
// being brought back from one that had more than all that are left; or no member in sync is left.
absl::StatusOr<Rebuilt> Rebuild(const std::vector<RebuildSource>& sources,
                                const std::set<std::string>& without);

}  // namespace weir::engine

#endif  // WEIR_VOLUME_ENGINE_REBUILD_H_
