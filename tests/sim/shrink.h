// Makes a failing run smaller: fewer faults, fewer requests, still a violation.
#ifndef WEIR_TESTS_SIM_SHRINK_H_
#define WEIR_TESTS_SIM_SHRINK_H_

#include <cstdint>
#include <string>

#include "tests/sim/cluster.h"

namespace weir::sim {

// The options of the smallest run of `seed` that was found to fail; `options` if it does not.
ClusterOptions Shrink(uint64_t seed, ClusterOptions options);

// The flags of ops/simulate that make such a run.
std::string FlagsOf(uint64_t seed, const ClusterOptions& options);

}  // namespace weir::sim

#endif  // WEIR_TESTS_SIM_SHRINK_H_
