// Volumes, promises and bases: what changes rarely and is synced at once.
#include <algorithm>
#include <cerrno>

#include "absl/strings/str_cat.h"
#include "proto/base/check.h"
#include "proto/base/errno.h"
#include "proto/base/status_macros.h"
#include "replica/store/disk_store.h"
#include "replica/store/history.h"
#include "replica/store/rocks.h"

namespace weir::store {
namespace {

// Bounds the memory and the records of one volume.
constexpr uint32_t kVolumeLanesMax = 1024;
constexpr uint32_t kStripeBlocksMax = 1 << 20;
// So many discarded blocks of a lane are worth a look at all of its keys: this part of the lane,
// and at least 1 MiB.
constexpr uint64_t kDiscardedPart = 128;
constexpr uint64_t kDiscardedMin = 256;
absl::Status ValidateGeometry(const VolumeGeometry& geometry) {
  if (geometry.size_blocks == 0 || geometry.size_blocks >= kBlocksMax) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a volume has 1 to ", kBlocksMax - 1, " blocks, not ",
        geometry.size_blocks));
  }
  if (geometry.lanes.lanes == 0 || geometry.lanes.lanes > kVolumeLanesMax ||
      geometry.lanes.stripe_blocks == 0 ||
      geometry.lanes.stripe_blocks > kStripeBlocksMax) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a volume has 1 to ", kVolumeLanesMax, " lanes and stripes of 1 to ",
        kStripeBlocksMax, " blocks"));
  }
  return absl::OkStatus();
}

std::string VolumeName(VolumeId id) {
  return absl::StrCat("volume ", static_cast<uint64_t>(id));
}

}  // namespace

absl::StatusOr<std::shared_ptr<Volume>> DiskStore::Find(VolumeId id) const {
  absl::MutexLock lock(&mutex_);
  RETURN_IF_ERROR(failure_);
  auto found = volumes_.find(id);
  if (found == volumes_.end()) {
    return ErrnoToStatus(ENOENT,
                         absl::StrCat(VolumeName(id), " is not on this store"));
  }
  return found->second;
}

std::shared_ptr<Volume> DiskStore::FindOrNull(VolumeId id) const {
  absl::MutexLock lock(&mutex_);
  auto found = volumes_.find(id);
  return found == volumes_.end() ? nullptr : found->second;
}

uint32_t DiskStore::DomainsOf(const VolumeGeometry& geometry) const {
  return std::min(geometry.lanes.lanes, num_domains());
}

absl::Status DiskStore::BindCluster(const std::string& cluster_id) {
  InTurn turn(&admin_);
  RETURN_IF_ERROR(health());
  {
    absl::MutexLock lock(&mutex_);
    if (cluster_id_ == cluster_id) return absl::OkStatus();
    if (!cluster_id_.empty()) {
      return absl::FailedPreconditionError(absl::StrCat(
          "this store is bound to cluster ", cluster_id_, ", not ", cluster_id));
    }
  }
  rocksdb::WriteBatch batch;
  RETURN_IF_ERROR(FromRocks(batch.Put(kClusterKey, cluster_id), "bind cluster"));
  RETURN_IF_ERROR(domains_[0]->Write(&batch));
  SyncResult synced = domains_[0]->Sync();
  RETURN_IF_ERROR(synced.status());
  absl::MutexLock lock(&mutex_);
  cluster_id_ = cluster_id;
  return absl::OkStatus();
}

// Domain 0 is written last: its record is what makes the volume exist.
absl::Status DiskStore::CreateVolume(VolumeId id,
                                     const VolumeGeometry& geometry) {
  RETURN_IF_ERROR(ValidateGeometry(geometry));
  InTurn turn(&admin_);
  RETURN_IF_ERROR(health());
  if (std::shared_ptr<Volume> known = FindOrNull(id)) {
    if (known->geometry().SuitsVolumeOf(geometry)) return absl::OkStatus();
    return absl::AlreadyExistsError(
        absl::StrCat(VolumeName(id), " exists with another geometry"));
  }
  if (!HasSpaceFor(uint64_t{geometry.lanes.lanes} * Admission::kBytesPerOp)) {
    return ErrnoToStatus(ENOSPC, "no space for another volume");
  }
  RETURN_IF_ERROR(purge_->Wait(id));
  for (uint32_t i = DomainsOf(geometry); i-- > 0;) {
    RETURN_IF_ERROR(CreateInDomain(i, id, geometry));
  }
  auto volume = std::make_shared<Volume>();
  volume->id = id;
  volume->set_geometry(geometry);
  for (uint32_t i = 0; i < geometry.lanes.lanes; ++i) {
    auto lane = std::make_shared<Lane>(id, LaneId{i}, DomainOf(LaneId{i}),
                                       Lane::State());
    DomainOf(*lane)->pins()->AddLane(lane);
    volume->lanes.push_back(std::move(lane));
  }
  absl::MutexLock lock(&mutex_);
  volumes_[id] = std::move(volume);
  return absl::OkStatus();
}

