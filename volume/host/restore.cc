// LocalHost's restoring of volumes, in the order that engine::Restoration says: what was written after a snapshot is written
// once more, as it was in that.
#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "proto/base/errno.h"
#include "proto/base/log.h"
#include "proto/base/position.h"
#include "proto/base/size.h"
#include "proto/base/status_macros.h"
#include "volume/engine/restoration.h"
#include "volume/host/host.h"
#include "volume/host/local_host.h"
#include "volume/host/parent_reader.h"
#include "volume/host/pinned_reader.h"

namespace weir::host {
namespace {

// For what was under way before the suspend.
constexpr absl::Duration kStartDeadline = absl::Seconds(30);
constexpr absl::Duration kEndDeadline = absl::Seconds(30);
constexpr uint64_t kStepBlocks = (1 << 20) / kBlockBytes;

// The record once it is being restored. NOT_FOUND: it has no such snapshot.
absl::StatusOr<v1::VolumeRecord> ToRestore(v1::VolumeRecord record, const std::string& snapshot) {
  if (FindSnapshot(record, snapshot) == nullptr) {
    return absl::NotFoundError(
        absl::StrCat("volume ", record.name(), " has no snapshot '", snapshot, "'"));
  }
  record.set_restoring(snapshot);
  return record;
}

absl::Status Submit(VolumeRunner& runner, IoRequest request) {
  request.in_lock = true;
  const IoOutcome outcome = runner.SubmitAndWait(std::move(request));
  if (outcome.result.ok()) return absl::OkStatus();
  return ErrnoToStatus(outcome.result.error(), outcome.message);
}

// Blocks `range`: `blocks` of it have data, all others are zeros.
absl::Status WriteBack(VolumeRunner& runner, BlockRange range,
                       const std::vector<PinnedReader::Block>& blocks) {
  auto next = blocks.begin();
  for (uint64_t at = range.first; at < range.end();) {
    IoRequest request;
    request.offset_bytes = at * kBlockBytes;
    if (next != blocks.end() && next->block == at) {
      request.kind = engine::RequestKind::kWrite;
      std::string data;
      for (; next != blocks.end() && next->block == at; ++next, ++at) data += next->data;
      request.length_bytes = data.size();
      request.data = Payload::CopyOf(std::move(data));
    } else {
      request.kind = engine::RequestKind::kWriteZeroes;
      const uint64_t end = next == blocks.end() ? range.end() : next->block;
      request.length_bytes = (end - at) * kBlockBytes;
      at = end;
    }
    RETURN_IF_ERROR(Submit(runner, std::move(request)));
  }
  return absl::OkStatus();
}

}  // namespace

class LocalHost::Restoring {
 public:
  Restoring(LocalHost* host, const std::string& name, const std::string& snapshot) : host_(host), name_(name) {
    absl::MutexLock lock(&host_->mu_);
    host_->entries_[name_].restoring = snapshot;
  }
  ~Restoring() {
    absl::MutexLock lock(&host_->mu_);
    host_->entries_[name_].restoring.clear();
    // Clones that ended meanwhile could not say so: their snapshots are to be looked at now.
    host_->leftovers_not_before_.erase(name_);
  }
  Restoring(const Restoring&) = delete;
  Restoring& operator=(const Restoring&) = delete;

 private:
  LocalHost* const host_;
  const std::string name_;
};

absl::Status LocalHost::RefuseRestoringHere(Attached& attached) {
  RETURN_IF_ERROR(RefuseRestoring(attached.Record()));
  if (attached.runner->View().state != engine::EngineView::State::kRestoring) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      "a restore of volume ", attached.runner->name(), " was begun, and perhaps the catalog has that; "
      "restore it again, or detach it"));
}

absl::StatusOr<v1::RestoreVolumeResponse> LocalHost::RestoreVolume(
    const v1::RestoreVolumeRequest& request) {
  const std::string& name = request.name();
  RETURN_IF_ERROR(catalog_->GetVolume(name).status());
  ASSIGN_OR_RETURN(const Exclusive held, Exclusive::Take(this, name));
  ASSIGN_OR_RETURN(const v1::VolumeRecord record, SettledRecordOf(name));
  RETURN_IF_ERROR(ToRestore(record, request.snapshot()).status());
  const Restoring restoring(this, name, request.snapshot());
  bool attaching = false;
  const std::shared_ptr<Attached> attached = AttachedOrNull(name, &attaching);
  v1::RestoreVolumeResponse response;
  if (attached != nullptr && !attached->runner->fenced()) {
    RETURN_IF_ERROR(RestoreSuspended(attached, request.snapshot(), &response));
  } else {
    RETURN_IF_ERROR(RestoreDetached(name, request.snapshot(), &response));
  }
  LOG(INFO) << "volume=" << name << " was restored from snapshot=" << request.snapshot() << ", "
            << FormatSize(response.restored_bytes()) << " were written since";
  return response;
}

// The engine lets no client in from before the record says so until after it says so no more. So none is served whose
// writes a restore that the record calls for would undo, not even while it is not known what the catalog has.
absl::Status LocalHost::RestoreSuspended(const std::shared_ptr<Attached>& attached, const std::string& snapshot,
                                         v1::RestoreVolumeResponse* response) {
  VolumeRunner& runner = *attached->runner;
  if (attached->detach_in_doubt) {
    return absl::FailedPreconditionError(absl::StrCat(
        "volume ", runner.name(), " is suspended by a detach that is in doubt; detach it again, then restore it"));
  }
  const absl::Status status =
      CarryOut(attached, snapshot, engine::Restoration(engine::Restoration::Held::kSuspended, /*marked=*/false), response);
  if (status.ok() || runner.fenced() || runner.View().state != engine::EngineView::State::kRestoring) return status;
  return absl::Status(status.code(), absl::StrCat(
      status.message(), "; volume ", runner.name(), " stays suspended until it is restored: weirctl volume restore ",
      runner.name(), "@", snapshot, " begins anew, also after a detach"));
}

