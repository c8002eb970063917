// A question that may take long, such as whether the catalog answers, for many who ask it often.
//
// Thread-safety: safe. The question is asked on a caller's thread, by one at a time.
#ifndef WEIR_PROTO_MONITOR_SHARED_CHECK_H_
#define WEIR_PROTO_MONITOR_SHARED_CHECK_H_

#include <functional>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace weir::monitor {

class SharedCheck {
 public:
  struct Options {
    std::string whom;                                 // is asked: "the catalog", for people
    absl::Duration fresh = absl::Seconds(2);     // an answer is good for as long
    absl::Duration patience = absl::Seconds(2);  // a question that takes longer is an answer: UNAVAILABLE
  };
  SharedCheck(Options options, std::function<absl::Status()> ask);

  // Blocks if it is this caller that asks. Others hear the last answer (at first OK).
  absl::Status Get();

  // What is known without asking: the last answer, or that the question under way takes too long. Does not block.
  absl::Status Last();

 private:
  absl::Status LastLocked(absl::Time now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const Options options_;
  const std::function<absl::Status()> ask_;
  absl::Mutex mutex_;
  absl::Status last_ ABSL_GUARDED_BY(mutex_);
  absl::Time answered_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
  absl::Time asked_ ABSL_GUARDED_BY(mutex_) = absl::InfiniteFuture();  // by the question under way
};

}  // namespace weir::monitor

#endif  // WEIR_PROTO_MONITOR_SHARED_CHECK_H_