absl::Status DiskStore::CreateInDomain(uint32_t index, VolumeId id,
                                       const VolumeGeometry& geometry) {
  rocksdb::WriteBatch batch;
  rocksdb::Status status =
      index == 0 ? batch.Put(VolumeRecordKey(id), EncodeGeometry(geometry))
                 : batch.Put(VolumePartKey(id), "");
  for (uint32_t lane = index; status.ok() && lane < geometry.lanes.lanes;
       lane += num_domains()) {
    status = batch.Put(PositionKey(id, LaneId{lane}), EncodeNumber(0));
  }
  RETURN_IF_ERROR(FromRocks(status, "create volume"));
  RETURN_IF_ERROR(domains_[index]->Write(&batch));
  return domains_[index]->Sync().status();
}

// Domain 0 first: without its record the volume is gone, and what is left of
// it elsewhere is purged after the next start.
absl::Status DiskStore::DeleteVolume(VolumeId id) {
  InTurn turn(&admin_);
  RETURN_IF_ERROR(health());
  std::shared_ptr<Volume> volume = FindOrNull(id);
  if (volume == nullptr) return absl::OkStatus();
  LaneClaim claim(volume->lanes);
  {
    absl::MutexLock lock(&volume->mutex);
    volume->is_deleted = true;
  }
  {
    absl::MutexLock lock(&mutex_);
    volumes_.erase(id);
  }
  for (uint32_t i = 0; i < num_domains(); ++i) {
    RETURN_IF_ERROR(DeleteInDomain(i, *volume));
  }
  purge_->Add(id);
  return absl::OkStatus();
}

absl::Status DiskStore::DeleteInDomain(uint32_t index, const Volume& volume) {
  rocksdb::WriteBatch batch;
  rocksdb::Status status = batch.Put(DeletedKey(volume.id), "");
  for (const std::string& key :
       {VolumeRecordKey(volume.id), VolumePartKey(volume.id),
        PromiseKey(volume.id), RecordCopyKey(volume.id)}) {
    if (status.ok()) status = batch.Delete(key);
  }
  for (const auto& lane : volume.lanes) {
    if (lane->domain != index || !status.ok()) continue;
    status = batch.Delete(PositionKey(volume.id, lane->id));
  }
  RETURN_IF_ERROR(FromRocks(status, "delete volume"));
  RETURN_IF_ERROR(domains_[index]->Write(&batch));
  RETURN_IF_ERROR(domains_[index]->Sync().status());
  // Only now: what the filters drop must not be needed after a power cut.
  domains_[index]->pins()->DeleteVolume(volume.id);
  return absl::OkStatus();
}

std::vector<VolumeId> DiskStore::Volumes() const {
  absl::MutexLock lock(&mutex_);
  std::vector<VolumeId> ids;
  for (const auto& [id, volume] : volumes_) ids.push_back(id);
  return ids;
}

absl::StatusOr<VolumeState> DiskStore::GetVolume(VolumeId id) const {
  ASSIGN_OR_RETURN(std::shared_ptr<Volume> volume, Find(id));
  VolumeState state;
  state.id = id;
  state.geometry = volume->geometry();
  state.promised_epoch = volume->promised();
  state.pins = volume->pins();
  for (const auto& lane : volume->lanes) {
    Lane::State now = lane->state();
    state.lanes.push_back(
        {lane->id, now.position, now.durable, lane->domain, std::move(now.lineage),
         InvalidBlockCount(volume->geometry(), lane->id, now.join), now.join.id, now.join.to});
  }
  return state;
}

absl::Status DiskStore::Promise(VolumeId id, Epoch epoch) {
  InTurn turn(&admin_);
  ASSIGN_OR_RETURN(std::shared_ptr<Volume> volume, Find(id));
  if (epoch > Position::kEpochMax) {
    return absl::InvalidArgumentError(absl::StrCat("epoch ", epoch));
  }
  const Epoch promised = volume->promised();
  if (epoch < promised) {
    return ErrnoToStatus(ESTALE, absl::StrCat(VolumeName(id), " has promised ",
                                              promised, ", not ", epoch));
  }
  if (epoch > promised) {
    rocksdb::WriteBatch batch;
    RETURN_IF_ERROR(
        FromRocks(batch.Put(PromiseKey(id), EncodeNumber(epoch)), "promise"));
    RETURN_IF_ERROR(domains_[0]->Write(&batch));
  }
  // Also if it was promised before: that call may not have lived to sync it.
  RETURN_IF_ERROR(domains_[0]->Sync().status());
  absl::MutexLock lock(&volume->mutex);
  volume->promised_epoch = epoch;
  return absl::OkStatus();
}

