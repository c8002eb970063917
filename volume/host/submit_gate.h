// What a stream that is being replaced must pass to submit a request, so that
// nothing of it comes after what its successor does.
#ifndef WEIR_VOLUME_HOST_SUBMIT_GATE_H_
#define WEIR_VOLUME_HOST_SUBMIT_GATE_H_

#include <cstdint>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace weir::host {

// Thread-safety: safe. Open until Close, and then closed for good. One thread
// may be inside more than once: a Submit may run another request's callback.
class SubmitGate {
 public:
  // False: closed. Else Leave must follow.
  [[nodiscard]] bool Enter() {
    absl::MutexLock lock(&mu_);
    if (closed_) return false;
    ++inside_;
    return true;
  }
  void Leave() {
    absl::MutexLock lock(&mu_);
    --inside_;
  }
  // Returns once all who are inside have left. REQUIRES: the caller is not.
  void Close() {
    absl::MutexLock lock(&mu_);
    closed_ = true;
    const auto empty = [this] {
      mu_.AssertHeld();
      return inside_ == 0;
    };
    mu_.Await(absl::Condition(&empty));
  }

 private:
  absl::Mutex mu_;
  uint64_t inside_ ABSL_GUARDED_BY(mu_) = 0;
  bool closed_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace weir::host

#endif  // WEIR_VOLUME_HOST_SUBMIT_GATE_H_
