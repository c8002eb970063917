#include "volume/host/record_teller.h"

#include <cerrno>

#include "absl/strings/str_cat.h"
#include "proto/base/errno.h"
#include "proto/base/log.h"
#include "volume/host/clock.h"
#include "volume/host/replica_client.h"
#include "volume/host/volume_record.h"

namespace weir::host {
namespace {

constexpr absl::Duration kTellDeadline = absl::Seconds(1);
constexpr absl::Duration kTellAgainAfter = absl::Seconds(1);

}  // namespace

void RecordTeller::Tell(const v1::VolumeRecord& record, uint64_t revision) {
  {
    absl::MutexLock lock(&mu_);
    next_ = Copy{record, revision};
    if (running_) return;
    running_ = true;
  }
  Enqueue();
}

void RecordTeller::Enqueue() {
  const std::shared_ptr<WorkQueue> queue = queue_.lock();
  const bool accepted = queue != nullptr && queue->Run([weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->Run();
  });
  if (accepted) return;
  // So many volumes wait, or the host is being destroyed: the next change brings another copy.
  absl::MutexLock lock(&mu_);
  running_ = false;
}

void RecordTeller::Run() {
  Copy copy;
  {
    absl::MutexLock lock(&mu_);
    copy = *std::exchange(next_, std::nullopt);
  }
  const bool told = !TellAll(copy.record, copy.revision).later;
  absl::MutexLock lock(&mu_);
  if (told && !next_) {
    running_ = false;
    return;
  }
  const absl::Duration pause = told ? absl::ZeroDuration() : kTellAgainAfter;
  if (!next_) next_ = std::move(copy);
  timer_->At(MonotonicNow() + pause, [weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->Enqueue();
  });
}

RecordTeller::Told RecordTeller::TellAll(const v1::VolumeRecord& record, uint64_t revision) const {
  Told told;
  told.error = absl::UnavailableError("no member is in sync");
  for (const v1::Member& member : record.members()) {
    if (!member.in_sync()) continue;
    v1::KeepRecordRequest keep = CopyOf(record, revision, record.epoch());
    keep.mutable_fence()->set_cluster_id(cluster_id_);
    keep.mutable_fence()->set_store_id(member.store_id());
    const absl::Status status =
        ReplicaClient(member.replica(), member.address()).KeepRecord(keep, kTellDeadline);
    // An older replica keeps no copies.
    if (status.ok() || absl::IsUnimplemented(status)) {
      told.some = true;
      continue;
    }
    // Who was taken from tells nobody any more.
    const bool taken = StatusToErrno(status) == ESTALE;
    told.later |= !taken;
    if (!absl::IsAborted(told.error)) told.error = taken ? absl::AbortedError(status.message()) : status;
  }
  return told;
}

absl::Status RecordTeller::TellNow(const v1::VolumeRecord& record, uint64_t revision) const {
  const Told told = TellAll(record, revision);
  if (absl::IsAborted(told.error)) return told.error;
  if (told.some) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat("no replica takes a copy of the record: ", told.error.message()));
}

}  // namespace weir::host