absl::Status DiskStore::KeepRecord(VolumeId id, const RecordCopy& copy) {
  if (copy.record.empty() || copy.record.size() > kRecordCopyBytesMax) {
    return absl::InvalidArgumentError(absl::StrCat("a record of ", copy.record.size(), " bytes"));
  }
  InTurn turn(&admin_);
  const absl::StatusOr<RecordCopy> kept = GetRecord(id);
  // One that cannot be read is replaced.
  if (!absl::IsDataLoss(kept.status())) RETURN_IF_ERROR(kept.status());
  const bool late = kept.ok() && std::pair(copy.epoch, copy.revision) < std::pair(kept->epoch, kept->revision);
  if (late) return absl::OkStatus();
  rocksdb::WriteBatch batch;
  RETURN_IF_ERROR(FromRocks(
      batch.Put(RecordCopyKey(id),
                absl::StrCat(EncodeNumber(copy.epoch), EncodeNumber(copy.revision), copy.record)),
      "keep record"));
  RETURN_IF_ERROR(domains_[0]->Write(&batch));
  return domains_[0]->Sync().status();
}

absl::StatusOr<RecordCopy> DiskStore::GetRecord(VolumeId id) const {
  RETURN_IF_ERROR(Find(id).status());
  const absl::StatusOr<std::string> stored = domains_[0]->GetMeta(RecordCopyKey(id));
  if (absl::IsNotFound(stored.status())) return RecordCopy();
  RETURN_IF_ERROR(stored.status());
  const absl::string_view value = *stored;
  RecordCopy copy;
  uint64_t epoch = 0;
  if (value.size() < 16 || !ParseNumber(value.substr(0, 8), &epoch) ||
      !ParseNumber(value.substr(8, 8), &copy.revision)) {
    return absl::DataLossError(absl::StrCat("the copy of the record of ", VolumeName(id), " is damaged"));
  }
  copy.epoch = static_cast<Epoch>(epoch);
  copy.record = std::string(value.substr(16));
  return copy;
}

uint64_t WorthCompacting(const Volume& volume) {
  const uint64_t part = volume.geometry().size_blocks / kDiscardedPart / volume.lanes.size();
  return std::max(part, kDiscardedMin);
}

absl::Status DiskStore::NoteDurablePoints(
    VolumeId id, absl::Span<const std::pair<LaneId, Position>> points) {
  ASSIGN_OR_RETURN(std::shared_ptr<Volume> volume, Find(id));
  for (const auto& [lane, point] : points) {
    if (Index(lane) >= volume->lanes.size() ||
        point > volume->lanes[Index(lane)]->state().durable) {
      return absl::InvalidArgumentError(absl::StrCat(
          VolumeName(id), " lane ", Index(lane), ": durable point ",
          point.ToString(), " is above what is synced here"));
    }
  }
  for (const auto& [id_of_lane, point] : points) {
    const std::shared_ptr<Lane>& lane = volume->lanes[Index(id_of_lane)];
    LaneClaim claim({lane});
    if (volume->deleted()) return ErrnoToStatus(ENOENT, VolumeName(id));
    const Lane::State state = lane->state();
    const Position known =
        std::max(state.known, std::min(point, lane->keep_changes_after()));
    if (point > state.noted || known > state.known) {
      DomainBatch batch(*DomainOf(*lane));
      batch.Put(PointKey(id, lane->id), EncodeNumber(std::max(point, state.noted).bits()));
      batch.Put(KnownKey(id, lane->id), EncodeKnown(known, state.jumped));
      RETURN_IF_ERROR(batch.Write(DomainOf(*lane)));
    }
    lane->Noted(point, known);
    DomainOf(*lane)->MarkDirty(lane);
    if (lane->TakeDiscarded(WorthCompacting(*volume))) relief_->Want(lane->domain, id);
  }
  return absl::OkStatus();
}

