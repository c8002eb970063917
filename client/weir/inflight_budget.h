// How many bytes a volume handle may have unanswered.
#ifndef WEIR_CLIENT_WEIR_INFLIGHT_BUDGET_H_
#define WEIR_CLIENT_WEIR_INFLIGHT_BUDGET_H_

#include <cstdint>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace weir {

// Thread-safety: safe. What is larger than the whole budget runs alone.
// Waiters are served as bytes come free, not in order of arrival.
class InflightBudget {
 public:
  explicit InflightBudget(uint64_t bytes_max) : bytes_max_(bytes_max) {}

  // Blocks until `bytes` fit.
  void Acquire(uint64_t bytes) {
    absl::MutexLock lock(&mutex_);
    auto fits = [this, bytes]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return used_ == 0 || used_ + bytes <= bytes_max_;
    };
    mutex_.Await(absl::Condition(&fits));
    used_ += bytes;
  }

  // For a caller that must not block: goes above the limit if need be.
  void AcquireNow(uint64_t bytes) {
    absl::MutexLock lock(&mutex_);
    used_ += bytes;
  }

  void Release(uint64_t bytes) {
    absl::MutexLock lock(&mutex_);
    used_ -= bytes;
  }

 private:
  const uint64_t bytes_max_;
  absl::Mutex mutex_;
  uint64_t used_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace weir

#endif  // WEIR_CLIENT_WEIR_INFLIGHT_BUDGET_H_
