#include "replica/store/relief.h"

#include <pthread.h>

#include <algorithm>
#include <string>

#include "proto/base/log.h"
#include "proto/base/steady.h"
#include "replica/store/keys.h"

namespace weir::store {

Relief::Relief(std::vector<Domain*> domains) : domains_(std::move(domains)) {
  thread_ = std::thread([this] { Run(); });
}

Relief::~Relief() {
  {
    absl::MutexLock lock(&mutex_);
    stop_ = true;
    break_off_.store(true);
    changed_.SignalAll();
  }
  thread_.join();
}

void Relief::Want(uint32_t domain) {
  absl::MutexLock lock(&mutex_);
  wanted_.insert({domain, std::nullopt});
  changed_.SignalAll();
}

void Relief::Want(uint32_t domain, VolumeId volume) {
  absl::MutexLock lock(&mutex_);
  wanted_.insert({domain, volume});
  changed_.SignalAll();
}

void Relief::Run() {
  pthread_setname_np(pthread_self(), "weir-relief");
  std::pair<uint32_t, Part> next;
  for (;;) {
    {
      absl::MutexLock lock(&mutex_);
      while (!stop_ && wanted_.empty()) changed_.Wait(&mutex_);
      if (stop_) return;
      // In turn, so that one that wants it all the time does not keep others waiting.
      const auto after = wanted_.upper_bound(next);
      next = after == wanted_.end() ? *wanted_.begin() : *after;
      // What is wanted from now on may be more than this run finds.
      if (next.second) wanted_.erase(next);
    }
    const absl::Duration begun = SteadyNow();
    Relieve(domains_[next.first], next.second);
    const absl::Duration took = SteadyNow() - begun;
    absl::MutexLock lock(&mutex_);
    if (changed_.AwaitFor(&mutex_, std::max(kRestMin, kRestFactor * took), &stop_)) return;
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
  options.canceled = &break_off_;
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
    if (!status.ok() && !break_off_.load()) {
      LOG(WARNING) << "store directory=" << domain->directory()
                   << " cannot compact to make room: " << status.ToString();
      return;
    }
  }
}

}  // namespace weir::store
