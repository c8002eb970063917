#include "replica/store/relief.h"

#include <pthread.h>

#include <algorithm>

#include "absl/time/clock.h"
#include "proto/base/log.h"

namespace weir::store {

Relief::Relief(std::vector<Domain*> domains) : domains_(std::move(domains)) {
  thread_ = std::thread([this] { Run(); });
}

Relief::~Relief() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_.store(true);
  }
  thread_.join();
}

void Relief::Want(uint32_t domain) {
  absl::MutexLock lock(&mutex_);
  wanted_.insert(domain);
}

void Relief::Run() {
  pthread_setname_np(pthread_self(), "weir-relief");
  const auto stopping = [this] { return stopping_.load(); };
  const auto work = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return stopping_.load() || !wanted_.empty();
  };
  while (!stopping_.load()) {
    uint32_t domain = 0;
    {
      absl::MutexLock lock(&mutex_);
      mutex_.Await(absl::Condition(&work));
      if (stopping_.load()) return;
      domain = *wanted_.begin();
    }
    const absl::Time begun = absl::Now();
    Relieve(domains_[domain]);
    const absl::Duration took = absl::Now() - begun;
    absl::MutexLock lock(&mutex_);
    mutex_.AwaitWithTimeout(absl::Condition(&stopping), std::max(kRestMin, kRestFactor * took));
    // Who still wants it says so again.
    wanted_.erase(domain);
  }
}

void Relief::Relieve(Domain* domain) {
  if (!domain->health().ok()) return;
  const SyncResult synced = domain->Sync();
  if (!synced.ok()) return;  // It has failed, and said so.
  rocksdb::CompactRangeOptions options;
  options.exclusive_manual_compaction = false;
  options.bottommost_level_compaction = rocksdb::BottommostLevelCompaction::kForce;
  options.canceled = &stopping_;
  // The meta family too, small as it is: a WAL stays until every family has
  // written out what it has in it.
  for (Family family :
       {Family::kVersions, Family::kBlocks, Family::kChanges, Family::kMeta}) {
    const rocksdb::Status status =
        domain->db()->CompactRange(options, domain->family(family), nullptr, nullptr);
    if (!status.ok() && !stopping_.load()) {
      LOG(WARNING) << "store directory=" << domain->directory()
                   << " cannot compact to make room: " << status.ToString();
      return;
    }
  }
}

}  // namespace weir::store
