#include "replica/store/space.h"

#include <algorithm>

#include "absl/time/clock.h"
#include "proto/base/log.h"
#include "proto/base/status_macros.h"

namespace weir::store {

bool Admission::Fits(uint64_t bytes) {
  const uint64_t needed = reserve_ + kBytesPerByte * bytes + kBytesPerOp;
  const absl::Time now = absl::Now();
  {
    absl::MutexLock lock(&mutex_);
    const bool fresh = admitted_ < kRefreshBytes && now >= asked_ &&
                       now - asked_ < kRefreshEvery;
    if (fresh && free_ >= needed + admitted_) return true;
  }
  // Old news, or too little: never refuse on old news.
  uint64_t free_bytes = 0;
  rocksdb::Status status = env_->GetFreeSpace(directory_, &free_bytes);
  if (!status.ok()) {
    // Some file systems cannot say; the disk will.
    if (status.IsNotSupported()) free_bytes = ~uint64_t{0} / 4;
  }
  {
    absl::MutexLock lock(&mutex_);
    free_ = free_bytes;
    admitted_ = 0;
    asked_ = now;
  }
  if (free_bytes >= needed) return true;
  on_refusal_();
  return false;
}

bool Admission::HasSpaceFor(uint64_t bytes) { return Fits(bytes); }

bool Admission::Admit(uint64_t bytes) {
  if (!Fits(bytes)) return false;
  absl::MutexLock lock(&mutex_);
  admitted_ += kBytesPerByte * bytes + kBytesPerOp;
  return true;
}

void AllocationCount::Changed(const BlockRange& range) {
  absl::MutexLock lock(&mutex_);
  for (uint64_t part = range.first / kPartBlocks;
       part <= (range.end() - 1) / kPartBlocks; ++part) {
    auto found = parts_.find(part);
    if (found != parts_.end()) ++found->second.changes;
  }
}

absl::StatusOr<uint64_t> AllocationCount::Count(
    uint64_t size_blocks,
    const std::function<absl::StatusOr<uint64_t>(const BlockRange&)>&
        count_part) {
  uint64_t sum = 0;
  for (uint64_t first = 0; first < size_blocks; first += kPartBlocks) {
    uint64_t changes = 0;
    {
      absl::MutexLock lock(&mutex_);
      Part& part = parts_[first / kPartBlocks];
      if (part.counted_at == part.changes) {
        sum += part.allocated;
        continue;
      }
      changes = part.changes;
    }
    const BlockRange range{first, std::min(kPartBlocks, size_blocks - first)};
    ASSIGN_OR_RETURN(uint64_t allocated, count_part(range));
    sum += allocated;
    absl::MutexLock lock(&mutex_);
    Part& part = parts_[first / kPartBlocks];
    if (part.changes == changes) {
      part.counted_at = changes;
      part.allocated = allocated;
    }
  }
  return sum;
}

}  // namespace weir::store
