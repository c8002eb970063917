#include "replica/server/fake_store.h"

#include <cerrno>
#include <algorithm>
#include <set>

#include "proto/base/crc32c.h"
#include "proto/base/errno.h"

namespace weir::replica {
namespace {

absl::Status NoSuchVolume() { return absl::NotFoundError("no such volume"); }

}  // namespace

void FakeStore::HoldSyncs() {
  absl::MutexLock lock(&mutex_);
  hold_syncs_ = true;
}

void FakeStore::ReleaseSyncs() {
  absl::MutexLock lock(&mutex_);
  hold_syncs_ = false;
}

void FakeStore::SetFreeBytes(uint64_t bytes) {
  absl::MutexLock lock(&mutex_);
  free_bytes_ = bytes;
}

bool FakeStore::HasSpaceFor(uint64_t bytes) const {
  absl::MutexLock lock(&mutex_);
  return bytes <= free_bytes_;
}

void FakeStore::FailNextSync() {
  absl::MutexLock lock(&mutex_);
  fail_next_sync_ = true;
}

int FakeStore::syncs() const {
  absl::MutexLock lock(&mutex_);
  return syncs_;
}

int FakeStore::write_calls() const {
  absl::MutexLock lock(&mutex_);
  return write_calls_;
}

void FakeStore::WaitUntilSyncsWait(int count) {
  absl::MutexLock lock(&mutex_);
  const auto waiting = [this, count]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
    return waiting_syncs_ >= count;
  };
  mutex_.Await(absl::Condition(&waiting));
}

void FakeStore::HoldDeletes() {
  absl::MutexLock lock(&mutex_);
  hold_deletes_ = true;
}

void FakeStore::ReleaseDeletes() {
  absl::MutexLock lock(&mutex_);
  hold_deletes_ = false;
}

void FakeStore::WaitUntilDeletesWait(int count) {
  absl::MutexLock lock(&mutex_);
  const auto waiting = [this, count]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
    return waiting_deletes_ >= count;
  };
  mutex_.Await(absl::Condition(&waiting));
}

store::Identity FakeStore::identity() const {
  absl::MutexLock lock(&mutex_);
  return identity_;
}

absl::Status FakeStore::BindCluster(const std::string& cluster_id) {
  absl::MutexLock lock(&mutex_);
  identity_.cluster_id = cluster_id;
  return absl::OkStatus();
}

absl::Status FakeStore::health() const {
  absl::MutexLock lock(&mutex_);
  return health_;
}

absl::Status FakeStore::CreateVolume(VolumeId id, const store::VolumeGeometry& geometry) {
  absl::MutexLock lock(&mutex_);
  const auto [found, added] = volumes_.try_emplace(id);
  store::VolumeState& state = found->second.state;
  if (!added) {
    return state.geometry.SuitsVolumeOf(geometry)
               ? absl::OkStatus()
               : absl::AlreadyExistsError("another geometry");
  }
  state.id = id;
  state.geometry = geometry;
  for (uint32_t lane = 0; lane < geometry.lanes.lanes; ++lane) {
    store::LaneState added_lane;
    added_lane.lane = LaneId{lane};
    added_lane.domain = lane % domains_;
    state.lanes.push_back(added_lane);
  }
  return absl::OkStatus();
}

absl::Status FakeStore::DeleteVolume(VolumeId id) {
  absl::MutexLock lock(&mutex_);
  const auto released = [this]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) { return !hold_deletes_; };
  ++waiting_deletes_;
  mutex_.Await(absl::Condition(&released));
  --waiting_deletes_;
  volumes_.erase(id);
  return absl::OkStatus();
}

std::vector<VolumeId> FakeStore::Volumes() const {
  absl::MutexLock lock(&mutex_);
  std::vector<VolumeId> ids;
  for (const auto& [id, volume] : volumes_) ids.push_back(id);
  return ids;
}

absl::StatusOr<store::VolumeState> FakeStore::GetVolume(VolumeId id) const {
  absl::MutexLock lock(&mutex_);
  const auto found = volumes_.find(id);
  if (found == volumes_.end()) return NoSuchVolume();
  return found->second.state;
}

absl::StatusOr<store::SpaceUsed> FakeStore::GetSpaceUsed(VolumeId id) const {
  absl::MutexLock lock(&mutex_);
  const auto found = volumes_.find(id);
  if (found == volumes_.end()) return NoSuchVolume();
  store::SpaceUsed space;
  space.live_bytes = found->second.blocks.size() * kBlockBytes;
  return space;
}

