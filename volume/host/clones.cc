// LocalHost's clones: volumes that read from a snapshot what they have nothing of.
//
//   clone:   the snapshot names the clone -> the clone's record and replicas -> it still does
//   delete:  the clone is gone -> the snapshot names it no more
//   flatten: the clone has all of it -> its record has no parent -> the snapshot names it no more
//
// So a snapshot may name a clone that is none, or reads from it no more, which is looked into when it is to be deleted, but never the other way
// round. The snapshot is changed only by the frontend that has its volume, or by any if none has.
#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "proto/base/errno.h"
#include "proto/base/log.h"
#include "proto/base/position.h"
#include "proto/base/status_macros.h"
#include "volume/engine/parent.h"
#include "volume/host/clone_record.h"
#include "volume/host/host.h"
#include "volume/host/local_host.h"
#include "volume/host/parent_reader.h"
#include "volume/host/provision.h"

namespace weir::host {
namespace {

// What one call of FlattenVolume looks at, and what it holds clients up for at a time.
constexpr uint64_t kFlattenCallBlocks = (64 << 20) / kBlockBytes;
constexpr uint64_t kFlattenStepBlocks = (1 << 20) / kBlockBytes;
// No name that a user could give.
constexpr char kOfClone[] = "~clone-";

absl::Status Outcome(const IoOutcome& outcome) {
  if (outcome.result.ok()) return absl::OkStatus();
  return ErrnoToStatus(outcome.result.error(), outcome.message);
}

}  // namespace

// By whoever may: on an attached volume through the one who has its record.
absl::Status LocalHost::ChangeRecord(
    const std::string& volume,
    const std::function<absl::StatusOr<v1::VolumeRecord>(v1::VolumeRecord)>& change) {
  bool attaching = false;
  const std::shared_ptr<Attached> attached = AttachedOrNull(volume, &attaching);
  if (attached != nullptr && !attached->runner->fenced()) {
    absl::Status refused;
    const absl::Status put = attached->Commit([&](v1::VolumeRecord record) {
      absl::StatusOr<v1::VolumeRecord> next = change(record);
      if (next.ok()) return *std::move(next);
      refused = next.status();
      return record;
    });
    RETURN_IF_ERROR(refused);
    return put;
  }
  ASSIGN_OR_RETURN(catalog::VersionedVolume read, catalog_->GetVolume(volume));
  RETURN_IF_ERROR(RefuseElsewhere(read.record, self_));
  ASSIGN_OR_RETURN(const v1::VolumeRecord next, change(read.record));
  return VolumeRecordHolder(catalog_.get(), std::move(read)).Commit(next);
}

absl::StatusOr<v1::Volume> LocalHost::CloneVolume(const v1::CloneVolumeRequest& request) {
  RETURN_IF_ERROR(CheckName("volume", request.name()));
  if (request.name() == request.source()) {
    return absl::InvalidArgumentError("a volume cannot be a clone of itself");
  }
  RETURN_IF_ERROR(catalog_->GetVolume(request.source()).status());
  // In the order of names, so that two calls never wait for each other.
  ASSIGN_OR_RETURN(const Exclusive first,
                   Exclusive::Take(this, std::min(request.name(), request.source())));
  ASSIGN_OR_RETURN(const Exclusive second,
                   Exclusive::Take(this, std::max(request.name(), request.source())));
  const std::string snapshot = request.snapshot().empty()
                                   ? absl::StrCat(kOfClone, request.name())
                                   : request.snapshot();
  ASSIGN_OR_RETURN(v1::VolumeRecord source, SettledRecordOf(request.source()));
  ASSIGN_OR_RETURN(const bool is_there, IsCloneOf(request, source, snapshot));
  if (!is_there) {
    if (request.snapshot().empty()) {
      RETURN_IF_ERROR(WithAttached(request.source(), [&](Attached& attached) {
        return TakeSnapshot(attached, snapshot, /*of_clone=*/true);
      }));
    }
    ASSIGN_OR_RETURN(const uint64_t id, NameClone(request, snapshot));
    RETURN_IF_ERROR(MakeClone(request, snapshot, id));
  }
  return GetVolume(request.name());
}

// ALREADY_EXISTS: the name is another volume's.
absl::StatusOr<bool> LocalHost::IsCloneOf(const v1::CloneVolumeRequest& request,
                                          const v1::VolumeRecord& source,
                                          const std::string& snapshot) {
  const absl::StatusOr<catalog::VersionedVolume> known = catalog_->GetVolume(request.name());
  if (absl::IsNotFound(known.status())) return false;
  RETURN_IF_ERROR(known.status());
  const v1::VolumeRecord& record = known->record;
  if (record.parent().volume_id() == source.id() && record.parent().snapshot() == snapshot &&
      record.state() != v1::VolumeRecord::DELETING) {
    return record.state() != v1::VolumeRecord::CREATING;
  }
  return absl::AlreadyExistsError(absl::StrCat("volume ", request.name(),
                                               " exists, and is no clone of ", request.source(),
                                               "; delete it or choose another name"));
}

absl::StatusOr<uint64_t> LocalHost::NameClone(const v1::CloneVolumeRequest& request,
                                              const std::string& snapshot) {
  uint64_t id = NewVolumeId();
  RETURN_IF_ERROR(ChangeRecord(
      request.source(), [&](v1::VolumeRecord record) -> absl::StatusOr<v1::VolumeRecord> {
        ASSIGN_OR_RETURN(id, host::NameClone(&record, snapshot, request.name(), id));
        return record;
      }));
  return id;
}

absl::Status LocalHost::MakeClone(const v1::CloneVolumeRequest& request,
                                  const std::string& snapshot_name, uint64_t id) {
  ASSIGN_OR_RETURN(const v1::VolumeRecord source, SettledRecordOf(request.source()));
  const v1::SnapshotRecord* snapshot = FindSnapshot(source, snapshot_name);
  if (snapshot == nullptr) return absl::AbortedError("the snapshot was deleted meanwhile");
  const v1::ParentRecord parent = AsParent(source, *snapshot);
  ASSIGN_OR_RETURN(const auto reader, ParentReader::Open(catalog_.get(), parent));
  if (reader->depth() > kCloneDepthMax) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "volume ", source.name(), " is a clone of a clone, ", kCloneDepthMax,
        " times; flatten it first: weirctl volume flatten ", source.name()));
  }
  v1::CreateVolumeRequest create;
  create.set_name(request.name());
  create.set_size_bytes(request.size_bytes() != 0 ? request.size_bytes() : snapshot->size_bytes());
  if (create.size_bytes() < snapshot->size_bytes()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a clone of ", snapshot->size_bytes(), " bytes cannot have ", create.size_bytes()));
  }
  create.set_lanes(source.lanes());
  create.set_stripe_bytes(source.stripe_blocks() * kBlockBytes);
  *create.mutable_replicas() = request.replicas();
  create.set_replica_count(request.replica_count());
  create.set_min_in_sync(request.min_in_sync());
  if (request.has_hold_deadline_s() || source.has_hold_deadline_s()) {
    create.set_hold_deadline_s(request.has_hold_deadline_s() ? request.hold_deadline_s() : source.hold_deadline_s());
  }
  *create.mutable_attributes() = request.attributes();
  if (create.replicas_size() == 0 && create.replica_count() == 0) {
    create.set_replica_count(static_cast<uint32_t>(source.members_size()));
    if (create.min_in_sync() == 0) create.set_min_in_sync(source.min_in_sync());
  }
  return provision_
      .Create(create, {.id = id, .parent = parent,
                       .still_wanted = [&]() -> absl::Status {
                         ASSIGN_OR_RETURN(const catalog::VersionedVolume now,
                                          catalog_->GetVolume(request.source()));
                         if (NamesClone(now.record, snapshot_name, request.name(), id)) return absl::OkStatus();
                         return absl::AbortedError("the snapshot was deleted meanwhile");
                       }})
      .status();
}

