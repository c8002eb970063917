// How long a target takes to answer, coarsely.
#ifndef WEIR_VOLUME_ENGINE_ANSWER_TIMES_H_
#define WEIR_VOLUME_ENGINE_ANSWER_TIMES_H_

#include <array>
#include <cstdint>

#include "absl/time/time.h"

namespace weir::engine {

// A histogram with a bucket for each power of two of microseconds, so within a factor of
// two. Thread-safety: none.
class AnswerTimes {
 public:
  void Add(absl::Duration time);
  uint64_t count() const { return count_; }
  // What 99 in 100 times are at most; 0 if there are none.
  absl::Duration P99() const;

 private:
  std::array<uint64_t, 40> buckets_{};  // up to six days
  uint64_t count_ = 0;
};

}  // namespace weir::engine

#endif  // WEIR_VOLUME_ENGINE_ANSWER_TIMES_H_
