// How long writes and syncs take in a directory.
#ifndef WEIR_REPLICA_PROBE_SYNC_TIMES_H_
#define WEIR_REPLICA_PROBE_SYNC_TIMES_H_

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "replica/probe/disk_truth.h"

namespace weir::probe {

// Whichever comes first ends it, after a round.
struct Rounds {
  uint32_t count_max = 64;
  absl::Duration time_max = absl::Milliseconds(500);
  const std::atomic<bool>* stop = nullptr;  // not null: ends it once true
};

// Writes 512 KiB to a file without a name, then syncs one block after the other. Nothing stays in `directory`, however
// the process ends: where a file must have a name at first, it loses it at once (and ends in .tmp, which a store
// does not mind). Thread-safe; blocks, also for longer than `time_max` if one sync does.
//
// NOT_FOUND, PERMISSION_DENIED and the like: no file can be made there. RESOURCE_EXHAUSTED: no space. DATA_LOSS: a write or a
// sync failed.
absl::StatusOr<SyncTimes> MeasureSyncs(const std::string& directory, const Rounds& rounds);

// From single rounds; REQUIRES: syncs is not empty. Sorts them.
SyncTimes Summarize(std::vector<absl::Duration> syncs, std::vector<absl::Duration> directs,
                    std::vector<absl::Duration> cached);

}  // namespace weir::probe

#endif  // WEIR_REPLICA_PROBE_SYNC_TIMES_H_