absl::Status LocalHost::ShutToRestore(const std::shared_ptr<Attached>& attached) {
  VolumeRunner& runner = *attached->runner;
  // A member's place is given away under a suspend, too, which is nobody's to restore in.
  const MembersTurn turn(attached);
  const engine::EngineView::State state = runner.View().state;
  if (state != engine::EngineView::State::kSuspended && state != engine::EngineView::State::kRestoring) {
    return absl::FailedPreconditionError(absl::StrCat(
        "volume ", runner.name(), " is attached and not suspended; suspend it, so that its clients wait, or "
        "detach it, then restore it"));
  }
  const absl::Status started = runner.StartRestore(kStartDeadline);
  if (started.ok()) return started;
  return absl::Status(started.code(), absl::StrCat("volume ", runner.name(), " cannot be restored now: ", started.message()));
}

absl::Status LocalHost::CarryOut(const std::shared_ptr<Attached>& attached, const std::string& snapshot,
                                 engine::Restoration restoration, v1::RestoreVolumeResponse* response) {
  using Act = engine::Restoration::Act;
  VolumeRunner& runner = *attached->runner;
  const auto mark = [&](const std::string& restoring) {
    const absl::Status committed = attached->Commit([&](v1::VolumeRecord record) {
      record.set_restoring(restoring);
      return record;
    });
    // Another frontend has it, which this one may find out by nothing else.
    if (absl::IsAborted(committed)) runner.Stop(std::string(committed.message()));
    return committed;
  };
  for (;;) {
    absl::Status done;
    switch (restoration.Next(runner.View())) {
      case Act::kShut:
        done = ShutToRestore(attached);
        break;
      case Act::kMark:
        done = mark(snapshot);
        break;
      case Act::kCopy:
        done = CopyBack(*attached, snapshot, response);
        break;
      case Act::kUnmark:
        done = mark("");
        break;
      case Act::kTell:
        done = attached->TellNow();
        break;
      case Act::kOpen:
        done = runner.EndRestore(kEndDeadline);
        break;
      case Act::kGiveUp:
        return absl::UnavailableError("its replicas come and go; restore it again once they stay");
      case Act::kLetGo:  // the caller does, also of what has failed
      case Act::kDone:
        return absl::OkStatus();
    }
    RETURN_IF_ERROR(done);
  }
}

absl::Status LocalHost::RestoreDetached(const std::string& name, const std::string& snapshot,
                                        v1::RestoreVolumeResponse* response) {
  ASSIGN_OR_RETURN(const catalog::VersionedVolume read, catalog_->GetVolume(name));
  RETURN_IF_ERROR(ToRestore(read.record, snapshot).status());
  // Once it is marked nothing else can be done with it: not by a frontend that cannot restore it.
  RETURN_IF_ERROR(RefuseToAttach(read.record));
  // Whoever restores it, and lives, is taken over from by the same call alone.
  if (read.record.restoring() != snapshot) RETURN_IF_ERROR(RefuseElsewhere(read.record, self_));
  // Else it was cut short, by the end of another frontend perhaps.
  if (read.record.restoring().empty()) {
    RETURN_IF_ERROR(ChangeRecord(name, [&](v1::VolumeRecord record) { return ToRestore(std::move(record), snapshot); }));
  }
  ASSIGN_OR_RETURN(const std::shared_ptr<Attached> attached,
                   AttachAnew(name, AttachMode::kRestore));
  absl::Status status = ToRestore(attached->Record(), snapshot).status();
  const bool marked = attached->Record().restoring() == snapshot;
  if (status.ok()) status = CarryOut(attached, snapshot, engine::Restoration(engine::Restoration::Held::kAttached, marked), response);
  // A member's place may just be given away, under a suspend.
  const MembersTurn turn(attached);
  const absl::Status detached = DetachHeld(*attached, Clients::kEnd, /*force=*/!status.ok(), kEndDeadline);
  if (detached.ok()) Drop(name);
  RETURN_IF_ERROR(status);
  return detached;
}

absl::Status LocalHost::CopyBack(Attached& attached, const std::string& name, v1::RestoreVolumeResponse* response) {
  const v1::VolumeRecord record = attached.Record();
  if (record.restoring() != name) return absl::AbortedError("another frontend has begun another restore meanwhile");
  const v1::SnapshotRecord* snapshot = FindSnapshot(record, name);
  if (snapshot == nullptr) return absl::AbortedError("the snapshot was deleted meanwhile");
  ASSIGN_OR_RETURN(const auto content,
                   ParentReader::Open(catalog_.get(), AsParent(record, *snapshot)));
  PinnedReader changes(catalog_.get(), record, snapshot->pin().id());
  uint64_t blocks = 0;
  RETURN_IF_ERROR(changes.ForEachChange([&](BlockRange range) -> absl::Status {
    blocks += range.count;
    while (range.count > 0) {
      if (stopping()) return absl::UnavailableError("this frontend is shutting down");
      const BlockRange part{range.first, std::min(range.count, kStepBlocks)};
      ASSIGN_OR_RETURN(const std::vector<PinnedReader::Block> was, content->Read(part));
      RETURN_IF_ERROR(WriteBack(*attached.runner, part, was));
      range = {part.end(), range.count - part.count};
    }
    return absl::OkStatus();
  }));
  response->set_restored_bytes(blocks * kBlockBytes);
  IoRequest flush;
  flush.kind = engine::RequestKind::kFlush;
  return Submit(*attached.runner, flush);
}

}  // namespace weir::host
