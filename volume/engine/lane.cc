#include "volume/engine/lane.h"

#include <utility>

#include "proto/base/check.h"

namespace weir::engine {

const WriteEntry& Lane::Append(WriteEntry entry) {
  CHECK_LT(last_, Position::kNMax);
  entry.n = ++last_;
  entries_.push_back(std::move(entry));
  return entries_.back();
}

uint64_t Lane::Trim(uint64_t n) {
  uint64_t bytes = 0;
  while (!entries_.empty() && entries_.front().n <= n) {
    CHECK(!entries_.front().open);
    bytes += entries_.front().bytes();
    entries_.pop_front();
  }
  return bytes;
}

}  // namespace weir::engine
