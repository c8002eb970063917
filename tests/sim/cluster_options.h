// What a simulated cluster is to be like, and what has come of it.
#ifndef WEIR_TESTS_SIM_CLUSTER_OPTIONS_H_
#define WEIR_TESTS_SIM_CLUSTER_OPTIONS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include "tests/sim/fault.h"
#include "tests/sim/model_store.h"
#include "tests/sim/replica_store.h"

namespace weir::sim {

struct ClusterOptions {
  uint64_t requests = 200;
  uint64_t faults = 10;
  // No fault that takes data from the last good copy: everything must be well again in the end.
  bool survivable = true;
  bool trace = false;
  // By number of the fault: it does not happen, and the others are as they were. Of the first 64.
  uint64_t skipped_faults = 0;
  const Script* script = nullptr;  // none: any fault
  bool restores = false;           // a volume that is suspended is restored, every other time; also one that nobody serves
  bool deletes = false;            // the volume is deleted in the end
  bool replaces = false;           // members' places are given to other replicas, for good
  MakeReplicaStore make_store = MakeModelStore;
};

struct ClusterResult {
  std::string violation;  // empty: none
  uint64_t requests_ok = 0;
  uint64_t requests_failed = 0;
  uint64_t attaches = 0;
  uint64_t steps = 0;         // of the agenda
  uint64_t old_catalogs = 0;  // that were put back
  uint64_t restores = 0;      // that came to their end
  uint64_t deletions = 0;     // the same; no more than one
  uint64_t replaced = 0;      // members whose place another store has got
  uint64_t leftovers = 0;     // copies that were deleted of who is no member
  bool beyond_restore = false;  // no snapshot could be read, so it could not be restored, and not be used
  std::array<uint64_t, static_cast<size_t>(Fault::kFaultKinds)> faults{};
  uint64_t trace_hash = 0;  // of all that the engines did
};

}  // namespace weir::sim

#endif  // WEIR_TESTS_SIM_CLUSTER_OPTIONS_H_
