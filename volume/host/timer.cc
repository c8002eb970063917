#include "volume/host/timer.h"

#include <pthread.h>

#include <algorithm>
#include <utility>

#include "volume/host/clock.h"

namespace weir::host {

Timer::Timer() : thread_([this] { Loop(); }) {
  pthread_setname_np(thread_.native_handle(), "weir-timer");
}

Timer::~Timer() {
  {
    absl::MutexLock lock(&mu_);
    stop_ = true;
    changed_.Signal();
  }
  thread_.join();
}

bool Timer::Later(const Entry& a, const Entry& b) {
  return a.when != b.when ? a.when > b.when : a.order > b.order;
}

void Timer::At(engine::Time when, std::function<void()> run) {
  absl::MutexLock lock(&mu_);
  const bool earliest = heap_.empty() || when < heap_.front().when;
  heap_.push_back({when, orders_++, std::move(run)});
  std::push_heap(heap_.begin(), heap_.end(), Later);
  if (earliest) changed_.Signal();
}

void Timer::Loop() {
  absl::ReleasableMutexLock lock(&mu_);
  while (!stop_) {
    if (heap_.empty()) {
      changed_.Wait(&mu_);
      continue;
    }
    const absl::Duration left = heap_.front().when - MonotonicNow();
    if (left > absl::ZeroDuration()) {
      changed_.WaitFor(&mu_, left);
      continue;
    }
    std::pop_heap(heap_.begin(), heap_.end(), Later);
    std::function<void()> run = std::move(heap_.back().run);
    heap_.pop_back();
    mu_.Unlock();
    run();
    run = nullptr;  // what it captured may end here, also without the mutex
    mu_.Lock();
  }
}

}  // namespace weir::host
