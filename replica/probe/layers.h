// The mounts and block devices below a path.
//
// Thread-safety: safe; reads files only, and may block as they do.
#ifndef WEIR_REPLICA_PROBE_LAYERS_H_
#define WEIR_REPLICA_PROBE_LAYERS_H_

#include <string>

#include "replica/probe/disk_truth.h"

namespace weir::probe {

// Fills in mounts, layers and unseen. `path`: absolute, without links. `root` stands before /proc, /sys and /dev, for
// tests; the machine's own is "". What cannot be read is left out, and `unseen` says what.
DiskFacts LayersBelow(const std::string& path, const std::string& root);

}  // namespace weir::probe

#endif  // WEIR_REPLICA_PROBE_LAYERS_H_
