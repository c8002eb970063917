// Joins, repairs and scrubs of the model store.
#include <algorithm>
#include <cerrno>
#include <cstring>

#include "proto/base/errno.h"
#include "tests/sim/model_store.h"

namespace weir::sim {
namespace {

// Ascending, within a stripe each.
std::vector<BlockRange> RangesOf(const std::vector<uint64_t>& blocks, uint64_t stripe_blocks) {
  std::vector<BlockRange> ranges;
  for (uint64_t block : blocks) {
    const bool joins = !ranges.empty() && ranges.back().end() == block && block % stripe_blocks != 0;
    if (joins) {
      ++ranges.back().count;
    } else {
      ranges.push_back({block, 1});
    }
  }
  return ranges;
}

}  // namespace

bool ModelStore::HasInvalid(uint32_t lane) const {
  for (uint64_t b = 0; b < geometry_.size_blocks; ++b) {
    if (now_.invalid[b] && OfLane(b, lane)) return true;
  }
  return false;
}

bool ModelStore::AnyInvalid(BlockRange range) const {
  for (uint64_t b = range.first; b < range.end(); ++b) {
    if (now_.invalid[b]) return true;
  }
  return false;
}

absl::Status ModelStore::KeepChanges(VolumeId, absl::Span<const std::pair<LaneId, Position>> after) {
  keep_after_.assign(after.begin(), after.end());
  return absl::OkStatus();
}

absl::StatusOr<std::vector<BlockRange>> ModelStore::ReadChanges(VolumeId, LaneId id, Position from,
                                                                Position to) const {
  if (!health_.ok()) return health_;
  const Lane& lane = now_.lanes[Index(id)];
  if (!OnHistory(lane, to)) return absl::FailedPreconditionError("the lane has not come there");
  if (!OnHistory(lane, from)) return absl::OutOfRangeError("not on the lane's history");
  if (from < lane.trimmed) return absl::OutOfRangeError("changes are trimmed");
  std::vector<uint64_t> blocks;
  for (const Change& change : lane.changes) {
    if (change.position <= from || change.made_after >= to) continue;
    for (uint64_t b = change.range.first; b < change.range.end(); ++b) blocks.push_back(b);
  }
  std::sort(blocks.begin(), blocks.end());
  blocks.erase(std::unique(blocks.begin(), blocks.end()), blocks.end());
  return RangesOf(blocks, geometry_.lanes.stripe_blocks);
}

absl::Status ModelStore::BeginJoin(VolumeId, const store::JoinLane& join) {
  if (!health_.ok()) return health_;
  const uint32_t index = Index(join.lane);
  const Lane& lane = now_.lanes[index];
  if (join.to.epoch() < promised_) return ErrnoToStatus(ESTALE, "promised more");
  if (lane.join_id == join.join_id && lane.join_to == join.to) return absl::OkStatus();
  if (lane.position != join.expected) return absl::AbortedError("the lane is elsewhere");
  if (!join.everything && join.common < lane.trimmed) {
    return absl::OutOfRangeError("its own changes are trimmed");
  }
  Batch batch;
  batch.lane = index;
  batch.to = join.to;
  batch.sets_lineage = true;
  batch.lineage = join.lineage;
  batch.more = [this, join, index](Image& image) {
    Lane& at = image.lanes[index];
    at.join_id = join.join_id;
    at.join_to = join.to;
    auto mark = [&](BlockRange range) {
      for (uint64_t b = range.first; b < range.end(); ++b) {
        if (OfLane(b, index)) image.invalid[b] = true;
      }
    };
    if (join.everything) {
      mark({0, geometry_.size_blocks});
      at.watermark = 0;
      at.changes.clear();
      at.trimmed = join.to;
      at.noted = Position();
      return;
    }
    for (const Change& change : at.changes) {
      if (change.position <= join.common) continue;
      mark(change.range);
      // One that came with a join stands for all since that one's common point.
      if (change.made_after < join.common) at.trimmed = std::max(at.trimmed, join.common);
    }
    std::erase_if(at.changes, [&](const Change& c) { return c.position > join.common; });
    for (const std::vector<BlockRange>* ranges : {&join.changes, &join.invalid}) {
      for (const BlockRange& range : *ranges) mark(range);
    }
    for (const BlockRange& range : join.changes) {
      at.changes.push_back({join.to, join.common, range});
    }
  };
  Commit(std::move(batch));
  return absl::OkStatus();
}

absl::StatusOr<store::VersionsPart> ModelStore::ReadVersions(VolumeId, LaneId id,
                                                             absl::Span<const BlockRange> ranges,
                                                             Position at_most, uint64_t bytes_max,
                                                             store::Damaged damaged) const {
  if (!health_.ok()) return health_;
  const Lane& lane = now_.lanes[Index(id)];
  if (!OnHistory(lane, at_most) || HasInvalid(Index(id))) {
    return absl::FailedPreconditionError("it is no source");
  }
  store::VersionsPart part;
  part.position = lane.position;
  std::vector<uint64_t> covered;
  uint64_t bytes = 0;
  for (const BlockRange& range : ranges) {
    for (uint64_t b = range.first; b < range.end() && (covered.empty() || bytes < bytes_max); ++b) {
      if (!OfLane(b, Index(id))) continue;
      covered.push_back(b);
      bytes += kBlockBytes;
      const std::vector<Version>& all = *versions(b);
      for (auto v = all.rbegin(); v != all.rend(); ++v) {
        if (v->position > at_most) continue;
        const bool rotten = rotten_.contains({b, v->position});
        if (rotten && damaged == store::Damaged::kRefused) return ErrnoToStatus(EBADMSG, "damaged");
        // The data too, for judges alone: whoever takes it over has it as rotten.
        store::BlockVersion version{.block = b, .position = v->position, .zero = v->value == 0, .crc = 0, .data = "", .lost = rotten};
        if (!version.zero) {
          version.data.resize(kBlockBytes);
          std::memcpy(version.data.data(), &v->value, sizeof(v->value));
        }
        part.versions.push_back(std::move(version));
      }
    }
  }
  part.ranges = RangesOf(covered, geometry_.lanes.stripe_blocks);
  return part;
}

absl::Status ModelStore::CopyIn(VolumeId, const store::CopyPart& part) {
  if (!health_.ok()) return health_;
  const uint32_t index = Index(part.lane);
  const Lane& lane = now_.lanes[index];
  if (lane.join_id == 0 || lane.join_id != part.join_id || lane.join_to != part.to) {
    return absl::AbortedError("of another join");
  }
  uint64_t watermark = lane.watermark;
  for (const BlockRange& range : part.ranges) {
    if (range.end() <= watermark) continue;
    for (uint64_t b = watermark; b < range.first; ++b) {
      if (OfLane(b, index)) return absl::FailedPreconditionError("blocks before it are to be copied first");
    }
    watermark = range.end();
  }
  Batch batch;
  batch.lane = index;
  batch.to = lane.position;
  batch.more = [this, part, index, watermark](Image& image) {
    image.lanes[index].watermark = watermark;
    for (const BlockRange& range : part.ranges) {
      for (uint64_t b = range.first; b < range.end(); ++b) {
        if (!OfLane(b, index) || !image.invalid[b]) continue;
        image.invalid[b] = false;
        std::vector<Version>& all = image.blocks[b];
        const std::vector<Version> had = all;
        std::erase_if(all, [&](const Version& v) { return v.position <= part.to; });
        for (const store::BlockVersion& v : part.versions) {
          if (v.block != b) continue;
          all.insert(all.begin(), {v.position, ValueOf(v.data, 0)});
          const bool has = std::any_of(had.begin(), had.end(), [&](const Version& own) { return own.position == v.position; });
          if (!v.lost) rotten_.erase({b, v.position});
          if (v.lost && !has) rotten_.insert({b, v.position});
        }
      }
    }
  };
  Commit(std::move(batch));
  return absl::OkStatus();
}

absl::Status ModelStore::Repair(VolumeId, const store::CopyPart& part) {
  if (!health_.ok()) return health_;
  const uint32_t index = Index(part.lane);
  const Lane& lane = now_.lanes[index];
  if (HasInvalid(index) || !OnHistory(lane, part.to)) {
    return absl::FailedPreconditionError("in a join, or not there yet");
  }
  Batch batch;
  batch.lane = index;
  batch.to = lane.position;
  batch.more = [part](Image& image) {
    for (const store::BlockVersion& v : part.versions) {
      if (v.lost) continue;
      std::vector<Version>& all = image.blocks[v.block];
      const Version given{v.position, ValueOf(v.data, 0)};
      const auto at = std::lower_bound(
          all.begin(), all.end(), v.position,
          [](const Version& has, Position position) { return has.position < position; });
      if (at != all.end() && at->position == v.position) {
        *at = given;
      } else {
        all.insert(at, given);
      }
    }
  };
  Commit(std::move(batch));
  for (const store::BlockVersion& v : part.versions) {
    if (!v.lost) rotten_.erase({v.block, v.position});
  }
  return absl::OkStatus();
}

absl::StatusOr<store::InvalidPage> ModelStore::InvalidBlocks(VolumeId, LaneId id,
                                                             uint64_t from_block,
                                                             size_t ranges_max) const {
  if (!health_.ok()) return health_;
  store::InvalidPage page;
  page.join_id = now_.lanes[Index(id)].join_id;
  page.to = now_.lanes[Index(id)].join_to;
  page.next_block = geometry_.size_blocks;
  std::vector<uint64_t> blocks;
  for (uint64_t b = 0; b < geometry_.size_blocks; ++b) {
    if (!now_.invalid[b] || !OfLane(b, Index(id))) continue;
    ++page.invalid_blocks;
    if (b >= from_block) blocks.push_back(b);
  }
  page.ranges = RangesOf(blocks, geometry_.lanes.stripe_blocks);
  if (page.ranges.size() > ranges_max) {
    page.ranges.resize(ranges_max);
    page.next_block = page.ranges.back().end();
  }
  return page;
}

absl::Status ModelStore::FinishJoin(VolumeId, uint64_t join_id) {
  if (!health_.ok()) return health_;
  for (uint32_t i = 0; i < now_.lanes.size(); ++i) {
    const uint64_t has = now_.lanes[i].join_id;
    if (has != 0 && has != join_id) return absl::AbortedError("of another join");
    if (HasInvalid(i)) return absl::FailedPreconditionError("blocks are still marked");
  }
  for (uint32_t i = 0; i < now_.lanes.size(); ++i) {
    Batch batch;
    batch.lane = i;
    batch.to = now_.lanes[i].position;
    batch.more = [i](Image& image) {
      image.lanes[i].join_id = 0;
      image.lanes[i].join_to = Position();
      image.lanes[i].watermark = kNoWatermark;
    };
    Commit(std::move(batch));
  }
  return absl::OkStatus();
}

absl::StatusOr<BlockDigests> ModelStore::Digests(VolumeId, LaneId id, BlockRange range,
                                                 Position at, uint64_t bytes_max) const {
  using Kind = BlockDigest::Kind;
  if (!health_.ok()) return health_;
  if (range.end() > geometry_.size_blocks) return absl::InvalidArgumentError("past the volume's end");
  if (!OnHistory(now_.lanes[Index(id)], at) || HasInvalid(Index(id))) {
    return absl::FailedPreconditionError("not there yet, or in a join");
  }
  BlockDigests digests;
  digests.next_block = range.end();
  for (uint64_t b = range.first; b < range.end(); ++b) {
    if (!OfLane(b, Index(id)) || now_.blocks[b].empty()) continue;
    if (digests.bytes_read >= bytes_max) {
      digests.next_block = b;
      break;
    }
    digests.bytes_read += kBlockBytes;
    const Version& newest = now_.blocks[b].back();
    BlockDigest digest{b, Kind::kZeroes, newest.position};
    if (newest.position > at) {
      digest.kind = Kind::kNewer;
    } else if (damaged(b)) {
      digest.kind = Kind::kDamaged;
    } else if (newest.value != 0) {
      digest.kind = Kind::kData;
      digest.crc = static_cast<uint32_t>(newest.value);
    }
    digests.blocks.push_back(digest);
  }
  return digests;
}

}  // namespace weir::sim