// Who reads from it; others were never made, are gone, or have all of it themselves.
absl::StatusOr<std::vector<std::string>> LocalHost::LiveClones(
    const v1::SnapshotRecord& snapshot) {
  std::vector<std::string> live;
  for (const v1::CloneRecord& clone : snapshot.clones()) {
    const auto record = catalog_->GetVolume(clone.volume());
    if (record.ok() && ReadsFrom(record->record, clone, snapshot)) live.push_back(clone.volume());
    if (!record.ok() && !absl::IsNotFound(record.status())) return record.status();
  }
  return live;
}

void LocalHost::ForgetClone(const v1::ParentRecord& parent, const std::string& clone) {
  absl::StatusOr<Exclusive> held = Exclusive::Take(this, parent.volume());
  absl::Status status = held.status();
  bool last = false;
  if (status.ok()) {
    status = ChangeRecord(
        parent.volume(), [&](v1::VolumeRecord record) -> absl::StatusOr<v1::VolumeRecord> {
          if (record.id() != parent.volume_id()) return record;
          last = host::ForgetClone(&record, parent.snapshot(), clone);
          return record;
        });
  }
  if (status.ok() && last) {
    status = WithAttached(parent.volume(), [&](Attached& attached) {
      return DropSnapshot(attached, parent.snapshot());
    });
  }
  if (!status.ok()) {
    LOG(WARNING) << "volume=" << clone << " was a clone of " << parent.volume() << "@"
                 << parent.snapshot() << ", which still names it: " << status
                 << "; that is found out later";
  }
}

