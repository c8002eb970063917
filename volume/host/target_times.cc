#include "volume/host/target_times.h"

#include <algorithm>
#include <utility>

#include "proto/base/check.h"

namespace weir::host {
namespace {

void Count(absl::Duration took, TargetTimes::Stage* stage) {
  size_t bucket = 0;
  while (bucket < TargetTimes::kBounds && took > TargetTimes::Bound(bucket)) ++bucket;
  ++stage->buckets[bucket];
  stage->sum += took;
}

}  // namespace

CloneTimes CloneTimes::Of(engine::Time queued, engine::Time handed, engine::Time answered, uint64_t store_us) {
  CloneTimes times;
  times.told = store_us != 0;
  const absl::Duration send = std::max(handed - queued, absl::ZeroDuration());
  times.stages[static_cast<size_t>(CloneStage::kSend)] = send;
  if (!times.told) return times;
  const absl::Duration rest = std::max(answered - queued - send, absl::ZeroDuration());
  const absl::Duration store = std::min(absl::Microseconds(store_us), rest);
  times.stages[static_cast<size_t>(CloneStage::kStore)] = store;
  times.stages[static_cast<size_t>(CloneStage::kWire)] = rest - store;
  return times;
}

void TargetTimes::Began(engine::Time now) {
  absl::MutexLock lock(&mu_);
  if (busy_sessions_++ == 0) busy_since_ = now;
}

void TargetTimes::Ended(engine::Time now) {
  absl::MutexLock lock(&mu_);
  CHECK(busy_sessions_ > 0);
  if (--busy_sessions_ == 0) counts_.busy += std::max(now - busy_since_, absl::ZeroDuration());
}

void TargetTimes::Add(absl::Span<const CloneTimes> answered) {
  absl::MutexLock lock(&mu_);
  for (const CloneTimes& times : answered) {
    Count(times[CloneStage::kSend], &counts_.stages[static_cast<size_t>(CloneStage::kSend)]);
    if (!times.told) continue;
    Count(times[CloneStage::kStore], &counts_.stages[static_cast<size_t>(CloneStage::kStore)]);
    Count(times[CloneStage::kWire], &counts_.stages[static_cast<size_t>(CloneStage::kWire)]);
  }
}

TargetTimes::Counts TargetTimes::Read(engine::Time now) {
  absl::MutexLock lock(&mu_);
  if (busy_sessions_ > 0 && now > busy_since_) counts_.busy += now - std::exchange(busy_since_, now);
  return counts_;
}

}  // namespace weir::host
