// A replica's real store on a disk in memory, which can lose what was not synced. Slower than the model, and
// with background threads of RocksDB's, so that a seed need not give the same run each time.
#ifndef WEIR_TESTS_SIM_ROCKS_STORE_H_
#define WEIR_TESTS_SIM_ROCKS_STORE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "tests/sim/replica_store.h"

namespace weir::sim {

// A MakeReplicaStore. Store ids are drawn.
std::unique_ptr<ReplicaStore> MakeRocksStore(const std::string& id, uint32_t domains,
                                             const store::VolumeGeometry& geometry);

}  // namespace weir::sim

#endif  // WEIR_TESTS_SIM_ROCKS_STORE_H_
