// Whether one directory keeps what was synced: looks, measures, judges.
#ifndef WEIR_REPLICA_PROBE_PROBE_H_
#define WEIR_REPLICA_PROBE_PROBE_H_

#include <string>

#include "absl/status/statusor.h"
#include "replica/probe/disk_truth.h"
#include "replica/probe/sync_times.h"

namespace weir::probe {

// Blocks as MeasureSyncs does. NOT_FOUND, FAILED_PRECONDITION, PERMISSION_DENIED and the like: it is no directory in which
// this process can make a file. No space, and a write or a sync that fails, are among the reasons. Thread-safe.
absl::StatusOr<DiskTruth> ProbeDirectory(const std::string& directory, const Rounds& rounds);

}  // namespace weir::probe

#endif  // WEIR_REPLICA_PROBE_PROBE_H_
