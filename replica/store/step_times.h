// How long the steps of one domain take: two looks at the clock and two additions each.
#ifndef WEIR_REPLICA_STORE_STEP_TIMES_H_
#define WEIR_REPLICA_STORE_STEP_TIMES_H_

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <chrono>
#include <cstdint>

#include "replica/store/domain_stats.h"

namespace weir::store {

// Thread-safety: safe, without a lock.
class StepTimes {
 public:
  void Add(Step step, std::chrono::nanoseconds took) {
    const auto nanoseconds = static_cast<uint64_t>(std::max<int64_t>(took.count(), 0));
    // Bound(i) is 10 us << i.
    const uint64_t tens = nanoseconds == 0 ? 0 : (nanoseconds - 1) / 10'000;
    const size_t bucket = std::min<size_t>(std::bit_width(tens), StepCounts::kBounds);
    Counts& counts = counts_[static_cast<size_t>(step)];
    counts.buckets[bucket].fetch_add(1, std::memory_order_relaxed);
    counts.nanoseconds.fetch_add(nanoseconds, std::memory_order_relaxed);
  }

  std::array<StepCounts, kSteps> Get() const {
    std::array<StepCounts, kSteps> out;
    for (size_t step = 0; step < kSteps; ++step) {
      for (size_t i = 0; i <= StepCounts::kBounds; ++i) {
        out[step].buckets[i] = counts_[step].buckets[i].load(std::memory_order_relaxed);
      }
      out[step].sum = absl::Nanoseconds(counts_[step].nanoseconds.load(std::memory_order_relaxed));
    }
    return out;
  }

 private:
  struct Counts {
    std::array<std::atomic<uint64_t>, StepCounts::kBounds + 1> buckets{};
    std::atomic<uint64_t> nanoseconds{0};
  };
  std::array<Counts, kSteps> counts_;
};

// From here to the end of its life is one `step`.
class StepTimer {
 public:
  StepTimer(StepTimes* times, Step step)
      : times_(times), step_(step), begun_(std::chrono::steady_clock::now()) {}
  ~StepTimer() { times_->Add(step_, std::chrono::steady_clock::now() - begun_); }
  StepTimer(const StepTimer&) = delete;
  StepTimer& operator=(const StepTimer&) = delete;

 private:
  StepTimes* const times_;
  const Step step_;
  const std::chrono::steady_clock::time_point begun_;
};

}  // namespace weir::store

#endif  // WEIR_REPLICA_STORE_STEP_TIMES_H_
