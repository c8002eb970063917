#include "replica/store/relief.h"

#include <pthread.h>

#include <algorithm>
#include <string>

#include "absl/time/clock.h"
#include "proto/base/log.h"
#include "replica/store/keys.h"

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
  wanted_.insert({domain, std::nullopt});
}

void Relief::Want(uint32_t domain, VolumeId volume) {
  absl::MutexLock lock(&mutex_);
  wanted_.insert({domain, volume});
}

void Relief::Run() {
  pthread_setname_np(pthread_self(), "weir-relief");
  const auto stopping = [this] { return stopping_.load(); };
  const auto work = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return stopping_.load() || !wanted_.empty();
  };
  std::pair<uint32_t, Part> next;
  while (!stopping_.load()) {
    {
      absl::MutexLock lock(&mutex_);
      mutex_.Await(absl::Condition(&work));
      if (stopping_.load()) return;
      // In turn, so that one that wants it all the time does not keep others waiting.
      const auto after = wanted_.upper_bound(next);
      next = after == wanted_.end() ? *wanted_.begin() : *after;
      // What is wanted from now on may be more than this run finds.
      if (next.second) wanted_.erase(next);
    }
    const absl::Time begun = absl::Now();
    Relieve(domains_[next.first], next.second);
    const absl::Duration took = absl::Now() - begun;
    absl::MutexLock lock(&mutex_);
    mutex_.AwaitWithTimeout(absl::Condition(&stopping), std::max(kRestMin, kRestFactor * took));
    // Who still has no space says so again.
    if (!next.second) wanted_.erase(next);
  }
}

void Relief::Relieve(Domain* domain, Part part) {
  if (!domain->health().ok()) return;
  const SyncResult synced = domain->Sync();
  if (!synced.ok()) return;  // It has failed, and said so.
  rocksdb::CompactRangeOptions options;
  options.exclusive_manual_compaction = false;
  options.bottommost_level_compaction = rocksdb::BottommostLevelCompaction::kForce;
  options.canceled = &stopping_;
  const std::string begin = part ? VolumePrefix(*part) : "";
  const std::string end = part ? VolumeEnd(*part) : "";
  const rocksdb::Slice begin_slice(begin), end_slice(end);
  // The meta family too, small as it is: a WAL stays until every family has
  // written out what it has in it.
  for (Family family :
       {Family::kVersions, Family::kBlocks, Family::kChanges, Family::kMeta}) {
    const bool whole = !part || family == Family::kMeta;
    const rocksdb::Status status =
        domain->db()->CompactRange(options, domain->family(family), whole ? nullptr : &begin_slice,
                                   whole || end.empty() ? nullptr : &end_slice);
    if (!status.ok() && !stopping_.load()) {
      LOG(WARNING) << "store directory=" << domain->directory()
                   << " cannot compact to make room: " << status.ToString();
      return;
    }
  }
}

}  // namespace weir::store