absl::Status FakeStore::UpdateVolume(VolumeId id, const store::VolumeUpdate& update) {
  absl::MutexLock lock(&mutex_);
  const auto found = volumes_.find(id);
  if (found == volumes_.end()) return NoSuchVolume();
  Volume& volume = found->second;
  if (update.version < volume.update_version) return absl::AbortedError("late");
  volume.update_version = update.version;
  volume.pins = update.pins;
  volume.state.pins.clear();
  for (const Pin& pin : update.pins) volume.state.pins.push_back(pin.id);
  uint64_t& size = volume.state.geometry.size_blocks;
  size = std::max(size, update.size_blocks);
  return absl::OkStatus();
}

absl::Status FakeStore::KeepRecord(VolumeId id, const store::RecordCopy& copy) {
  absl::MutexLock lock(&mutex_);
  const auto found = volumes_.find(id);
  if (found == volumes_.end()) return NoSuchVolume();
  store::RecordCopy& kept = found->second.record;
  if (std::pair(copy.epoch, copy.revision) >= std::pair(kept.epoch, kept.revision)) kept = copy;
  return absl::OkStatus();
}

absl::StatusOr<store::RecordCopy> FakeStore::GetRecord(VolumeId id) const {
  absl::MutexLock lock(&mutex_);
  const auto found = volumes_.find(id);
  if (found == volumes_.end()) return NoSuchVolume();
  return found->second.record;
}

absl::StatusOr<Position> FakeStore::PinnedAt(const Volume& volume, uint64_t pin, LaneId lane) {
  for (const Pin& known : volume.pins) {
    if (known.id == pin) return known.positions[Index(lane)];
  }
  return absl::NotFoundError("no such pin");
}

absl::StatusOr<std::vector<store::BlockVersion>> FakeStore::ReadPinned(VolumeId id, uint64_t pin,
                                                                       BlockRange range) const {
  absl::MutexLock lock(&mutex_);
  const auto found = volumes_.find(id);
  if (found == volumes_.end()) return NoSuchVolume();
  std::vector<store::BlockVersion> versions;
  for (uint64_t block = range.first; block < range.end(); ++block) {
    const absl::StatusOr<Position> at = PinnedAt(found->second, pin, LaneOf(found->second, block));
    if (!at.ok()) return at.status();
    const auto stored = found->second.blocks.find(block);
    if (stored == found->second.blocks.end()) continue;
    const auto version = stored->second.lower_bound(*at);
    if (version == stored->second.end()) continue;
    versions.push_back({block, version->first, version->second.data.empty(), version->second.crc,
                        version->second.data});
  }
  return versions;
}

absl::StatusOr<store::ChangedPage> FakeStore::ChangedSince(VolumeId id, uint64_t pin, LaneId lane,
                                                           uint64_t from_block,
                                                           size_t ranges_max) const {
  absl::MutexLock lock(&mutex_);
  const auto found = volumes_.find(id);
  if (found == volumes_.end()) return NoSuchVolume();
  const absl::StatusOr<Position> at = PinnedAt(found->second, pin, lane);
  if (!at.ok()) return at.status();
  store::ChangedPage page{.ranges = {}, .next_block = found->second.state.geometry.size_blocks};
  for (const auto& [block, versions] : found->second.blocks) {
    if (block < from_block || LaneOf(found->second, block) != lane) continue;
    if (versions.begin()->first <= *at) continue;
    if (page.ranges.size() == ranges_max) {
      page.next_block = block;
      break;
    }
    page.ranges.push_back({block, 1});
  }
  return page;
}

// Without other pins.
absl::StatusOr<store::KeptBlocks> FakeStore::KeptBy(VolumeId id, uint64_t pin, LaneId lane,
                                                    absl::Span<const BlockRange> ranges) const {
  absl::MutexLock lock(&mutex_);
  const auto found = volumes_.find(id);
  if (found == volumes_.end()) return NoSuchVolume();
  const absl::StatusOr<Position> at = PinnedAt(found->second, pin, lane);
  if (!at.ok()) return at.status();
  store::KeptBlocks kept;
  for (const BlockRange& range : ranges) {
    for (uint64_t block = range.first; block < range.end(); ++block) {
      const auto stored = found->second.blocks.find(block);
      if (stored == found->second.blocks.end()) continue;
      const auto version = stored->second.lower_bound(*at);
      const bool has_data = version != stored->second.end() && !version->second.data.empty();
      if (has_data && version != stored->second.begin()) ++kept.blocks;
    }
  }
  kept.own_blocks = kept.blocks;
  return kept;
}

