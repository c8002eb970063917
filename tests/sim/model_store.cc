#include "tests/sim/model_store.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "proto/base/check.h"
#include "proto/base/errno.h"

namespace weir::sim {
namespace {

absl::Status NoVolume() { return ErrnoToStatus(ENOENT, "no such volume"); }

}  // namespace

uint64_t ValueOf(absl::string_view data, uint64_t block) {
  if (data.empty()) return 0;
  uint64_t value = 0;
  std::memcpy(&value, data.data() + block * kBlockBytes, sizeof(value));
  return value;
}

ModelStore::ModelStore(std::string store_id, uint32_t domains)
    : domains_(domains), unsynced_(domains) {
  identity_.store_id = std::move(store_id);
  identity_.generation = 1;
  identity_.incarnation = ++*starts_;
}

std::unique_ptr<ReplicaStore> MakeModelStore(const std::string& id, uint32_t domains,
                                             const store::VolumeGeometry& geometry) {
  auto made = std::make_unique<ModelStore>(id, domains);
  CHECK_OK(made->CreateVolume(kVolume, geometry));
  return made;
}

void ModelStore::Restart() {
  ++identity_.generation;
  identity_.incarnation = ++*starts_;
  told_ = false;
  update_version_ = 0;
  keep_after_.clear();
  if (lost_synced_) health_ = ErrnoToStatus(EIO, "it has less than its floor; that is final for this store");
}

std::function<std::unique_ptr<ReplicaStore>()> ModelStore::CopyDisks() const {
  auto copy = std::make_shared<ModelStore>(*this);
  copy->disk_ = copy->now_;
  for (std::vector<Batch>& batches : copy->unsynced_) batches.clear();
  // What was wrong with the disks, their copy has not.
  copy->rotten_.clear();
  copy->fail_sync_ = ~0u;
  copy->full_ = false;
  return [copy] { return std::make_unique<ModelStore>(*copy); };
}

// --- the disk ---

void ModelStore::Apply(Image& image, const Batch& batch) {
  Lane& lane = image.lanes[batch.lane];
  lane.position = batch.to;
  if (batch.sets_lineage) lane.lineage = batch.lineage;
  for (const Change& change : batch.changes) lane.changes.push_back(change);
  if (batch.more) batch.more(image);
  for (const BlockValue& value : batch.values) image.blocks[value.block].push_back(value.version);
}

void ModelStore::Commit(Batch batch) {
  Apply(now_, batch);
  unsynced_[DomainOf(batch.lane)].push_back(std::move(batch));
}

absl::Status ModelStore::Sync(uint32_t domain) {
  if (fail_sync_ == domain && health_.ok()) {
    health_ = ErrnoToStatus(EIO, "a sync failed; that is final for this store");
  }
  if (!health_.ok()) return health_;
  for (const Batch& batch : unsynced_[domain]) Apply(disk_, batch);
  unsynced_[domain].clear();
  return absl::OkStatus();
}

void ModelStore::CutPower(Dice& dice) {
  if (!has_volume_) return;
  for (std::vector<Batch>& batches : unsynced_) {
    const uint64_t kept = dice.Below(batches.size() + 1);
    for (uint64_t i = 0; i < kept; ++i) Apply(disk_, batches[i]);
    batches.clear();
  }
  now_ = disk_;
}

void ModelStore::Reclaim(Dice& dice) {
  if (!told_) return;
  for (uint64_t block = 0; block < now_.blocks.size(); ++block) {
    Lane& lane = now_.lanes[Index(geometry_.lanes.LaneOf(block))];
    if (now_.invalid[block] || disk_.invalid[block]) continue;
    for (Image* image : {&now_, &disk_}) {
      std::vector<Version>& all = image->blocks[block];
      // Pins: the newest, and the newest at or below the durable point.
      for (size_t i = 0; i + 1 < all.size();) {
        const bool pinned = all[i].position <= lane.noted && all[i + 1].position > lane.noted;
        const bool above = all[i].position > lane.noted;
        const bool named = Pinned(Index(geometry_.lanes.LaneOf(block)), all[i].position,
                                  all[i + 1].position);
        if (pinned || above || named || !dice.Percent(50)) {
          ++i;
          continue;
        }
        all.erase(all.begin() + static_cast<ptrdiff_t>(i));
      }
    }
  }
  for (uint32_t i = 0; i < now_.lanes.size(); ++i) {
    Position point = now_.lanes[i].noted;
    for (const auto& [lane, after] : keep_after_) {
      if (Index(lane) == i) point = std::min(point, after);
    }
    for (Image* image : {&now_, &disk_}) {
      Lane& lane = image->lanes[i];
      lane.trimmed = std::max(lane.trimmed, point);
      std::erase_if(lane.changes, [&](const auto& c) { return c.position <= point; });
    }
  }
}

// --- volumes ---

absl::Status ModelStore::BindCluster(const std::string& cluster_id) {
  identity_.cluster_id = cluster_id;
  return absl::OkStatus();
}

absl::Status ModelStore::CreateVolume(VolumeId id, const store::VolumeGeometry& geometry) {
  if (has_volume_) return geometry_.SuitsVolumeOf(geometry) ? absl::OkStatus() : absl::AlreadyExistsError("another geometry");
  id_ = id;
  has_volume_ = true;
  geometry_ = geometry;
  now_.lanes.resize(geometry.lanes.lanes);
  now_.blocks.resize(geometry.size_blocks);
  now_.invalid.resize(geometry.size_blocks);
  disk_ = now_;
  return absl::OkStatus();
}

absl::Status ModelStore::DeleteVolume(VolumeId) {
  has_volume_ = false;
  now_ = disk_ = Image();
  for (auto& batches : unsynced_) batches.clear();
  promised_ = 0;
  pins_.clear();
  record_ = store::RecordCopy();
  update_version_ = 0;
  told_ = false;
  keep_after_.clear();
  rotten_.clear();
  return absl::OkStatus();
}

std::vector<VolumeId> ModelStore::Volumes() const {
  return has_volume_ ? std::vector<VolumeId>{id_} : std::vector<VolumeId>{};
}

absl::StatusOr<store::VolumeState> ModelStore::GetVolume(VolumeId id) const {
  if (!has_volume_) return NoVolume();
  store::VolumeState state;
  state.id = id;
  state.geometry = geometry_;
  state.promised_epoch = promised_;
  for (const Pin& pin : pins_) state.pins.push_back(pin.id);
  std::sort(state.pins.begin(), state.pins.end());
  for (uint32_t i = 0; i < now_.lanes.size(); ++i) {
    store::LaneState lane;
    lane.lane = LaneId{i};
    lane.position = now_.lanes[i].position;
    lane.durable_position = disk_.lanes[i].position;
    lane.domain = DomainOf(i);
    lane.lineage = now_.lanes[i].lineage;
    lane.join_id = now_.lanes[i].join_id;
    lane.join_to = now_.lanes[i].join_to;
    for (uint64_t b = 0; b < geometry_.size_blocks; ++b) {
      if (now_.invalid[b] && OfLane(b, i)) ++lane.invalid_blocks;
    }
    state.lanes.push_back(std::move(lane));
  }
  return state;
}

absl::StatusOr<store::SpaceUsed> ModelStore::GetSpaceUsed(VolumeId) const {
  return store::SpaceUsed();
}

// --- I/O ---

absl::Status ModelStore::WriteOne(const store::WriteOp& op) {
  if (op.range.end() > geometry_.size_blocks) return ErrnoToStatus(EINVAL, "past the volume's end");
  const Position at = now_.lanes[Index(op.lane)].position;
  if (op.position.epoch() != at.epoch()) return ErrnoToStatus(ESTALE, "another epoch");
  if (op.position <= at) return absl::OkStatus();  // a duplicate
  if (op.position != at.Next()) return ErrnoToStatus(EAGAIN, "a gap");
  Batch batch;
  batch.lane = Index(op.lane);
  batch.to = op.position;
  batch.changes.push_back({op.position, at, op.range});
  for (uint64_t i = 0; i < op.range.count; ++i) {
    const uint64_t value = op.kind == store::WriteKind::kWrite ? ValueOf(op.data, i) : 0;
    batch.values.push_back({op.range.first + i, {op.position, value}});
  }
  Commit(std::move(batch));
  return absl::OkStatus();
}

std::vector<store::WriteResult> ModelStore::Write(VolumeId, absl::Span<const store::WriteOp> ops) {
  std::vector<store::WriteResult> results(ops.size());
  for (size_t i = 0; i < ops.size(); ++i) {
    store::WriteResult& result = results[i];
    result.status = !health_.ok() ? health_ : !has_volume_ ? NoVolume() : WriteOne(ops[i]);
    if (result.status.ok() && ops[i].fua) result.status = Sync(DomainOf(Index(ops[i].lane)));
    if (!has_volume_) continue;
    result.lane_position = now_.lanes[Index(ops[i].lane)].position;
    result.durable_position = disk_.lanes[Index(ops[i].lane)].position;
  }
  return results;
}

void ModelStore::Damage(uint64_t block) {
  const std::vector<Version>& all = *versions(block);
  if (!all.empty() && all.back().value != 0) rotten_.insert({block, all.back().position});
}

bool ModelStore::damaged(uint64_t block) const {
  const std::vector<Version>& all = *versions(block);
  return !all.empty() && rotten_.contains({block, all.back().position});
}

absl::StatusOr<store::ReadResult> ModelStore::Read(VolumeId, BlockRange range) const {
  if (!health_.ok()) return health_;
  if (!has_volume_) return NoVolume();
  if (range.end() > geometry_.size_blocks) return absl::OutOfRangeError("past the volume's end");
  if (AnyInvalid(range)) return ErrnoToStatus(store::kBlockInvalid, "not copied yet");
  store::ReadResult result;
  result.zeroes = true;
  for (uint64_t i = 0; i < range.count; ++i) {
    const std::vector<Version>& all = now_.blocks[range.first + i];
    if (all.empty()) {
      result.absent.push_back({range.first + i, 1});
      continue;
    }
    if (damaged(range.first + i)) return ErrnoToStatus(EBADMSG, "damaged");
    result.newest = std::max(result.newest, all.back().position);
    if (all.back().value == 0) continue;
    if (result.data.empty()) result.data.resize(range.count * kBlockBytes);
    result.zeroes = false;
    std::memcpy(&result.data[i * kBlockBytes], &all.back().value, sizeof(uint64_t));
  }
  return result;
}

absl::StatusOr<store::ExtentsResult> ModelStore::Extents(VolumeId, BlockRange range) const {
  if (!health_.ok()) return health_;
  if (!has_volume_) return NoVolume();
  if (range.end() > geometry_.size_blocks) return absl::OutOfRangeError("past the volume's end");
  if (AnyInvalid(range)) return ErrnoToStatus(store::kBlockInvalid, "not copied yet");
  store::ExtentsResult result;
  for (uint64_t i = 0; i < range.count; ++i) {
    const std::vector<Version>& all = now_.blocks[range.first + i];
    const bool allocated = !all.empty() && all.back().value != 0;
    if (!all.empty()) result.newest = std::max(result.newest, all.back().position);
    if (result.runs.empty() || result.runs.back().second != allocated) {
      result.runs.emplace_back(0, allocated);
    }
    ++result.runs.back().first;
  }
  return result;
}

absl::StatusOr<std::vector<std::pair<LaneId, Position>>> ModelStore::Flush(VolumeId,
                                                                           uint32_t flush_nr) {
  if (!has_volume_) return NoVolume();
  if (absl::Status status = Sync(flush_nr); !status.ok()) return status;
  std::vector<std::pair<LaneId, Position>> durable;
  for (uint32_t i = 0; i < now_.lanes.size(); ++i) {
    if (DomainOf(i) == flush_nr) durable.emplace_back(LaneId{i}, disk_.lanes[i].position);
  }
  return durable;
}

// The point counts once it is synced itself; here it is so at once, for the less is kept the
// harder is the run.
absl::Status ModelStore::NoteDurablePoints(VolumeId,
                                           absl::Span<const std::pair<LaneId, Position>> points) {
  if (!health_.ok()) return health_;
  told_ = true;
  for (const auto& [lane, point] : points) {
    Lane& at = now_.lanes[Index(lane)];
    at.noted = std::max(at.noted, std::min(point, disk_.lanes[Index(lane)].position));
    disk_.lanes[Index(lane)].noted = at.noted;
  }
  return absl::OkStatus();
}

// --- takeover ---

absl::Status ModelStore::Promise(VolumeId, Epoch epoch) {
  if (!health_.ok()) return health_;
  if (!has_volume_) return NoVolume();
  if (epoch < promised_) return ErrnoToStatus(ESTALE, absl::StrCat("promised ", promised_));
  promised_ = epoch;
  return absl::OkStatus();
}

bool ModelStore::OnHistory(const Lane& lane, Position position) {
  if (position.epoch() == lane.position.epoch()) return position <= lane.position;
  return std::any_of(lane.lineage.begin(), lane.lineage.end(), [&](const LineageEntry& entry) {
    return entry.epoch == position.epoch() && position.n() <= entry.n;
  });
}

absl::StatusOr<store::Tail> ModelStore::ReadTail(VolumeId, LaneId id, Position from,
                                                 Position to) const {
  const Lane& lane = now_.lanes[Index(id)];
  if (HasInvalid(Index(id))) return absl::FailedPreconditionError("blocks are to be copied");
  if (lane.position != to) return absl::FailedPreconditionError("the lane is elsewhere");
  if (!OnHistory(lane, from)) return absl::OutOfRangeError("not on the lane's history");
  if (from < lane.trimmed) return absl::OutOfRangeError("changes are trimmed");
  store::Tail tail{.lane = id, .from = from, .to = to, .expected = from, .lineage = lane.lineage};
  std::vector<bool> seen(now_.blocks.size());
  for (const Change& change : lane.changes) {
    if (change.position <= from) continue;
    tail.changes.push_back({change.position, change.range});
    for (uint64_t b = change.range.first; b < change.range.end(); ++b) {
      if (seen[b] || now_.blocks[b].empty()) continue;
      seen[b] = true;
      if (now_.blocks[b].back().position <= from) continue;
      const Version& newest = now_.blocks[b].back();
      store::BlockVersion version{.block = b, .position = newest.position};
      version.zero = newest.value == 0;
      if (!version.zero) {
        version.data.resize(kBlockBytes);
        std::memcpy(version.data.data(), &newest.value, sizeof(newest.value));
      }
      tail.versions.push_back(std::move(version));
    }
  }
  return tail;
}

absl::Status ModelStore::AdoptTail(VolumeId, const store::Tail& tail) {
  if (!health_.ok()) return health_;
  for (const store::ChangeEntry& change : tail.changes) {
    if (change.range.end() > geometry_.size_blocks) return absl::InvalidArgumentError("it is past the volume's end");
  }
  if (HasInvalid(Index(tail.lane))) return absl::FailedPreconditionError("blocks are to be copied");
  const Position at = now_.lanes[Index(tail.lane)].position;
  if (at == tail.to) return absl::OkStatus();
  if (at != tail.expected) return absl::AbortedError("the lane is elsewhere");
  // Bases without writes are all that may be given up for another history.
  const Lane& lane = now_.lanes[Index(tail.lane)];
  bool written = at != tail.from && (!OnHistory(lane, tail.from) || lane.trimmed > tail.from);
  for (const Change& change : lane.changes) written |= change.position > tail.from;
  if (written) return absl::FailedPreconditionError("it was written to above the tail");
  Batch batch;
  batch.lane = Index(tail.lane);
  batch.to = tail.to;
  batch.sets_lineage = true;
  batch.lineage = tail.lineage;
  for (const store::ChangeEntry& change : tail.changes) {
    batch.changes.push_back({change.position, tail.from, change.range});
  }
  for (const store::BlockVersion& version : tail.versions) {
    batch.values.push_back({version.block, {version.position, ValueOf(version.data, 0)}});
  }
  Commit(std::move(batch));
  return absl::OkStatus();
}

absl::Status ModelStore::TakeBase(VolumeId, Epoch epoch, Epoch act_epoch,
                                  absl::Span<const std::pair<LaneId, Position>> expected) {
  if (!health_.ok()) return health_;
  if (epoch < promised_) return ErrnoToStatus(ESTALE, absl::StrCat("promised ", promised_));
  const Position base(epoch, 0);
  for (uint32_t i = 0; i < now_.lanes.size(); ++i) {
    if (HasInvalid(i)) return absl::FailedPreconditionError("blocks are to be copied");
  }
  for (const auto& [id, position] : expected) {
    const Position at = now_.lanes[Index(id)].position;
    const bool as_expected = at == position && at.epoch() < epoch;
    if (at != base && !as_expected) return absl::AbortedError("a lane is elsewhere");
  }
  for (uint32_t i = 0; i < now_.lanes.size(); ++i) {
    const Lane& lane = now_.lanes[i];
    if (lane.position == base) continue;
    Batch batch;
    batch.lane = i;
    batch.to = base;
    batch.sets_lineage = true;
    batch.lineage = lane.lineage;
    batch.lineage.push_back({lane.position.epoch(), lane.position.n()});
    std::erase_if(batch.lineage, [&](const LineageEntry& e) { return e.epoch > act_epoch; });
    Commit(std::move(batch));
  }
  for (uint32_t d = 0; d < domains_; ++d) {
    if (absl::Status status = Sync(d); !status.ok()) return status;
  }
  return absl::OkStatus();
}

}  // namespace weir::sim
