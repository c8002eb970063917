#include "replica/server/workers.h"

#include <pthread.h>

#include <utility>

#include "absl/strings/str_cat.h"

namespace weir::replica {

void NameThisThread(const std::string& name) {
  pthread_setname_np(pthread_self(), name.substr(0, 15).c_str());
}

TaskQueue::TaskQueue(const std::string& name, int threads, size_t queued_max)
    : queued_max_(queued_max) {
  for (int i = 0; i < threads; ++i) {
    threads_.emplace_back([this, name] {
      NameThisThread(name);
      Loop();
    });
  }
}

bool TaskQueue::Run(std::function<void()> task) {
  absl::MutexLock lock(&mutex_);
  if (stopped_ || tasks_.size() >= queued_max_) return false;
  tasks_.push_back(std::move(task));
  return true;
}

void TaskQueue::Stop() {
  std::deque<std::function<void()>> dropped;  // destroyed without the lock
  {
    absl::MutexLock lock(&mutex_);
    stopped_ = true;
    dropped.swap(tasks_);
  }
  for (std::thread& thread : threads_) {
    if (thread.joinable()) thread.join();
  }
}

void TaskQueue::Loop() {
  const auto ready = [this]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
    return stopped_ || !tasks_.empty();
  };
  while (true) {
    std::function<void()> task;
    {
      absl::MutexLock lock(&mutex_);
      mutex_.Await(absl::Condition(&ready));
      if (stopped_) return;
      task = std::move(tasks_.front());
      tasks_.pop_front();
    }
    task();
  }
}

SyncWorker::SyncWorker(uint32_t domain, Sync sync, std::function<void()> after,
                       size_t waiting_max)
    : sync_(std::move(sync)), after_(std::move(after)), waiting_max_(waiting_max) {
  thread_ = std::thread([this, domain] {
    NameThisThread(absl::StrCat("sync-", domain));
    Loop();
  });
}

bool SyncWorker::Wait(VolumeId volume, Done done) {
  absl::MutexLock lock(&mutex_);
  if (stopped_ || waiting_count_ >= waiting_max_) return false;
  waiting_[volume].push_back(std::move(done));
  ++waiting_count_;
  return true;
}

void SyncWorker::Stop() {
  {
    absl::MutexLock lock(&mutex_);
    stopped_ = true;
  }
  if (thread_.joinable()) thread_.join();
}

void SyncWorker::Loop() {
  const auto ready = [this]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
    return stopped_ || !waiting_.empty();
  };
  while (true) {
    Waiting batch;
    {
      absl::MutexLock lock(&mutex_);
      mutex_.Await(absl::Condition(&ready));
      if (waiting_.empty()) return;
      batch.swap(waiting_);
      waiting_count_ = 0;
    }
    for (auto& [volume, waiters] : batch) {
      const Synced synced = sync_(volume);
      for (Done& done : waiters) done(synced);
    }
    after_();
  }
}

DelayLine::DelayLine() {
  thread_ = std::thread([this] {
    NameThisThread("delays");
    Loop();
  });
}

void DelayLine::After(absl::Duration delay, std::function<void()> then) {
  absl::MutexLock lock(&mutex_);
  if (stopped_) return;
  const auto added = waiting_.emplace(SteadyNow() + delay, std::move(then));
  if (added == waiting_.begin()) changed_.Signal();
}

void DelayLine::Stop() {
  std::multimap<absl::Duration, std::function<void()>> dropped;  // destroyed without the lock
  {
    absl::MutexLock lock(&mutex_);
    stopped_ = true;
    dropped.swap(waiting_);
    changed_.Signal();
  }
  if (thread_.joinable()) thread_.join();
}

void DelayLine::Loop() {
  while (true) {
    std::function<void()> then;
    {
      absl::MutexLock lock(&mutex_);
      while (!stopped_ && (waiting_.empty() || waiting_.begin()->first > SteadyNow())) {
        changed_.WaitFor(&mutex_, waiting_.empty() ? absl::InfiniteDuration() : waiting_.begin()->first - SteadyNow());
      }
      if (stopped_) return;
      then = std::move(waiting_.begin()->second);
      waiting_.erase(waiting_.begin());
    }
    then();
  }
}

}  // namespace weir::replica