absl::Status FakeStore::ApplyLocked(Volume& volume, const store::WriteOp& op) {
  Position& at = volume.state.lanes[Index(op.lane)].position;
  if (op.position.epoch() != at.epoch()) return ErrnoToStatus(ESTALE, "another epoch");
  if (op.position <= at) return absl::OkStatus();  // a duplicate
  if (op.position != at.Next()) return ErrnoToStatus(EAGAIN, "a gap");
  for (size_t i = 0; i < op.crcs.size(); ++i) {
    if (Crc32c(op.data.substr(i * kBlockBytes, kBlockBytes)) != op.crcs[i]) {
      return ErrnoToStatus(EBADMSG, "checksum");
    }
  }
  volume.changes.push_back({{op.position, op.range}, at});
  at = op.position;
  for (uint64_t i = 0; i < op.range.count; ++i) {
    Block& block = volume.blocks[op.range.first + i][op.position];
    block = Block();
    if (op.kind != store::WriteKind::kWrite) continue;
    block.data = std::string(op.data.substr(i * kBlockBytes, kBlockBytes));
    block.crc = op.crcs[i];
  }
  return absl::OkStatus();
}

std::vector<store::WriteResult> FakeStore::Write(VolumeId id,
                                                 absl::Span<const store::WriteOp> ops) {
  absl::MutexLock lock(&mutex_);
  ++write_calls_;
  std::vector<store::WriteResult> results(ops.size());
  const auto found = volumes_.find(id);
  for (size_t i = 0; i < ops.size(); ++i) {
    if (found == volumes_.end() || !health_.ok()) {
      results[i].status = ErrnoToStatus(EIO, "failed");
      continue;
    }
    results[i].status = ApplyLocked(found->second, ops[i]);
    results[i].lane_position = found->second.state.lanes[Index(ops[i].lane)].position;
  }
  return results;
}

absl::StatusOr<store::ReadResult> FakeStore::Read(VolumeId id, BlockRange range) const {
  absl::MutexLock lock(&mutex_);
  const auto found = volumes_.find(id);
  if (found == volumes_.end()) return NoSuchVolume();
  if (InvalidIn(found->second, range)) {
    return ErrnoToStatus(store::kBlockInvalid, "still to be copied");
  }
  store::ReadResult result;
  result.zeroes = true;
  const std::string zeros(kBlockBytes, '\0');
  for (uint64_t i = 0; i < range.count; ++i) {
    const auto block = found->second.blocks.find(range.first + i);
    const bool known = block != found->second.blocks.end();
    const Block newest = known ? block->second.begin()->second : Block();
    if (!newest.data.empty()) result.zeroes = false;
    result.data += newest.data.empty() ? zeros : newest.data;
    result.crcs.push_back(newest.data.empty() ? Crc32c(zeros) : newest.crc);
    if (!known) result.absent.push_back({range.first + i, 1});
    if (known) result.newest = std::max(result.newest, block->second.begin()->first);
  }
  if (result.zeroes) {
    result.data.clear();
    result.crcs.clear();
  }
  return result;
}

absl::StatusOr<store::ExtentsResult> FakeStore::Extents(VolumeId id, BlockRange range) const {
  absl::MutexLock lock(&mutex_);
  const auto found = volumes_.find(id);
  if (found == volumes_.end()) return NoSuchVolume();
  if (InvalidIn(found->second, range)) {
    return ErrnoToStatus(store::kBlockInvalid, "still to be copied");
  }
  store::ExtentsResult result;
  for (uint64_t i = 0; i < range.count; ++i) {
    const auto block = found->second.blocks.find(range.first + i);
    const bool has_data =
        block != found->second.blocks.end() && !block->second.begin()->second.data.empty();
    if (result.runs.empty() || result.runs.back().second != has_data) {
      result.runs.emplace_back(0, has_data);
    }
    ++result.runs.back().first;
  }
  return result;
}

absl::StatusOr<std::vector<std::pair<LaneId, Position>>> FakeStore::Flush(VolumeId id,
                                                                          uint32_t flush_nr) {
  absl::MutexLock lock(&mutex_);
  ++syncs_;
  std::vector<std::pair<LaneId, Position>> synced;
  if (const auto found = volumes_.find(id); found != volumes_.end()) {
    for (const store::LaneState& lane : found->second.state.lanes) {
      if (lane.domain == flush_nr) synced.emplace_back(lane.lane, lane.position);
    }
  }
  ++waiting_syncs_;
  const auto released = [this]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) { return !hold_syncs_; };
  mutex_.Await(absl::Condition(&released));
  --waiting_syncs_;
  if (std::exchange(fail_next_sync_, false)) health_ = ErrnoToStatus(EIO, "sync failed");
  if (!health_.ok()) return health_;
  const auto found = volumes_.find(id);
  if (found == volumes_.end()) return NoSuchVolume();
  for (const auto& [lane, position] : synced) {
    found->second.state.lanes[Index(lane)].durable_position = position;
  }
  return synced;
}

