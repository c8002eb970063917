// A few threads for work that blocks, so that gRPC's threads do not.
//
// Thread-safety: safe.
#ifndef WEIR_VOLUME_HOST_WORK_QUEUE_H_
#define WEIR_VOLUME_HOST_WORK_QUEUE_H_

#include <cstddef>
#include <deque>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace weir::host {

class WorkQueue {
 public:
  // `name`: of its threads, at most 15 characters.
  WorkQueue(const std::string& name, int threads, size_t waiting_max);
  // Does all that was accepted, then joins.
  ~WorkQueue();
  WorkQueue(const WorkQueue&) = delete;
  WorkQueue& operator=(const WorkQueue&) = delete;

  // False: `waiting_max` pieces of work wait already; nothing was accepted.
  [[nodiscard]] bool Run(std::function<void()> work);

 private:
  void Loop();
  bool ReadyLocked() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    return stop_ || !work_.empty();
  }

  const size_t waiting_max_;
  absl::Mutex mu_;
  std::deque<std::function<void()>> work_ ABSL_GUARDED_BY(mu_);
  bool stop_ ABSL_GUARDED_BY(mu_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace weir::host

#endif  // WEIR_VOLUME_HOST_WORK_QUEUE_H_
