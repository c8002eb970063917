#include "volume/engine/answer_times.h"

#include <algorithm>
#include <bit>

namespace weir::engine {

void AnswerTimes::Add(absl::Duration time) {
  const auto microseconds = static_cast<uint64_t>(std::max<int64_t>(absl::ToInt64Microseconds(time), 0));
  const size_t bucket = std::bit_width(microseconds);
  ++buckets_[std::min(bucket, buckets_.size() - 1)];
  ++count_;
}

absl::Duration AnswerTimes::P99() const {
  if (count_ == 0) return absl::ZeroDuration();
  const uint64_t above = count_ / 100;  // so many may be longer
  uint64_t seen = 0;
  for (size_t bucket = buckets_.size(); bucket-- > 0;) {
    seen += buckets_[bucket];
    if (seen > above) return absl::Microseconds(uint64_t{1} << bucket);
  }
  return absl::ZeroDuration();
}

}  // namespace weir::engine