absl::StatusOr<v1::FlattenVolumeResponse> LocalHost::FlattenVolume(
    const v1::FlattenVolumeRequest& request) {
  ASSIGN_OR_RETURN(const std::shared_ptr<Attached> attached, FindAttached(request.name()));
  VolumeRunner& runner = *attached->runner;
  const uint64_t size_blocks = runner.size_bytes() / kBlockBytes;
  v1::FlattenVolumeResponse response;
  response.set_size_bytes(runner.size_bytes());
  const v1::VolumeRecord record = attached->Record();
  uint64_t at = size_blocks;
  if (record.has_parent()) {
    if (!MayBeFlattened(record)) {
      return absl::FailedPreconditionError(absl::StrCat(
          "volume ", request.name(), " has snapshots, which read from its parent; delete them first"));
    }
    // None: all is copied, and only the catalog has not taken it.
    const std::shared_ptr<ParentReader> parent = runner.parent();
    if (parent != nullptr) at = std::min({at, request.from_bytes() / kBlockBytes, attached->CopiedTo()});
    const uint64_t end = std::min(size_blocks, at + kFlattenCallBlocks);
    RETURN_IF_ERROR(Carry(engine::Flatten({at, end - at}, kFlattenStepBlocks, /*last=*/end == size_blocks),
                          *attached, parent.get()));
    attached->HasCopied({at, end - at});
    at = end;
  }
  response.set_done(at == size_blocks);
  response.set_next_bytes(response.done() ? runner.size_bytes() : at * kBlockBytes);
  return response;
}

uint64_t LocalHost::Attached::CopiedTo() {
  absl::MutexLock lock(&seen_mu);
  return copied_to;
}

void LocalHost::Attached::HasCopied(BlockRange range) {
  absl::MutexLock lock(&seen_mu);
  if (range.first <= copied_to) copied_to = std::max(copied_to, range.end());
}

absl::Status LocalHost::Carry(engine::Flatten flatten, Attached& attached, ParentReader* parent) {
  using Act = engine::Flatten::Act;
  VolumeRunner& runner = *attached.runner;
  bool locked = false;
  const absl::Cleanup unlock = [&runner, &locked] {
    if (locked) runner.UnlockRange();
  };
  for (engine::Flatten::Step step = flatten.Next(); step.act != Act::kDone; step = flatten.Next()) {
    IoRequest request;
    request.offset_bytes = step.range.first * kBlockBytes;
    request.length_bytes = step.range.count * kBlockBytes;
    switch (step.act) {
      case Act::kReadParent: {
        ASSIGN_OR_RETURN(std::vector<engine::ParentBlock> blocks, parent->Read(step.range));
        flatten.ParentHas(std::move(blocks));
        break;
      }
      case Act::kLock:
        RETURN_IF_ERROR(runner.LockRange(step.range));
        locked = true;
        break;
      case Act::kReadOwn: {
        request.kind = engine::RequestKind::kRead;
        request.own_only = true;
        request.in_lock = true;  // or it waits behind a barrier that waits for the unlock
        const IoOutcome own = runner.SubmitAndWait(std::move(request));
        RETURN_IF_ERROR(Outcome(own));
        flatten.OwnLacks(own.absent);
        break;
      }
      case Act::kWrite:
        request.kind = engine::RequestKind::kWrite;
        request.in_lock = true;
        request.data = Payload::CopyOf(std::move(step.data));
        RETURN_IF_ERROR(Outcome(runner.SubmitAndWait(std::move(request))));
        break;
      case Act::kUnlock:
        runner.UnlockRange();
        locked = false;
        break;
      case Act::kFlush:
        request.kind = engine::RequestKind::kFlush;
        RETURN_IF_ERROR(Outcome(runner.SubmitAndWait(std::move(request))));
        break;
      case Act::kDropParent:
        RETURN_IF_ERROR(EndClone(attached));
        break;
      case Act::kDone:
        break;
    }
  }
  return absl::OkStatus();
}

// It has all that its parent has, durably, so it need not be asked any more, whatever the catalog says.
absl::Status LocalHost::EndClone(Attached& attached) {
  VolumeRunner& runner = *attached.runner;
  v1::ParentRecord parent;
  {
    // So that no snapshot comes in between.
    ASSIGN_OR_RETURN(const Exclusive held, Exclusive::Take(this, runner.name()));
    const v1::VolumeRecord record = attached.Record();
    if (!record.has_parent()) return absl::OkStatus();  // another call was faster
    parent = record.parent();
    if (!MayBeFlattened(record)) {
      return absl::FailedPreconditionError(absl::StrCat(
          "volume ", runner.name(), " has snapshots by now; delete them, then flatten it again"));
    }
    runner.DropParent();
    attached.IsFlat();
    RETURN_IF_ERROR(attached.Commit([](v1::VolumeRecord record) { return record; }));
  }
  LOG(INFO) << "volume=" << runner.name() << " is no clone of " << parent.volume() << " any more";
  ForgetClone(parent, runner.name());
  return absl::OkStatus();
}

void LocalHost::Attached::IsFlat() {
  absl::MutexLock lock(&mu);
  flat = true;
}

}  // namespace weir::host
