// Pins, and the size: what the volume's record says that a replica must know; reading at a pin.
#include <algorithm>
#include <cerrno>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <utility>

#include "absl/algorithm/container.h"
#include "absl/strings/str_cat.h"
#include "proto/base/errno.h"
#include "proto/base/status_macros.h"
#include "replica/store/disk_store.h"
#include "replica/store/history.h"
#include "replica/store/rocks.h"

namespace weir::store {
namespace {

// One page of ChangedSince looks at no more index entries.
constexpr uint64_t kScanMax = 1 << 18;

absl::Status ValidateUpdate(const VolumeGeometry& geometry, const VolumeUpdate& update) {
  if (update.size_blocks >= kBlocksMax || update.pins.size() > kPinsMax) {
    return absl::InvalidArgumentError(absl::StrCat("a volume of ", update.size_blocks,
                                                   " blocks with ", update.pins.size(), " pins"));
  }
  std::set<uint64_t> ids;
  for (const Pin& pin : update.pins) {
    if (pin.id != 0 && pin.positions.size() == geometry.lanes.lanes && ids.insert(pin.id).second) {
      continue;
    }
    return absl::InvalidArgumentError(
        absl::StrCat("pin ", pin.id, " has ", pin.positions.size(), " lanes, or comes twice"));
  }
  return absl::OkStatus();
}

// Goes to the block's newest version at or below `at` that is on the lane's history, or was before that was forgotten. Nothing: it has none, or
// the iterator's status says why that is not known.
std::optional<Position> SeekPinned(const BlockAddress& address, Position at, const Lane::State& state, rocksdb::Iterator* versions) {
  VersionKeyParts parts;
  for (versions->Seek(VersionKey(address, at)); versions->Valid() && ParseVersionKey(View(versions->key()), &parts) &&
                                                parts.address.volume == address.volume && parts.address.lane == address.lane &&
                                                parts.address.block == address.block;
       versions->Next()) {
    if (OnHistory(state.lineage, state.position, parts.position) || IsForgotten(state.lineage, state.position, parts.position)) {
      return parts.position;
    }
  }
  return std::nullopt;
}

std::vector<LanePin> PinsOfLane(const VolumeUpdate& update, LaneId lane) {
  std::vector<LanePin> pins;
  for (const Pin& pin : update.pins) pins.push_back({pin.id, pin.positions[Index(lane)]});
  return pins;
}

// Those of `before` that are not in `after`.
std::vector<LanePin> Dropped(const std::vector<LanePin>& before,
                             const std::vector<LanePin>& after) {
  std::vector<LanePin> dropped;
  for (const LanePin& pin : before) {
    if (std::find(after.begin(), after.end(), pin) == after.end()) dropped.push_back(pin);
  }
  return dropped;
}

// Whether the lane has come past one of `pins` without having it: versions that it needs may be gone.
bool HasMissedAny(const Lane::State& state, const std::vector<LanePin>& pins) {
  return absl::c_any_of(Dropped(pins, state.pins),
                        [&state](const LanePin& pin) { return pin.position < state.position; });
}

std::unique_ptr<rocksdb::Iterator> NewIterator(const Domain& domain, Family family) {
  rocksdb::ReadOptions options;
  options.fill_cache = false;
  return std::unique_ptr<rocksdb::Iterator>(
      domain.db()->NewIterator(options, domain.family(family)));
}

}  // namespace

std::vector<uint64_t> Volume::pins() const {
  std::map<uint64_t, size_t> seen;
  for (const auto& lane : lanes) {
    for (const LanePin& pin : lane->state().pins) ++seen[pin.id];
  }
  std::vector<uint64_t> ids;
  for (const auto& [id, count] : seen) {
    if (count == lanes.size()) ids.push_back(id);
  }
  return ids;
}

// Pins that come hold from before they are written, pins that go until their going is synced: else
// a power cut could bring one back whose versions were reclaimed. A pin that went and comes back, as
// an older record can make it, finds the lane past it: then no delta makes that lane whole, only a copy of everything.
absl::Status DiskStore::UpdateVolume(VolumeId id, const VolumeUpdate& update) {
  InTurn turn(&admin_);
  ASSIGN_OR_RETURN(std::shared_ptr<Volume> volume, Find(id));
  VolumeGeometry geometry = volume->geometry();
  RETURN_IF_ERROR(ValidateUpdate(geometry, update));
  {
    absl::MutexLock lock(&volume->mutex);
    if (update.version < volume->update_version) {
      return absl::AbortedError(absl::StrCat("update ", update.version, " comes after ",
                                             volume->update_version));
    }
  }
  std::vector<std::shared_ptr<Lane>> past;
  for (const auto& lane : volume->lanes) {
    if (HasMissedAny(lane->state(), PinsOfLane(update, lane->id))) past.push_back(lane);
  }
  LaneClaim claim(past);
  bool any_dropped = false;
  for (const auto& lane : volume->lanes) {
    std::vector<LanePin> both = PinsOfLane(update, lane->id);
    for (const LanePin& pin : Dropped(lane->state().pins, both)) {
      both.push_back(pin);
      any_dropped = true;
    }
    lane->SetPins(std::move(both));
  }
  RETURN_IF_ERROR(WriteUpdate(*volume, update, past));
  for (const auto& lane : volume->lanes) lane->SetPins(PinsOfLane(update, lane->id));
  geometry.size_blocks = std::max(geometry.size_blocks, update.size_blocks);
  volume->set_geometry(geometry);
  {
    absl::MutexLock lock(&volume->mutex);
    volume->update_version = update.version;
  }
  for (uint32_t i = 0; any_dropped && i < DomainsOf(geometry); ++i) relief_->Want(i, id);
  return absl::OkStatus();
}

// All of it, however little has changed: an earlier call may not have lived to sync it. Of lanes that are `past` a pin
// that they did not have, no change is known any more.
absl::Status DiskStore::WriteUpdate(const Volume& volume, const VolumeUpdate& update,
                                    absl::Span<const std::shared_ptr<Lane>> past) {
  VolumeGeometry geometry = volume.geometry();
  for (uint32_t i = 0; i < DomainsOf(geometry); ++i) {
    DomainBatch batch(*domains_[i]);
    for (const auto& lane : volume.lanes) {
      if (lane->domain != i) continue;
      batch.Put(PinsKey(volume.id, lane->id), EncodePins(PinsOfLane(update, lane->id)));
      if (!absl::c_linear_search(past, lane)) continue;
      Lane::State state = lane->state();
      state.known = std::max(state.known, state.position.Next());
      batch.Put(KnownKey(volume.id, lane->id), EncodeKnown(state.known, state.jumped));
      lane->Replaced(std::move(state));
    }
    if (i == 0 && update.size_blocks > geometry.size_blocks) {
      geometry.size_blocks = update.size_blocks;
      batch.Put(VolumeRecordKey(volume.id), EncodeGeometry(geometry));
    }
    RETURN_IF_ERROR(batch.Write(domains_[i].get()));
  }
  for (uint32_t i = 0; i < DomainsOf(geometry); ++i) {
    RETURN_IF_ERROR(domains_[i]->Sync().status());
  }
  return absl::OkStatus();
}

absl::StatusOr<Position> DiskStore::PinnedAt(const Volume& volume, const Lane& lane,
                                             uint64_t pin) const {
  const Lane::State state = lane.state();
  const auto found = std::find_if(state.pins.begin(), state.pins.end(),
                                  [pin](const LanePin& known) { return known.id == pin; });
  if (found == state.pins.end()) {
    return ErrnoToStatus(ENOENT, absl::StrCat("volume ", static_cast<uint64_t>(volume.id),
                                              " has no pin ", pin));
  }
  // One that was away may have been told of pins that it has not come to yet.
  if (OnHistory(state.lineage, state.position, found->position) ||
      IsForgotten(state.lineage, state.position, found->position)) {
    return found->position;
  }
  return absl::FailedPreconditionError(
      absl::StrCat("lane ", Index(lane.id), " is at ", state.position.ToString(),
                   " and has not come to pin ", pin, " at ", found->position.ToString()));
}

absl::StatusOr<std::vector<BlockVersion>> DiskStore::ReadPinned(VolumeId id, uint64_t pin,
                                                                BlockRange range) const {
  ASSIGN_OR_RETURN(std::shared_ptr<Volume> volume, Find(id));
  const VolumeGeometry geometry = volume->geometry();
  if (range.count > kPinnedReadBlocksMax) {
    return absl::InvalidArgumentError(absl::StrCat("a read at a pin of ", range.count,
                                                   " blocks; at most ", kPinnedReadBlocksMax));
  }
  if (range.count == 0 || range.first >= geometry.size_blocks ||
      range.count > geometry.size_blocks - range.first) {
    return absl::OutOfRangeError(absl::StrCat("blocks ", range.first, "+", range.count,
                                              " are not in the volume"));
  }
  std::vector<BlockVersion> versions;
  for (const BlockRange& part : SplitByStripe(geometry.lanes, range)) {
    const Lane& lane = *volume->lanes[Index(geometry.lanes.LaneOf(part.first))];
    ASSIGN_OR_RETURN(const Position at, PinnedAt(*volume, lane, pin));
    RETURN_IF_ERROR(CheckValid(*volume, part));
    RETURN_IF_ERROR(ReadPinnedStripe(*volume, lane, at, part, &versions));
    // Had it gone meanwhile, versions may have gone with it.
    RETURN_IF_ERROR(PinnedAt(*volume, lane, pin).status());
  }
  if (volume->deleted()) return ErrnoToStatus(ENOENT, "volume was deleted");
  return versions;
}

absl::Status DiskStore::ReadPinnedStripe(const Volume& volume, const Lane& lane, Position at,
                                         BlockRange range, std::vector<BlockVersion>* out) const {
  std::vector<NewestVersion> newest;
  RETURN_IF_ERROR(ReadIndex(volume, range, &newest));
  const Lane::State state = lane.state();
  const std::string what = absl::StrCat("read ", DomainOf(lane)->directory());
  std::unique_ptr<rocksdb::Iterator> versions = NewIterator(*DomainOf(lane), Family::kVersions);
  for (uint64_t i = 0; i < range.count; ++i) {
    if (newest[i].position == Position()) continue;
    const BlockAddress address{volume.id, lane.id, range.first + i};
    const std::optional<Position> found = SeekPinned(address, at, state, versions.get());
    if (found) {
      ASSIGN_OR_RETURN(const VersionValue value, ParseVersion(address, *found, View(versions->value())));
      out->push_back({address.block, *found, value.kind == BlockKind::kZero, value.crc, std::string(value.data)});
    }
    RETURN_IF_ERROR(FromRocks(versions->status(), what));
    // What the index names at or below a pin is there as long as the pin is.
    if (newest[i].position > at || (found && *found == newest[i].position)) continue;
    return ErrnoToStatus(EBADMSG, absl::StrCat("block ", address.block, " of volume ",
                                               static_cast<uint64_t>(volume.id), " at ",
                                               newest[i].position.ToString(), " is lost"));
  }
  return absl::OkStatus();
}

absl::StatusOr<KeptBlocks> DiskStore::KeptBy(VolumeId id, uint64_t pin, LaneId lane_id,
                                             absl::Span<const BlockRange> ranges) const {
  ASSIGN_OR_RETURN(std::shared_ptr<Volume> volume, Find(id));
  if (Index(lane_id) >= volume->lanes.size()) return absl::InvalidArgumentError(absl::StrCat("no lane ", Index(lane_id)));
  const Lane& lane = *volume->lanes[Index(lane_id)];
  ASSIGN_OR_RETURN(const Position at, PinnedAt(*volume, lane, pin));
  const Lane::State state = lane.state();
  // The other pins beside it: the nearest one not above it, and the nearest one above it.
  Position below, above;
  for (const LanePin& other : state.pins) {
    if (other.id == pin) continue;
    if (other.position <= at) {
      below = std::max(below, other.position);
    } else if (above == Position() || other.position < above) {
      above = other.position;
    }
  }
  KeptBlocks kept;
  const std::string what = absl::StrCat("read ", DomainOf(lane)->directory());
  std::unique_ptr<rocksdb::Iterator> versions = NewIterator(*DomainOf(lane), Family::kVersions);
  for (const BlockRange& range : ranges) {
    for (uint64_t block = range.first; block < range.end(); ++block) {
      const BlockAddress address{id, lane_id, block};
      const std::optional<Position> found = SeekPinned(address, at, state, versions.get());
      RETURN_IF_ERROR(FromRocks(versions->status(), what));
      if (!found || versions->value().size() <= kVersionHeaderBytes) continue;
      const std::optional<Position> newest = SeekPinned(address, state.position, state, versions.get());
      RETURN_IF_ERROR(FromRocks(versions->status(), what));
      if (newest == found) continue;
      ++kept.blocks;
      if (below != Position() && below >= *found) continue;
      const bool is_above = above != Position() && SeekPinned(address, above, state, versions.get()) == found;
      RETURN_IF_ERROR(FromRocks(versions->status(), what));
      if (!is_above) ++kept.own_blocks;
    }
  }
  // Had it gone meanwhile, versions may have gone with it.
  RETURN_IF_ERROR(PinnedAt(*volume, lane, pin).status());
  if (volume->deleted()) return ErrnoToStatus(ENOENT, "volume was deleted");
  return kept;
}

absl::StatusOr<ChangedPage> DiskStore::ChangedSince(VolumeId id, uint64_t pin, LaneId lane_id,
                                                    uint64_t from_block,
                                                    size_t ranges_max) const {
  ASSIGN_OR_RETURN(std::shared_ptr<Volume> volume, Find(id));
  if (Index(lane_id) >= volume->lanes.size() || ranges_max == 0) {
    return absl::InvalidArgumentError(absl::StrCat("no changes of lane ", Index(lane_id)));
  }
  const Lane& lane = *volume->lanes[Index(lane_id)];
  ASSIGN_OR_RETURN(const Position at, PinnedAt(*volume, lane, pin));
  RETURN_IF_ERROR(CheckNoneInvalid(*volume, lane));
  ChangedPage page;
  page.next_block = volume->geometry().size_blocks;
  std::unique_ptr<rocksdb::Iterator> index = NewIterator(*DomainOf(lane), Family::kBlocks);
  uint64_t seen = 0;
  for (index->Seek(BlockKey({id, lane_id, from_block})); index->Valid(); index->Next()) {
    BlockAddress address;
    NewestVersion newest;
    if (!ParseBlockKey(View(index->key()), &address) ||
        !ParseNewestValue(View(index->value()), &newest)) {
      return ErrnoToStatus(EBADMSG, absl::StrCat("the index in ", DomainOf(lane)->directory(),
                                                 " is damaged"));
    }
    if (address.volume != id || address.lane != lane_id) break;
    if (++seen > kScanMax) {
      page.next_block = address.block;
      break;
    }
    if (newest.position <= at) continue;
    if (!page.ranges.empty() && page.ranges.back().end() == address.block) {
      ++page.ranges.back().count;
      continue;
    }
    if (page.ranges.size() == ranges_max) {
      page.next_block = address.block;
      break;
    }
    page.ranges.push_back({address.block, 1});
  }
  RETURN_IF_ERROR(FromRocks(index->status(), absl::StrCat("read ", DomainOf(lane)->directory())));
  return page;
}

}  // namespace weir::store
