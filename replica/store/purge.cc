#include "replica/store/purge.h"

#include <pthread.h>

#include "absl/strings/str_cat.h"
#include "proto/base/log.h"
#include "proto/base/status_macros.h"
#include "replica/store/keys.h"
#include "replica/store/rocks.h"

namespace weir::store {

Purge::Purge(std::vector<Domain*> domains) : domains_(std::move(domains)) {
  thread_ = std::thread([this] { Run(); });
}

Purge::~Purge() {
  stopping_.store(true);
  {
    absl::MutexLock lock(&mutex_);
    queue_.clear();
  }
  thread_.join();
}

void Purge::Add(VolumeId volume) {
  absl::MutexLock lock(&mutex_);
  if (pending_.insert(volume).second) queue_.push_back(volume);
}

absl::Status Purge::Wait(VolumeId volume) {
  absl::MutexLock lock(&mutex_);
  auto done = [this, volume]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return pending_.count(volume) == 0 || gave_up_;
  };
  mutex_.Await(absl::Condition(&done));
  if (pending_.count(volume) == 0) return absl::OkStatus();
  return absl::AbortedError(
      "an earlier volume of this id is still being deleted");
}

void Purge::Run() {
  pthread_setname_np(pthread_self(), "weir-purge");
  while (!stopping_.load()) {
    VolumeId volume{};
    {
      absl::MutexLock lock(&mutex_);
      auto work = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
        return stopping_.load() || !queue_.empty();
      };
      mutex_.Await(absl::Condition(&work));
      if (stopping_.load()) break;
      volume = queue_.front();
      queue_.pop_front();
    }
    absl::Status status = PurgeVolume(volume);
    absl::MutexLock lock(&mutex_);
    if (status.ok()) {
      pending_.erase(volume);
    } else if (!stopping_.load()) {
      LOG(WARNING) << "store volume=" << static_cast<uint64_t>(volume)
                   << " purge: " << status.message();
      gave_up_ = true;
    }
  }
  absl::MutexLock lock(&mutex_);
  gave_up_ = true;
}

absl::Status Purge::PurgeVolume(VolumeId volume) {
  for (Domain* domain : domains_) {
    for (Family family :
         {Family::kVersions, Family::kBlocks, Family::kChanges}) {
      RETURN_IF_ERROR(PurgeFamily(domain, family, volume));
    }
    RETURN_IF_ERROR(ForgetVolume(domain, volume));
    // A WAL stays until every family has written out what it has in it.
    RETURN_IF_ERROR(FromRocks(
        domain->db()->Flush(rocksdb::FlushOptions(), domain->family(Family::kMeta)),
        absl::StrCat("purge in ", domain->directory())));
  }
  return absl::OkStatus();
}

absl::Status Purge::PurgeFamily(Domain* domain, Family family,
                                VolumeId volume) {
  const std::string what = absl::StrCat("purge in ", domain->directory());
  const std::string begin = VolumePrefix(volume);
  const std::string end = VolumeEnd(volume);
  const rocksdb::Slice begin_slice(begin);
  const rocksdb::Slice end_slice(end);
  rocksdb::CompactRangeOptions options;
  options.exclusive_manual_compaction = false;
  // Every level is rewritten through the filter, the last one too.
  options.bottommost_level_compaction =
      rocksdb::BottommostLevelCompaction::kForce;
  options.canceled = &stopping_;
  RETURN_IF_ERROR(FromRocks(
      domain->db()->CompactRange(options, domain->family(family), &begin_slice,
                                 end.empty() ? nullptr : &end_slice),
      what));
  // What a compaction that began before the deletion still carried along.
  rocksdb::ReadOptions read;
  read.fill_cache = false;
  std::unique_ptr<rocksdb::Iterator> keys(
      domain->db()->NewIterator(read, domain->family(family)));
  for (keys->Seek(begin); keys->Valid() && keys->key().starts_with(begin);
       keys->Next()) {
    if (stopping_.load()) return absl::CancelledError(what);
    rocksdb::WriteBatch batch;
    RETURN_IF_ERROR(
        FromRocks(batch.Delete(domain->family(family), keys->key()), what));
    RETURN_IF_ERROR(domain->Write(&batch));
  }
  return FromRocks(keys->status(), what);
}

absl::Status Purge::ForgetVolume(Domain* domain, VolumeId volume) {
  rocksdb::WriteBatch batch;
  const std::string what = absl::StrCat("purge in ", domain->directory());
  std::unique_ptr<rocksdb::Iterator> keys(domain->db()->NewIterator(
      rocksdb::ReadOptions(), domain->family(Family::kMeta)));
  // A sync that ran beside the deletion may have left sync marks of the lanes.
  for (char letter : {'l', 'p', 's', 'd', 'k', 'j', 'm', 'n'}) {
    const std::string prefix = absl::StrCat(std::string(1, letter), VolumePrefix(volume));
    for (keys->Seek(prefix); keys->Valid() && keys->key().starts_with(prefix);
         keys->Next()) {
      RETURN_IF_ERROR(FromRocks(batch.Delete(keys->key()), what));
    }
    RETURN_IF_ERROR(FromRocks(keys->status(), what));
  }
  RETURN_IF_ERROR(FromRocks(batch.Delete(DeletedKey(volume)), what));
  RETURN_IF_ERROR(domain->Write(&batch));
  // Only after the record is surely gone may the id be used again: an old
  // record would delete the new volume.
  SyncResult synced = domain->Sync();
  RETURN_IF_ERROR(synced.status());
  domain->pins()->ForgetVolume(volume);
  return absl::OkStatus();
}

}  // namespace weir::store
