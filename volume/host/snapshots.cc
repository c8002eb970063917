// LocalHost's snapshots: a pin on every member, then the catalog's record.
//
//   create: the engine sets the pin on every member -> the record names it
//   delete: the record names it no more             -> the engine drops the pin
//
// So the record never names a pin that a member lacks. A pin that it does not name, since a frontend has died in
// between or the catalog's answer was lost, goes with the next takeover.
#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "proto/base/log.h"
#include "proto/base/position.h"
#include "proto/base/size.h"
#include "proto/base/status_macros.h"
#include "volume/host/clock.h"
#include "volume/host/clone_record.h"
#include "volume/host/explain.h"
#include "volume/host/host.h"
#include "volume/host/local_host.h"
#include "volume/host/parent_reader.h"
#include "volume/host/pinned_reader.h"
#include "volume/host/provision.h"

namespace weir::host {
namespace {

// For the turn of a snapshot among the requests that wait.
constexpr absl::Duration kTurnDeadline = absl::Seconds(20);
constexpr absl::Duration kDetachDeadline = absl::Seconds(10);
constexpr absl::Duration kAskDeadline = absl::Seconds(1);
// What compaction has not come to is always some.
constexpr uint64_t kWorthTellingBytes = 4 << 20;

v1::Snapshot DescribeSnapshot(const v1::VolumeRecord& record, const v1::SnapshotRecord& snapshot) {
  v1::Snapshot described;
  described.set_volume(record.name());
  described.set_name(snapshot.name());
  described.set_size_bytes(snapshot.size_bytes());
  described.set_created_unix_ms(snapshot.created_unix_ms());
  described.set_id(snapshot.pin().id());
  *described.mutable_positions() = snapshot.pin().positions();
  for (const v1::CloneRecord& clone : snapshot.clones()) described.add_clones(clone.volume());
  return described;
}

absl::StatusOr<v1::SnapshotRecord> Named(const v1::VolumeRecord& record, const std::string& name) {
  const v1::SnapshotRecord* found = FindSnapshot(record, name);
  if (found != nullptr) return *found;
  return absl::NotFoundError(
      absl::StrCat("volume ", record.name(), " has no snapshot '", name.substr(0, 80), "'"));
}

}  // namespace

// Not the catalog's: an earlier change of ours may have come through there unknown to us, and the
// next one then takes its place.
absl::StatusOr<v1::VolumeRecord> LocalHost::SettledRecordOf(const std::string& volume) {
  bool attaching = false;
  const std::shared_ptr<Attached> attached = AttachedOrNull(volume, &attaching);
  if (attached != nullptr && !attached->runner->fenced()) return attached->Record();
  ASSIGN_OR_RETURN(catalog::VersionedVolume read, catalog_->GetVolume(volume));
  return std::move(read.record);
}

absl::Status LocalHost::WithAttached(const std::string& volume,
                                     const std::function<absl::Status(Attached&)>& work) {
  bool attaching = false;
  std::shared_ptr<Attached> attached = AttachedOrNull(volume, &attaching);
  if (attached != nullptr && !attached->runner->fenced()) {
    RETURN_IF_ERROR(RefuseRestoringHere(*attached));
    return work(*attached);
  }
  ASSIGN_OR_RETURN(attached, AttachAnew(volume, AttachMode::kUnlessElsewhere));
  const absl::Status status = work(*attached);
  const absl::Status detached = DetachHeld(*attached, Clients::kGoOn, /*force=*/false, kDetachDeadline);
  if (detached.ok()) {
    Drop(volume);
  } else {
    LOG(WARNING) << "volume=" << volume << " stays attached: " << detached;
  }
  return status;
}

absl::StatusOr<v1::Snapshot> LocalHost::CreateSnapshot(const std::string& volume,
                                                       const std::string& name) {
  RETURN_IF_ERROR(CheckName("snapshot", name));
  RETURN_IF_ERROR(catalog_->GetVolume(volume).status());
  ASSIGN_OR_RETURN(const Exclusive held, Exclusive::Take(this, volume));
  ASSIGN_OR_RETURN(v1::VolumeRecord record, SettledRecordOf(volume));
  if (const v1::SnapshotRecord* known = FindSnapshot(record, name)) return DescribeSnapshot(record, *known);
  RETURN_IF_ERROR(WithAttached(volume, [&](Attached& attached) -> absl::Status {
    RETURN_IF_ERROR(TakeSnapshot(attached, name, /*of_clone=*/false));
    record = attached.Record();
    return absl::OkStatus();
  }));
  ASSIGN_OR_RETURN(const v1::SnapshotRecord taken, Named(record, name));
  return DescribeSnapshot(record, taken);
}

absl::Status LocalHost::TakeSnapshot(Attached& attached, const std::string& name,
                                     bool of_clone) {
  VolumeRunner& runner = *attached.runner;
  if (FindSnapshot(attached.Record(), name) != nullptr) return absl::OkStatus();
  if (runner.View().state == engine::EngineView::State::kSuspended) {
    return absl::FailedPreconditionError(
        absl::StrCat("volume ", runner.name(), " is suspended; resume it, then take the snapshot"));
  }
  const engine::Time start = MonotonicNow();
  ASSIGN_OR_RETURN(const Pin pin, runner.SetPin(NewVolumeId(), kTurnDeadline));
  v1::SnapshotRecord snapshot;
  snapshot.set_name(name);
  PinToProto(pin, snapshot.mutable_pin());
  snapshot.set_created_unix_ms(absl::ToUnixMillis(absl::Now()));
  const absl::Status committed = attached.Commit([&](v1::VolumeRecord record) {
    snapshot.set_size_bytes(record.size_bytes());
    snapshot.set_of_clone(of_clone);
    TakeParent(record, &snapshot);
    return WithSnapshot(std::move(record), snapshot);
  });
  if (!committed.ok()) {
    // Perhaps the catalog has it all the same, so the pin stays. Once a later change has come through
    // it is known not to be there.
    absl::MutexLock lock(&attached.seen_mu);
    attached.doubtful_pins.push_back(pin.id);
    return committed;
  }
  attached.DropDoubtfulPins();
  LOG(INFO) << "volume=" << runner.name() << " epoch=" << runner.epoch() << " snapshot=" << name
            << " taken in "
            << absl::FormatDuration(absl::Trunc(MonotonicNow() - start, absl::Milliseconds(1)));
  return absl::OkStatus();
}

void LocalHost::Attached::DropDoubtfulPins() {
  std::vector<uint64_t> pins;
  {
    absl::MutexLock lock(&seen_mu);
    pins = std::exchange(doubtful_pins, {});
    // One that has come through after all is a snapshot like any other.
    for (const Pin& pin : PinsOf(seen)) std::erase(pins, pin.id);
  }
  for (uint64_t pin : pins) runner->DropPin(pin);
}

absl::StatusOr<std::vector<v1::Snapshot>> LocalHost::ListSnapshots(const std::string& volume) {
  std::vector<v1::VolumeRecord> records;
  if (volume.empty()) {
    ASSIGN_OR_RETURN(const std::vector<catalog::VersionedVolume> all, catalog_->ListVolumes());
    for (const catalog::VersionedVolume& one : all) records.push_back(one.record);
  } else {
    ASSIGN_OR_RETURN(records.emplace_back(), SettledRecordOf(volume));
  }
  std::vector<v1::Snapshot> snapshots;
  for (const v1::VolumeRecord& record : records) {
    for (const v1::SnapshotRecord& snapshot : record.snapshots()) {
      if (!snapshot.of_clone()) snapshots.push_back(DescribeSnapshot(record, snapshot));
    }
  }
  return snapshots;
}

absl::StatusOr<v1::Snapshot> LocalHost::GetSnapshot(const std::string& volume,
                                                    const std::string& name) {
  ASSIGN_OR_RETURN(const v1::VolumeRecord record, SettledRecordOf(volume));
  ASSIGN_OR_RETURN(const v1::SnapshotRecord snapshot, Named(record, name));
  v1::Snapshot described = DescribeSnapshot(record, snapshot);
  PinnedReader reader(catalog_.get(), record, snapshot.pin().id());
  ASSIGN_OR_RETURN(const PinnedReader::Use use, reader.GetUse());
  described.set_changed_bytes(use.changed * kBlockBytes);
  if (use.kept) {
    described.set_kept_bytes(*use.kept * kBlockBytes);
    described.set_own_bytes(use.own * kBlockBytes);
  }
  return described;
}

absl::Status LocalHost::DeleteSnapshot(const std::string& volume, const std::string& name) {
  RETURN_IF_ERROR(catalog_->GetVolume(volume).status());
  ASSIGN_OR_RETURN(const Exclusive held, Exclusive::Take(this, volume));
  ASSIGN_OR_RETURN(const v1::VolumeRecord record, SettledRecordOf(volume));
  RETURN_IF_ERROR(Named(record, name).status());
  return WithAttached(volume, [&](Attached& attached) -> absl::Status {
    RETURN_IF_ERROR(MarkDeleting(attached, name));
    return DropSnapshot(attached, name);
  });
}

// Once it is marked no clone is made of it any more, so who is not there by then will not be.
absl::Status LocalHost::MarkDeleting(Attached& attached, const std::string& name) {
  ASSIGN_OR_RETURN(v1::SnapshotRecord snapshot, Named(attached.Record(), name));
  if (snapshot.clones().empty()) return absl::OkStatus();
  const auto mark = [&](bool deleting) {
    return attached.Commit([&](v1::VolumeRecord record) {
      SetDeleting(&record, name, deleting);
      return record;
    });
  };
  RETURN_IF_ERROR(mark(true));
  const absl::StatusOr<std::vector<std::string>> clones = LiveClones(snapshot);
  if (clones.ok() && clones->empty()) return absl::OkStatus();
  RETURN_IF_ERROR(mark(false));
  RETURN_IF_ERROR(clones.status());
  return absl::FailedPreconditionError(
      absl::StrCat("snapshot ", attached.runner->name(), "@", name, " has clones: ",
                   absl::StrJoin(*clones, ", "), "; delete or flatten them first"));
}

absl::Status LocalHost::DropSnapshot(Attached& attached, const std::string& name) {
  ASSIGN_OR_RETURN(const v1::SnapshotRecord snapshot, Named(attached.Record(), name));
  RETURN_IF_ERROR(attached.Commit([&](v1::VolumeRecord record) {
    v1::VolumeRecord next = record;
    next.clear_snapshots();
    for (const v1::SnapshotRecord& one : record.snapshots()) {
      if (one.name() != name) *next.add_snapshots() = one;
    }
    return next;
  }));
  attached.DropDoubtfulPins();
  attached.runner->DropPin(snapshot.pin().id());
  LOG(INFO) << "volume=" << attached.runner->name() << " epoch=" << attached.runner->epoch()
            << " snapshot=" << name << " deleted";
  return absl::OkStatus();
}

void LocalHost::ExplainSpace(const v1::VolumeRecord& record, bool ask, v1::ExplainResponse* out) {
  if (record.has_parent()) {
    out->add_facts(absl::StrCat("it is a clone: what it has not written itself it reads from ",
                                record.parent().volume(), "@", record.parent().snapshot()));
  }
  if (!record.snapshots().empty()) {
    out->add_facts(absl::StrCat(record.snapshots_size(), " snapshots keep what they need, such as ",
                                record.snapshots(0).name()));
  }
  if (!ask) return;
  const absl::StatusOr<std::vector<Provision::Found>> found = provision_.AskReplicas(kAskDeadline);
  if (!found.ok()) return;  // the catalog is away, which other facts say
  for (const Provision::Found& one : *found) {
    if (!one.answer.ok()) continue;
    for (const v1::ReplicaVolume& volume : one.answer->volumes()) {
      if (volume.volume_id() != record.id()) continue;
      ExplainDisks(*one.answer, out);
      if (!record.snapshots().empty() && volume.pinned_bytes() > 0) {
        out->add_facts(absl::StrCat("replica ", one.record.name(), " holds at most ",
                                    FormatSize(volume.pinned_bytes()), " for them"));
      }
      if (volume.reclaimable_bytes() >= kWorthTellingBytes) {
        out->add_next(absl::StrCat("replica ", one.record.name(), " gives about ",
                                   FormatSize(volume.reclaimable_bytes()),
                                   " back that nothing needs any more, by compaction"));
      }
    }
  }
}

absl::StatusOr<std::string> LocalHost::ReadSnapshot(const v1::ReadRequest& request) {
  ASSIGN_OR_RETURN(const v1::VolumeRecord record, SettledRecordOf(request.name()));
  ASSIGN_OR_RETURN(const v1::SnapshotRecord snapshot, Named(record, request.snapshot()));
  const uint64_t offset = request.offset_bytes(), length = request.length_bytes();
  if (offset % kBlockBytes != 0 || length % kBlockBytes != 0 || length == 0 ||
      length > kRequestBytesMax || offset >= snapshot.size_bytes() ||
      length > snapshot.size_bytes() - offset) {
    return absl::InvalidArgumentError(absl::StrCat(
        "bytes ", offset, "+", length, ": use multiples of 4096, at most ",
        FormatSize(kRequestBytesMax), ", within the ", FormatSize(snapshot.size_bytes()),
        " of the snapshot"));
  }
  const BlockRange range{offset / kBlockBytes, length / kBlockBytes};
  return ReadPinnedData(record, snapshot, range);
}

absl::StatusOr<std::string> LocalHost::ReadPinnedData(const v1::VolumeRecord& record,
                                                      const v1::SnapshotRecord& snapshot,
                                                      BlockRange range) {
  // As a clone of it would read.
  ASSIGN_OR_RETURN(const auto reader,
                   ParentReader::Open(catalog_.get(), AsParent(record, snapshot)));
  ASSIGN_OR_RETURN(const std::vector<PinnedReader::Block> blocks, reader->Read(range));
  std::string data(range.count * kBlockBytes, '\0');
  for (const PinnedReader::Block& block : blocks) {
    data.replace((block.block - range.first) * kBlockBytes, kBlockBytes, block.data);
  }
  return data;
}

}  // namespace weir::host
