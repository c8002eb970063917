#include "tests/sim/shrink.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace weir::sim {
namespace {

constexpr uint64_t kFaultsMax = 64;  // that can be skipped one by one

bool Fails(uint64_t seed, const ClusterOptions& options) {
  return !Cluster(seed, options).Run().violation.empty();
}

}  // namespace

ClusterOptions Shrink(uint64_t seed, ClusterOptions options) {
  bool smaller = Fails(seed, options);
  while (smaller) {
    smaller = false;
    // The later half of what is left, a quarter, ... one fault at a time.
    const uint64_t all = options.script != nullptr ? options.script->faults.size() : options.faults;
    const uint64_t faults = std::min(all, kFaultsMax);
    for (uint64_t size = std::max<uint64_t>(faults / 2, 1); size > 0; size /= 2) {
      for (uint64_t first = 0; first < faults; first += size) {
        ClusterOptions fewer = options;
        for (uint64_t i = first; i < std::min(first + size, faults); ++i) {
          fewer.skipped_faults |= uint64_t{1} << i;
        }
        if (fewer.skipped_faults == options.skipped_faults || !Fails(seed, fewer)) continue;
        options = fewer;
        smaller = true;
      }
    }
    for (uint64_t less = options.requests / 2; less > 0; less /= 2) {
      ClusterOptions fewer = options;
      fewer.requests -= less;
      if (!Fails(seed, fewer)) continue;
      options = fewer;
      smaller = true;
    }
  }
  return options;
}

std::string FlagsOf(uint64_t seed, const ClusterOptions& options) {
  const ClusterOptions usual;
  std::string flags = absl::StrCat("--seed=", seed);
  if (!options.survivable) absl::StrAppend(&flags, " --anything-goes");
  if (options.deletes) absl::StrAppend(&flags, " --deletes");
  if (options.replaces) absl::StrAppend(&flags, " --replaces");
  if (options.restores) absl::StrAppend(&flags, " --restores");
  if (options.script != nullptr) absl::StrAppend(&flags, " --script=", options.script->name);
  if (options.faults != usual.faults) absl::StrAppend(&flags, " --faults=", options.faults);
  if (options.requests != usual.requests) absl::StrAppend(&flags, " --requests=", options.requests);
  for (uint64_t i = 0; i < kFaultsMax; ++i) {
    if (options.skipped_faults >> i & 1) absl::StrAppend(&flags, " --skip-fault=", i);
  }
  return flags;
}

}  // namespace weir::sim