absl::Status DiskStore::KeepChanges(
    VolumeId id, absl::Span<const std::pair<LaneId, Position>> after) {
  ASSIGN_OR_RETURN(std::shared_ptr<Volume> volume, Find(id));
  const std::map<LaneId, Position> wanted(after.begin(), after.end());
  for (const auto& lane : volume->lanes) {
    auto found = wanted.find(lane->id);
    lane->KeepChangesAfter(found == wanted.end() ? Lane::kKeepNoChanges : found->second);
  }
  return absl::OkStatus();
}

absl::Status DiskStore::TakeBase(
    VolumeId id, Epoch epoch, Epoch act_epoch,
    absl::Span<const std::pair<LaneId, Position>> expected) {
  InTurn turn(&admin_);
  ASSIGN_OR_RETURN(std::shared_ptr<Volume> volume, Find(id));
  if (epoch < volume->promised() || epoch == 0 || epoch > Position::kEpochMax) {
    return ErrnoToStatus(
        ESTALE, absl::StrCat(VolumeName(id), " has promised ",
                             volume->promised(), ", not ", epoch));
  }
  std::map<LaneId, Position> wanted(expected.begin(), expected.end());
  LaneClaim claim(volume->lanes);
  const Position base(epoch, 0);
  for (const auto& lane : volume->lanes) {
    RETURN_IF_ERROR(CheckNoneInvalid(*volume, *lane));
    const Position now = lane->position();
    auto found = wanted.find(lane->id);
    const bool as_expected = found != wanted.end() && found->second == now &&
                             now.epoch() < epoch;
    if (now != base && !as_expected) {
      return absl::AbortedError(absl::StrCat(
          VolumeName(id), " lane ", Index(lane->id), " is at ", now.ToString(),
          ", not where the base ", base.ToString(), " was expected to be taken"));
    }
  }
  std::vector<rocksdb::WriteBatch> batches(num_domains());
  std::vector<std::pair<std::shared_ptr<Lane>, std::vector<LineageEntry>>> taken;
  for (const auto& lane : volume->lanes) {
    Lane::State now = lane->state();
    if (now.position == base) continue;
    now.lineage.push_back({now.position.epoch(), now.position.n()});
    // However many attaches fail, the end of act_epoch stays to be found.
    std::erase_if(now.lineage, [act_epoch](const LineageEntry& end) {
      return end.epoch > act_epoch;
    });
    if (now.lineage.size() > kLineageMax) now.lineage.erase(now.lineage.begin());
    rocksdb::WriteBatch& batch = batches[lane->domain];
    RETURN_IF_ERROR(FromRocks(batch.Put(PositionKey(id, lane->id),
                                        EncodeNumber(base.bits())), "base"));
    RETURN_IF_ERROR(FromRocks(batch.Put(LineageKey(id, lane->id),
                                        EncodeLineage(now.lineage)), "base"));
    taken.emplace_back(lane, std::move(now.lineage));
  }
  for (uint32_t i = 0; i < num_domains(); ++i) {
    if (batches[i].Count() > 0) {
      RETURN_IF_ERROR(domains_[i]->Write(&batches[i]));
    }
  }
  for (auto& [lane, lineage] : taken) {
    lane->Applied(base, std::move(lineage));
    DomainOf(*lane)->MarkDirty(lane);
  }
  for (uint32_t i = 0; i < DomainsOf(volume->geometry()); ++i) {
    RETURN_IF_ERROR(domains_[i]->Sync().status());
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::pair<LaneId, Position>>> DiskStore::Flush(
    VolumeId id, uint32_t flush_nr) {
  ASSIGN_OR_RETURN(std::shared_ptr<Volume> volume, Find(id));
  if (flush_nr >= DomainsOf(volume->geometry())) {
    return ErrnoToStatus(
        EINVAL, absl::StrCat(VolumeName(id), " has ",
                             DomainsOf(volume->geometry()), " flush domains; ",
                             flush_nr, " is none of them"));
  }
  RETURN_IF_ERROR(domains_[flush_nr]->Sync().status());
  RETURN_IF_ERROR(health());
  std::vector<std::pair<LaneId, Position>> durable;
  for (const auto& lane : volume->lanes) {
    if (lane->domain == flush_nr) {
      durable.emplace_back(lane->id, lane->state().durable);
    }
  }
  return durable;
}

std::vector<DomainStats> DiskStore::GetDomainStats() const {
  std::vector<DomainStats> stats;
  for (const auto& domain : domains_) stats.push_back(domain->Stats());
  return stats;
}

bool DiskStore::HasSpaceFor(uint64_t bytes) const {
  return std::all_of(admission_.begin(), admission_.end(),
                     [bytes](const std::unique_ptr<Admission>& admission) {
                       return admission->HasSpaceFor(bytes);
                     });
}

}  // namespace weir::store
