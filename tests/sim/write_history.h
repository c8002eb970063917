// What was written where: for each block, the value of each position that a frontend gave out.
#ifndef WEIR_TESTS_SIM_WRITE_HISTORY_H_
#define WEIR_TESTS_SIM_WRITE_HISTORY_H_

#include <algorithm>
#include <cstdint>
#include <vector>

#include "proto/base/position.h"
#include "tests/sim/replica_store.h"

namespace weir::sim {

// Thread-safety: none.
class WriteHistory {
 public:
  explicit WriteHistory(uint64_t blocks) : blocks_(blocks) {}

  // Clones of one write say the same, so that only the first one counts. Request 0: zeros.
  void Record(BlockRange range, Position position, uint64_t request) {
    for (uint64_t b = range.first; b < range.end(); ++b) {
      std::vector<Version>& all = blocks_[b];
      const auto at = std::lower_bound(all.begin(), all.end(), position, Below);
      if (at == all.end() || at->position != position) all.insert(at, {position, request == 0 ? 0 : StampOf(request, b)});
    }
  }
  // Of `block` in the epoch of `position`, at or below it. Null: nothing was written.
  const Version* Newest(uint64_t block, Position position) const {
    const std::vector<Version>& all = blocks_[block];
    auto at = std::lower_bound(all.begin(), all.end(), position.Next(), Below);
    if (at == all.begin() || (--at)->position.epoch() != position.epoch()) return nullptr;
    return &*at;
  }

 private:
  static bool Below(const Version& version, Position position) {
    return version.position < position;
  }

  std::vector<std::vector<Version>> blocks_;  // ascending
};

}  // namespace weir::sim

#endif  // WEIR_TESTS_SIM_WRITE_HISTORY_H_
