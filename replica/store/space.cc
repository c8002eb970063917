#include "replica/store/space.h"

#include <algorithm>

#include "absl/time/clock.h"
#include "proto/base/log.h"
#include "proto/base/status_macros.h"

namespace weir::store {
namespace {

// A prime, and more than parts that a volume has.
constexpr uint64_t kStride = 2654435761;

}  // namespace

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
  const uint64_t end = std::min<uint64_t>(parts_.size(), (range.end() - 1) / kPartBlocks + 1);
  for (uint64_t part = range.first / kPartBlocks; part < end; ++part) ++parts_[part].changes;
}

size_t AllocationCount::NextChanged() {
  for (size_t i = 0; i < parts_.size(); ++i) {
    // Each once, far apart: those that are counted first stand for the others.
    const size_t part = (next_ + i) % parts_.size() * kStride % parts_.size();
    if (parts_[part].counted_at == parts_[part].changes) continue;
    next_ = (next_ + i + 1) % parts_.size();
    return part;
  }
  return parts_.size();
}

void AllocationCount::Counted(size_t index, uint64_t changes, uint64_t allocated) {
  absl::MutexLock lock(&mutex_);
  Part& part = parts_[index];
  if (part.counted_at == 0) ++counted_;
  allocated_ += allocated - part.allocated;
  part.counted_at = changes;
  part.allocated = allocated;
}

uint64_t AllocationCount::Sum() const {
  absl::MutexLock lock(&mutex_);
  const size_t never = parts_.size() - counted_;
  if (counted_ == 0) return 0;
  const double of_a_part = static_cast<double>(allocated_) / static_cast<double>(counted_);
  return allocated_ + static_cast<uint64_t>(of_a_part * static_cast<double>(never));
}

absl::StatusOr<uint64_t> AllocationCount::Count(
    uint64_t size_blocks,
    const std::function<absl::StatusOr<uint64_t>(const BlockRange&)>&
        count_part) {
  uint64_t scanned = 0;
  // At most once each: what is written meanwhile is the next call's.
  for (size_t i = 0; scanned < kBlocksPerCall; ++i) {
    size_t part = 0;
    uint64_t changes = 0;
    {
      absl::MutexLock lock(&mutex_);
      parts_.resize(std::max<uint64_t>(parts_.size(), (size_blocks + kPartBlocks - 1) / kPartBlocks));
      part = NextChanged();
      if (part == parts_.size() || i == parts_.size()) break;
      changes = parts_[part].changes;
    }
    const uint64_t first = part * kPartBlocks;
    ASSIGN_OR_RETURN(const uint64_t allocated, count_part({first, std::min(kPartBlocks, size_blocks - first)}));
    Counted(part, changes, allocated);
    scanned += allocated + kBlocksPerPart;
  }
  return Sum();
}

}  // namespace weir::store
