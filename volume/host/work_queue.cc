#include "volume/host/work_queue.h"

#include <pthread.h>

#include <utility>

namespace weir::host {

WorkQueue::WorkQueue(const std::string& name, int threads, size_t waiting_max)
    : waiting_max_(waiting_max) {
  for (int i = 0; i < threads; ++i) {
    threads_.emplace_back([this] { Loop(); });
    pthread_setname_np(threads_.back().native_handle(), name.c_str());
  }
}

WorkQueue::~WorkQueue() {
  {
    absl::MutexLock lock(&mu_);
    stop_ = true;
  }
  for (std::thread& thread : threads_) thread.join();
}

bool WorkQueue::Run(std::function<void()> work) {
  absl::MutexLock lock(&mu_);
  if (stop_ || work_.size() >= waiting_max_) return false;
  work_.push_back(std::move(work));
  return true;
}

void WorkQueue::Loop() {
  while (true) {
    std::function<void()> work;
    {
      absl::MutexLock lock(&mu_);
      mu_.Await(absl::Condition(this, &WorkQueue::ReadyLocked));
      if (work_.empty()) return;
      work = std::move(work_.front());
      work_.pop_front();
    }
    work();
  }
}

}  // namespace weir::host