absl::Status FakeStore::NoteDurablePoints(VolumeId,
                                          absl::Span<const std::pair<LaneId, Position>>) {
  return absl::OkStatus();
}

// It never trims any.
absl::Status FakeStore::KeepChanges(VolumeId,
                                    absl::Span<const std::pair<LaneId, Position>> after) {
  absl::MutexLock lock(&mutex_);
  kept_changes_.assign(after.begin(), after.end());
  return absl::OkStatus();
}

std::vector<std::pair<LaneId, Position>> FakeStore::kept_changes() const {
  absl::MutexLock lock(&mutex_);
  return kept_changes_;
}

absl::Status FakeStore::Promise(VolumeId id, Epoch epoch) {
  absl::MutexLock lock(&mutex_);
  const auto found = volumes_.find(id);
  if (found == volumes_.end()) return NoSuchVolume();
  if (epoch < found->second.state.promised_epoch) return absl::FailedPreconditionError("lower");
  found->second.state.promised_epoch = epoch;
  return absl::OkStatus();
}

absl::StatusOr<store::Tail> FakeStore::ReadTail(VolumeId id, LaneId lane, Position from,
                                                Position to) const {
  absl::MutexLock lock(&mutex_);
  const auto found = volumes_.find(id);
  if (found == volumes_.end()) return NoSuchVolume();
  const Volume& volume = found->second;
  if (absl::Status whole = CheckWhole(volume, lane); !whole.ok()) return whole;
  store::Tail tail{.lane = lane, .from = from, .to = to, .expected = from, .lineage = {}, .changes = {},
                   .versions = {}};
  std::set<uint64_t> blocks;
  for (const auto& [change, made_after] : volume.changes) {
    if (LaneOf(volume, change.range.first) != lane) continue;
    if (change.position <= from || change.position > to) continue;
    tail.changes.push_back(change);
    for (uint64_t i = 0; i < change.range.count; ++i) blocks.insert(change.range.first + i);
  }
  for (uint64_t number : blocks) {
    const auto& [position, block] = *volume.blocks.at(number).begin();
    tail.versions.push_back({number, position, block.data.empty(), block.crc, block.data});
  }
  return tail;
}

absl::Status FakeStore::AdoptTail(VolumeId id, const store::Tail& tail) {
  absl::MutexLock lock(&mutex_);
  const auto found = volumes_.find(id);
  if (found == volumes_.end()) return NoSuchVolume();
  if (absl::Status whole = CheckWhole(found->second, tail.lane); !whole.ok()) return whole;
  store::LaneState& lane = found->second.state.lanes[Index(tail.lane)];
  if (lane.position == tail.to) return absl::OkStatus();
  if (lane.position != tail.expected) return absl::AbortedError("not where expected");
  for (const store::BlockVersion& version : tail.versions) {
    found->second.blocks[version.block][version.position] = {version.data, version.crc};
  }
  for (const store::ChangeEntry& change : tail.changes) {
    found->second.changes.push_back({change, tail.from});
  }
  lane.position = tail.to;
  lane.lineage = tail.lineage;
  return absl::OkStatus();
}

absl::Status FakeStore::TakeBase(VolumeId id, Epoch epoch, Epoch act_epoch,
                                 absl::Span<const std::pair<LaneId, Position>> expected) {
  absl::MutexLock lock(&mutex_);
  const auto found = volumes_.find(id);
  if (found == volumes_.end()) return NoSuchVolume();
  for (const auto& [lane, position] : expected) {
    if (absl::Status whole = CheckWhole(found->second, lane); !whole.ok()) return whole;
    store::LaneState& state = found->second.state.lanes[Index(lane)];
    if (state.position == Position(epoch, 0)) continue;
    if (state.position != position) return absl::AbortedError("a lane is elsewhere");
    state.lineage.push_back({state.position.epoch(), state.position.n()});
    state.position = state.durable_position = Position(epoch, 0);
  }
  return absl::OkStatus();
}

}  // namespace weir::replica
