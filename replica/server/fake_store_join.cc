// Joins of the store in memory.
#include <algorithm>
#include <cerrno>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "proto/base/crc32c.h"
#include "proto/base/errno.h"
#include "proto/base/status_macros.h"
#include "replica/server/fake_store.h"
#include "replica/store/history.h"

namespace weir::replica {
namespace {

absl::Status NoSuchVolume() { return absl::NotFoundError("no such volume"); }

constexpr uint64_t kNoWatermark = ~uint64_t{0};

bool Covers(const std::vector<BlockRange>& ranges, uint64_t block) {
  return std::any_of(ranges.begin(), ranges.end(), [block](const BlockRange& range) {
    return block >= range.first && block < range.end();
  });
}

}  // namespace

bool FakeStore::InvalidIn(const Volume& volume, BlockRange range) {
  const auto next = volume.invalid.lower_bound(range.first);
  return next != volume.invalid.end() && *next < range.end();
}

void FakeStore::CountInvalid(Volume& volume, LaneId lane) {
  volume.state.lanes[Index(lane)].invalid_blocks = static_cast<uint64_t>(
      std::count_if(volume.invalid.begin(), volume.invalid.end(),
                    [&](uint64_t block) { return LaneOf(volume, block) == lane; }));
}

absl::Status FakeStore::CheckLane(const Volume& volume, LaneId lane) {
  if (Index(lane) < volume.state.lanes.size()) return absl::OkStatus();
  return absl::InvalidArgumentError("no such lane");
}

absl::Status FakeStore::CheckWhole(const Volume& volume, LaneId lane) {
  RETURN_IF_ERROR(CheckLane(volume, lane));
  if (volume.state.lanes[Index(lane)].invalid_blocks == 0) return absl::OkStatus();
  return absl::FailedPreconditionError("blocks are still to be copied");
}

absl::StatusOr<std::vector<BlockRange>> FakeStore::ReadChanges(VolumeId id, LaneId lane_id,
                                                               Position from, Position to) const {
  absl::MutexLock lock(&mutex_);
  const auto found = volumes_.find(id);
  if (found == volumes_.end()) return NoSuchVolume();
  const Volume& volume = found->second;
  RETURN_IF_ERROR(CheckLane(volume, lane_id));
  if (from > to) return absl::InvalidArgumentError("ends before it begins");
  const store::LaneState& lane = volume.state.lanes[Index(lane_id)];
  if (!store::OnHistory(lane.lineage, lane.position, to)) {
    return absl::FailedPreconditionError("not on the history");
  }
  const auto known = volume.known.find(lane_id);
  if (!store::OnHistory(lane.lineage, lane.position, from) ||
      (known != volume.known.end() && from < known->second)) {
    return absl::OutOfRangeError("changes are not known");
  }
  std::set<uint64_t> blocks;
  for (const Change& change : volume.changes) {
    if (LaneOf(volume, change.entry.range.first) != lane_id) continue;
    if (change.entry.position <= from || change.made_after >= to) continue;
    for (uint64_t i = 0; i < change.entry.range.count; ++i) {
      blocks.insert(change.entry.range.first + i);
    }
  }
  std::vector<BlockRange> ranges;
  for (uint64_t block : blocks) {
    const bool joins = !ranges.empty() && ranges.back().end() == block &&
                       block % volume.state.geometry.lanes.stripe_blocks != 0;
    if (joins) {
      ++ranges.back().count;
    } else {
      ranges.push_back({block, 1});
    }
  }
  return ranges;
}

void FakeStore::MarkForJoin(Volume& volume, const store::JoinLane& join) {
  const auto mark = [&volume](BlockRange range) {
    for (uint64_t i = 0; i < range.count; ++i) volume.invalid.insert(range.first + i);
  };
  for (const BlockRange& range : join.changes) mark(range);
  for (const BlockRange& range : join.invalid) mark(range);
  const auto cut_off = [&](const Change& change) {
    return LaneOf(volume, change.entry.range.first) == join.lane &&
           change.entry.position > join.common;
  };
  for (const Change& change : volume.changes) {
    if (!cut_off(change)) continue;
    mark(change.entry.range);
    if (change.made_after >= join.common) continue;
    Position& known = volume.known[join.lane];
    known = std::max(known, join.common);
  }
  std::erase_if(volume.changes, cut_off);
  for (const BlockRange& range : join.changes) {
    volume.changes.push_back({{join.to, range}, join.common});
  }
}

absl::Status FakeStore::BeginJoin(VolumeId id, const store::JoinLane& join) {
  absl::MutexLock lock(&mutex_);
  const auto found = volumes_.find(id);
  if (found == volumes_.end()) return NoSuchVolume();
  Volume& volume = found->second;
  RETURN_IF_ERROR(CheckLane(volume, join.lane));
  store::LaneState& lane = volume.state.lanes[Index(join.lane)];
  if (join.join_id == 0 || join.to < join.expected ||
      !store::IsLineage(join.lineage, join.to.epoch())) {
    return absl::InvalidArgumentError("cannot join so");
  }
  if (join.to.epoch() < volume.state.promised_epoch) return ErrnoToStatus(ESTALE, "promised");
  if (lane.join_id == join.join_id && lane.join_to == join.to) return absl::OkStatus();
  if (lane.join_id == join.join_id || lane.position != join.expected) {
    return absl::AbortedError("not where it was expected");
  }
  if (join.everything) {
    for (uint64_t block = 0; block < volume.state.geometry.size_blocks; ++block) {
      if (LaneOf(volume, block) == join.lane) volume.invalid.insert(block);
    }
    volume.watermark[join.lane] = 0;
    volume.known[join.lane] = join.to;
  } else {
    if (!store::OnHistory(lane.lineage, lane.position, join.common) ||
        !store::OnHistory(join.lineage, join.to, join.common)) {
      return absl::InvalidArgumentError("not on both histories");
    }
    if (join.common < volume.known[join.lane]) return absl::OutOfRangeError("not known");
    MarkForJoin(volume, join);
  }
  lane.position = lane.join_to = join.to;
  lane.lineage = join.lineage;
  lane.join_id = join.join_id;
  CountInvalid(volume, join.lane);
  return absl::OkStatus();
}

absl::StatusOr<store::VersionsPart> FakeStore::ReadVersions(VolumeId id, LaneId lane_id,
                                                            absl::Span<const BlockRange> ranges,
                                                            Position at_most, uint64_t bytes_max,
                                                            store::Damaged) const {
  absl::MutexLock lock(&mutex_);
  const auto found = volumes_.find(id);
  if (found == volumes_.end()) return NoSuchVolume();
  const Volume& volume = found->second;
  RETURN_IF_ERROR(CheckWhole(volume, lane_id));
  const store::LaneState& lane = volume.state.lanes[Index(lane_id)];
  if (!store::OnHistory(lane.lineage, lane.position, at_most)) {
    return absl::FailedPreconditionError("not on the history");
  }
  store::VersionsPart part;
  part.position = lane.position;
  uint64_t bytes = 0;
  for (const BlockRange& range : ranges) {
    for (auto it = volume.blocks.lower_bound(range.first);
         it != volume.blocks.end() && it->first < range.end(); ++it) {
      if (LaneOf(volume, it->first) != lane_id) continue;
      if (bytes >= bytes_max) {
        if (it->first > range.first) part.ranges.push_back({range.first, it->first - range.first});
        return part;
      }
      for (auto version = it->second.lower_bound(at_most); version != it->second.end(); ++version) {
        const Block& block = version->second;
        part.versions.push_back(
            {it->first, version->first, block.data.empty(), block.crc, block.data});
        bytes += 48 + block.data.size();
      }
    }
    part.ranges.push_back(range);
  }
  return part;
}

absl::Status FakeStore::CheckCopy(const Volume& volume, const store::CopyPart& part) {
  RETURN_IF_ERROR(CheckLane(volume, part.lane));
  const store::LaneState& lane = volume.state.lanes[Index(part.lane)];
  if (lane.join_id == 0 || lane.join_id != part.join_id || lane.join_to != part.to) {
    return absl::AbortedError("another join");
  }
  for (const store::BlockVersion& version : part.versions) {
    if (!version.zero && Crc32c(version.data) != version.crc) {
      return ErrnoToStatus(EBADMSG, "checksum");
    }
    if (version.position > part.to || !Covers(part.ranges, version.block) ||
        LaneOf(volume, version.block) != part.lane) {
      return absl::InvalidArgumentError("not of this copy");
    }
  }
  const auto found = volume.watermark.find(part.lane);
  uint64_t watermark = found == volume.watermark.end() ? kNoWatermark : found->second;
  for (const BlockRange& range : part.ranges) {
    if (range.end() <= watermark) continue;
    for (uint64_t block = watermark; block < range.first; ++block) {
      if (LaneOf(volume, block) != part.lane) continue;
      return absl::FailedPreconditionError("does not follow");
    }
    watermark = range.end();
  }
  return absl::OkStatus();
}

absl::Status FakeStore::CopyIn(VolumeId id, const store::CopyPart& part) {
  absl::MutexLock lock(&mutex_);
  const auto found = volumes_.find(id);
  if (found == volumes_.end()) return NoSuchVolume();
  Volume& volume = found->second;
  RETURN_IF_ERROR(CheckCopy(volume, part));
  for (const BlockRange& range : part.ranges) {
    for (uint64_t block = range.first; block < range.end(); ++block) {
      if (LaneOf(volume, block) != part.lane || volume.invalid.erase(block) == 0) continue;
      Versions& versions = volume.blocks[block];
      versions.erase(versions.lower_bound(part.to), versions.end());
      for (const store::BlockVersion& version : part.versions) {
        if (version.block == block) versions[version.position] = {version.data, version.crc};
      }
      if (versions.empty()) volume.blocks.erase(block);
    }
    const auto watermark = volume.watermark.find(part.lane);
    if (watermark != volume.watermark.end()) {
      watermark->second = std::max(watermark->second, range.end());
    }
  }
  CountInvalid(volume, part.lane);
  return absl::OkStatus();
}

absl::Status FakeStore::Repair(VolumeId id, const store::CopyPart& part) {
  absl::MutexLock lock(&mutex_);
  const auto found = volumes_.find(id);
  if (found == volumes_.end()) return NoSuchVolume();
  Volume& volume = found->second;
  RETURN_IF_ERROR(CheckLane(volume, part.lane));
  const store::LaneState& lane = volume.state.lanes[Index(part.lane)];
  if (lane.join_id != 0 || lane.position.epoch() != part.to.epoch() || lane.position < part.to) {
    return absl::FailedPreconditionError("in a join, or not there yet");
  }
  for (const store::BlockVersion& version : part.versions) {
    volume.blocks[version.block][version.position] = {version.data, version.crc};
  }
  return absl::OkStatus();
}

absl::StatusOr<store::InvalidPage> FakeStore::InvalidBlocks(VolumeId id, LaneId lane_id,
                                                            uint64_t from_block,
                                                            size_t ranges_max) const {
  absl::MutexLock lock(&mutex_);
  const auto found = volumes_.find(id);
  if (found == volumes_.end()) return NoSuchVolume();
  const Volume& volume = found->second;
  RETURN_IF_ERROR(CheckLane(volume, lane_id));
  if (ranges_max == 0) return absl::InvalidArgumentError("an empty page");
  const store::LaneState& lane = volume.state.lanes[Index(lane_id)];
  store::InvalidPage page{.join_id = lane.join_id, .to = lane.join_to,
                          .invalid_blocks = lane.invalid_blocks,
                          .next_block = volume.state.geometry.size_blocks};
  for (auto it = volume.invalid.lower_bound(from_block); it != volume.invalid.end(); ++it) {
    if (LaneOf(volume, *it) != lane_id) continue;
    if (!page.ranges.empty() && page.ranges.back().end() == *it) {
      ++page.ranges.back().count;
    } else if (page.ranges.size() == ranges_max) {
      page.next_block = *it;
      break;
    } else {
      page.ranges.push_back({*it, 1});
    }
  }
  return page;
}

absl::Status FakeStore::FinishJoin(VolumeId id, uint64_t join_id) {
  absl::MutexLock lock(&mutex_);
  const auto found = volumes_.find(id);
  if (found == volumes_.end()) return NoSuchVolume();
  for (const store::LaneState& lane : found->second.state.lanes) {
    if (lane.join_id != 0 && lane.join_id != join_id) return absl::AbortedError("another join");
    RETURN_IF_ERROR(CheckWhole(found->second, lane.lane));
  }
  for (store::LaneState& lane : found->second.state.lanes) {
    lane.join_id = 0;
    lane.join_to = Position();
  }
  found->second.watermark.clear();
  return absl::OkStatus();
}

absl::StatusOr<BlockDigests> FakeStore::Digests(VolumeId id, LaneId lane_id, BlockRange range,
                                                Position at, uint64_t bytes_max) const {
  absl::MutexLock lock(&mutex_);
  const auto found = volumes_.find(id);
  if (found == volumes_.end()) return NoSuchVolume();
  const Volume& volume = found->second;
  RETURN_IF_ERROR(CheckWhole(volume, lane_id));
  if (range.count == 0 || range.end() > volume.state.geometry.size_blocks) {
    return absl::InvalidArgumentError("no such blocks");
  }
  const store::LaneState& lane = volume.state.lanes[Index(lane_id)];
  if (!store::OnHistory(lane.lineage, lane.position, at)) {
    return absl::FailedPreconditionError("not on the history");
  }
  BlockDigests digests;
  digests.next_block = range.end();
  for (auto it = volume.blocks.lower_bound(range.first);
       it != volume.blocks.end() && it->first < range.end(); ++it) {
    if (LaneOf(volume, it->first) != lane_id) continue;
    if (digests.bytes_read >= bytes_max && !digests.blocks.empty()) {
      digests.next_block = it->first;
      break;
    }
    const auto& [position, block] = *it->second.begin();
    BlockDigest digest{it->first, BlockDigest::Kind::kNewer, position};
    if (position <= at && block.data.empty()) {
      digest.kind = BlockDigest::Kind::kZeroes;
    } else if (position <= at) {
      digest.kind = BlockDigest::Kind::kData;
      digest.crc = block.crc;
      digests.bytes_read += kBlockBytes;
    }
    digests.blocks.push_back(digest);
  }
  return digests;
}

}  // namespace weir::replica
