// Pins of the model store, and its size.
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "proto/base/errno.h"
#include "tests/sim/model_store.h"

namespace weir::sim {

absl::Status ModelStore::UpdateVolume(VolumeId, const store::VolumeUpdate& update) {
  if (!health_.ok()) return health_;
  if (!has_volume_) return ErrnoToStatus(ENOENT, "no such volume");
  if (update.version < update_version_) return absl::AbortedError("a later update has come");
  for (uint32_t d = 0; d < domains_; ++d) {
    if (absl::Status status = Sync(d); !status.ok()) return status;
  }
  update_version_ = update.version;
  for (const Pin& pin : update.pins) {
    if (!has_pin(pin)) MissedPin(pin);
  }
  pins_ = update.pins;
  geometry_.size_blocks = std::max(geometry_.size_blocks, update.size_blocks);
  for (Image* image : {&now_, &disk_}) {
    image->blocks.resize(geometry_.size_blocks);
    for (uint64_t b = image->invalid.size(); b < geometry_.size_blocks; ++b) {
      image->invalid.push_back(b >= image->lanes[Index(geometry_.lanes.LaneOf(b))].watermark);
    }
  }
  return absl::OkStatus();
}

void ModelStore::MissedPin(const Pin& pin) {
  for (Image* image : {&now_, &disk_}) {
    for (size_t i = 0; i < image->lanes.size(); ++i) {
      Lane& lane = image->lanes[i];
      if (pin.positions[i] >= lane.position) continue;
      lane.trimmed = std::max(lane.trimmed, lane.position.Next());
      lane.changes.clear();
    }
  }
}

absl::Status ModelStore::KeepRecord(VolumeId, const store::RecordCopy& copy) {
  if (!health_.ok()) return health_;
  if (!has_volume_) return ErrnoToStatus(ENOENT, "no such volume");
  if (std::pair(copy.epoch, copy.revision) >= std::pair(record_.epoch, record_.revision)) record_ = copy;
  return absl::OkStatus();
}

absl::StatusOr<store::RecordCopy> ModelStore::GetRecord(VolumeId) const {
  if (!has_volume_) return ErrnoToStatus(ENOENT, "no such volume");
  return record_;
}

absl::StatusOr<Position> ModelStore::PinnedAt(uint64_t pin, uint32_t lane) const {
  for (const Pin& known : pins_) {
    if (known.id != pin) continue;
    if (OnHistory(now_.lanes[lane], known.positions[lane])) return known.positions[lane];
    return absl::FailedPreconditionError("the lane has not come to the pin");
  }
  return ErrnoToStatus(ENOENT, "no such pin");
}

bool ModelStore::Pinned(uint32_t lane, Position older, Position newer) const {
  return std::any_of(pins_.begin(), pins_.end(), [&](const Pin& pin) {
    return older <= pin.positions[lane] && pin.positions[lane] < newer;
  });
}

absl::StatusOr<std::vector<store::BlockVersion>> ModelStore::ReadPinned(VolumeId, uint64_t pin,
                                                                        BlockRange range) const {
  if (!health_.ok()) return health_;
  if (!has_volume_) return ErrnoToStatus(ENOENT, "no such volume");
  if (range.end() > geometry_.size_blocks) return absl::OutOfRangeError("past the volume's end");
  std::vector<store::BlockVersion> versions;
  for (uint64_t b = range.first; b < range.end(); ++b) {
    const absl::StatusOr<Position> at = PinnedAt(pin, Index(geometry_.lanes.LaneOf(b)));
    if (!at.ok()) return at.status();
    if (now_.invalid[b]) return ErrnoToStatus(store::kBlockInvalid, "not copied yet");
    const std::vector<Version>& all = now_.blocks[b];
    const auto next = std::find_if(all.begin(), all.end(),
                                   [&](const Version& v) { return v.position > *at; });
    if (next == all.begin()) continue;
    const Version& found = *(next - 1);
    if (rotten_.contains({b, found.position})) return ErrnoToStatus(EBADMSG, "damaged");
    store::BlockVersion version{.block = b, .position = found.position, .zero = found.value == 0};
    if (!version.zero) {
      version.data.resize(kBlockBytes);
      std::memcpy(version.data.data(), &found.value, sizeof(found.value));
    }
    versions.push_back(std::move(version));
  }
  return versions;
}

absl::StatusOr<store::ChangedPage> ModelStore::ChangedSince(VolumeId, uint64_t pin, LaneId lane,
                                                            uint64_t from_block,
                                                            size_t ranges_max) const {
  if (!health_.ok()) return health_;
  const absl::StatusOr<Position> at = PinnedAt(pin, Index(lane));
  if (!at.ok()) return at.status();
  if (HasInvalid(Index(lane))) return absl::FailedPreconditionError("blocks are to be copied");
  store::ChangedPage page{.ranges = {}, .next_block = geometry_.size_blocks};
  for (uint64_t b = from_block; b < geometry_.size_blocks; ++b) {
    const std::vector<Version>& all = now_.blocks[b];
    if (!OfLane(b, Index(lane)) || all.empty() || all.back().position <= *at) continue;
    if (page.ranges.size() == ranges_max) {
      page.next_block = b;
      break;
    }
    page.ranges.push_back({b, 1});
  }
  return page;
}

absl::StatusOr<store::KeptBlocks> ModelStore::KeptBy(VolumeId, uint64_t pin, LaneId lane,
                                                     absl::Span<const BlockRange> ranges) const {
  if (!health_.ok()) return health_;
  const absl::StatusOr<Position> at = PinnedAt(pin, Index(lane));
  if (!at.ok()) return at.status();
  store::KeptBlocks kept;
  for (const BlockRange& range : ranges) {
    for (uint64_t b = range.first; b < range.end(); ++b) {
      const std::vector<Version>& all = now_.blocks[b];
      const auto next = std::find_if(all.begin(), all.end(), [&](const Version& v) { return v.position > *at; });
      if (next == all.begin() || next == all.end() || (next - 1)->value == 0) continue;
      ++kept.blocks;
      const bool shared = std::any_of(pins_.begin(), pins_.end(), [&](const Pin& other) {
        const Position position = other.positions[Index(lane)];
        return other.id != pin && (next - 1)->position <= position && position < next->position;
      });
      if (!shared) ++kept.own_blocks;
    }
  }
  return kept;
}

}  // namespace weir::sim
