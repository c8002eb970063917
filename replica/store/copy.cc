// Copying blocks for a join: reading what the source retains, and putting it in
// place of what the target has.
#include <algorithm>
#include <cerrno>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/base/crc32c.h"
#include "proto/base/errno.h"
#include "proto/base/status_macros.h"
#include "replica/store/disk_store.h"
#include "replica/store/history.h"
#include "replica/store/rocks.h"
#include "replica/store/version_scan.h"

namespace weir::store {
namespace {

// What a version takes in a message beside its data.
constexpr uint64_t kVersionBytes = 48;
// Versions of one block, while pins are not known: 1 MiB, to fit into a message.
constexpr size_t kUnprunedVersionsMax = 256;
// Versions of one block that a copy passes: with more it is a part of a table, of which it cannot be said what is in it.
constexpr int kDamagedVersionsMax = 64;

absl::Status CheckRanges(const VolumeGeometry& geometry, absl::Span<const BlockRange> ranges) {
  uint64_t end = 0;
  for (const BlockRange& range : ranges) {
    const bool good = range.count > 0 && range.first >= end &&
                      range.first < geometry.size_blocks &&
                      range.count <= geometry.size_blocks - range.first;
    if (!good) {
      return absl::InvalidArgumentError(absl::StrCat(
          "blocks ", range.first, "+", range.count, " are not in ascending order or not in the ",
          geometry.size_blocks, " of the volume"));
    }
    end = range.end();
  }
  return absl::OkStatus();
}

// The keys of one family of one lane in a range of blocks.
std::unique_ptr<rocksdb::Iterator> NewBlockIterator(const Domain& domain, Family family) {
  rocksdb::ReadOptions options;
  options.fill_cache = false;
  return std::unique_ptr<rocksdb::Iterator>(
      domain.db()->NewIterator(options, domain.family(family)));
}

}  // namespace

// --- the source ---

// Reads the versions of blocks of one lane. Thread-safety: none; lives for one call.
class DiskStore::VersionReader {
 public:
  VersionReader(const DiskStore& store, const Volume& volume, const Lane& lane, Position at_most, store::Damaged damaged)
      : damaged_(damaged), store_(store), volume_(volume), lane_(lane), state_(lane.state()),
        pruned_(lane.reclaim()), pins_(PinPositions(state_)), at_most_(at_most),
        index_(NewBlockIterator(*store.DomainOf(lane), Family::kBlocks)),
        versions_(NewBlockIterator(*store.DomainOf(lane), Family::kVersions)), scan_(*store.DomainOf(lane)) {}

  // Appends to `part` the blocks of `range` until it has `bytes_max`. False: it has.
  absl::StatusOr<bool> Read(BlockRange range, uint64_t bytes_max, VersionsPart* part) {
    const BlockAddress first{volume_.id, lane_.id, range.first};
    for (index_->Seek(BlockKey(first)); index_->Valid(); index_->Next()) {
      BlockAddress address;
      NewestVersion newest;
      if (!ParseBlockKey(View(index_->key()), &address) ||
          !ParseNewestValue(View(index_->value()), &newest)) {
        return Damaged("the index");
      }
      if (address.volume != volume_.id || address.lane != lane_.id ||
          address.block >= range.end()) {
        break;
      }
      if (bytes_ >= bytes_max) {
        if (address.block > range.first) {
          part->ranges.push_back({range.first, address.block - range.first});
        }
        return false;
      }
      const size_t before = part->versions.size();
      absl::Status read = ReadBlock(address, newest, &part->versions);
      if (damaged_ == store::Damaged::kAsLost && StatusToErrno(read) == EBADMSG) {
        part->versions.resize(before);
        read = ReadDamagedBlock(address, newest, &part->versions);
      }
      RETURN_IF_ERROR(read);
    }
    RETURN_IF_ERROR(FromRocks(index_->status(), What()));
    part->ranges.push_back(range);
    // Empty ranges add nothing to the bytes, but they are told too.
    bytes_ += kVersionBytes;
    return bytes_ < bytes_max;
  }

 private:
  std::string What() const {
    return absl::StrCat("read versions in ", store_.DomainOf(lane_)->directory());
  }
  absl::Status Damaged(absl::string_view what) const {
    return ErrnoToStatus(EBADMSG, absl::StrCat(What(), ": ", what, " of lane ",
                                               Index(lane_.id), " is damaged"));
  }

  static bool IsOf(const VersionKeyParts& parts, const BlockAddress& address) {
    return parts.address.volume == address.volume && parts.address.lane == address.lane && parts.address.block == address.block;
  }
  bool Counts(Position position) const {
    return OnHistory(state_.lineage, state_.position, position) || IsForgotten(state_.lineage, state_.position, position);
  }

  // What compaction may drop any moment is left out: one version a pin, and the
  // newest. As long as pins are not known, all.
  absl::Status ReadBlock(const BlockAddress& address, const NewestVersion& newest,
                         std::vector<BlockVersion>* out) {
    const size_t before = out->size();
    versions_->Seek(VersionKey(address, at_most_));
    VersionKeyParts parts;
    while (versions_->Valid() && ParseVersionKey(View(versions_->key()), &parts) && IsOf(parts, address)) {
      const bool counts = Counts(parts.position);
      if (counts) {
        ASSIGN_OR_RETURN(BlockVersion version, Parse(parts));
        bytes_ += kVersionBytes + version.data.size();
        out->push_back(std::move(version));
      }
      if (!pruned_ || !counts) {
        if (out->size() - before > kUnprunedVersionsMax) return TooMany(address);
        versions_->Next();
        continue;
      }
      // The next one needed: the newest at or below the next lower pin.
      auto pin = std::lower_bound(pins_.begin(), pins_.end(), parts.position);
      if (pin == pins_.begin()) break;
      versions_->Seek(VersionKey(address, *--pin));
    }
    RETURN_IF_ERROR(FromRocks(versions_->status(), What()));
    const bool has_newest = out->size() > before && (*out)[before].position == newest.position;
    if (newest.position > at_most_ || has_newest) return absl::OkStatus();
    return CheckSuperseded(address, newest);
  }

  // One of its versions cannot be read. So of each point at which somebody may ask for the block, now and at each pin, it is looked
  // which version that is, and one that cannot be read is told as lost: nobody is to be shown something older for it. Which pins there
  // are a source knows: it was told when its epoch began, and of each since.
  absl::Status ReadDamagedBlock(const BlockAddress& address, const NewestVersion& newest, std::vector<BlockVersion>* out) {
    Position below = at_most_.Next();
    const auto look = [&](Position point) -> absl::Status {
      if (point >= below) return absl::OkStatus();
      ASSIGN_OR_RETURN(std::optional<BlockVersion> version, ReadAt(address, newest, point));
      if (!version) return absl::OkStatus();
      below = version->position;
      bytes_ += kVersionBytes + version->data.size();
      out->push_back(*std::move(version));
      return absl::OkStatus();
    };
    RETURN_IF_ERROR(look(std::min(at_most_, newest.position)));
    for (auto pin = pins_.rbegin(); pin != pins_.rend(); ++pin) RETURN_IF_ERROR(look(*pin));
    return absl::OkStatus();
  }

  // The newest one at or below `point` that counts; nothing: there is none.
  absl::StatusOr<std::optional<BlockVersion>> ReadAt(const BlockAddress& address, const NewestVersion& newest, Position point) {
    BlockVersion version{.block = address.block, .position = point, .crc = 0, .data = "", .lost = true};
    if (point == newest.position && newest.kind == BlockKind::kZero) {
      version.zero = true;
      version.lost = false;
      return version;
    }
    int damaged = 0;
    for (Position at = point;; at = Position::FromBits(version.position.bits() - 1)) {
      ASSIGN_OR_RETURN(const std::optional<FoundVersion> found, scan_.Find(address, at));
      // The index names one that is not there.
      if (point == newest.position && (!found || found->position != point)) return version;
      if (!found) return std::nullopt;
      version.position = found->position;
      if (Counts(found->position)) return found->value.ok() ? Versioned(address.block, found->position, *found->value) : version;
      if (!found->value.ok() && ++damaged > kDamagedVersionsMax) {
        version.position = point;
        return version;
      }
      if (found->position == Position()) return std::nullopt;
    }
  }

  absl::StatusOr<BlockVersion> Parse(const VersionKeyParts& parts) const {
    ASSIGN_OR_RETURN(const VersionValue value,
                     ParseVersion(parts.address, parts.position, View(versions_->value())));
    return Versioned(parts.address.block, parts.position, value);
  }
  static BlockVersion Versioned(uint64_t block, Position position, const VersionValue& value) {
    return {.block = block, .position = position, .zero = value.kind == BlockKind::kZero, .crc = value.crc,
            .data = std::string(value.data)};
  }

  // The version that the index named is not there: then it names a newer one by now.
  absl::Status CheckSuperseded(const BlockAddress& address, const NewestVersion& before) const {
    std::vector<NewestVersion> now;
    RETURN_IF_ERROR(store_.ReadIndex(volume_, {address.block, 1}, &now));
    if (now[0] != before) return absl::OkStatus();
    return ErrnoToStatus(EBADMSG,
                         absl::StrCat("block ", address.block, " of volume ",
                                      static_cast<uint64_t>(volume_.id), " at ",
                                      before.position.ToString(), " is lost"));
  }

  static absl::Status TooMany(const BlockAddress& address) {
    return absl::UnavailableError(
        absl::StrCat("block ", address.block, " has more than ", kUnprunedVersionsMax,
                     " versions; durable points must be told first"));
  }

  const store::Damaged damaged_;
  const DiskStore& store_;
  const Volume& volume_;
  const Lane& lane_;
  const Lane::State state_;
  const bool pruned_;
  const std::vector<Position> pins_;
  const Position at_most_;
  // In this order: what the first one saw, the second one sees or something newer.
  const std::unique_ptr<rocksdb::Iterator> index_;
  const std::unique_ptr<rocksdb::Iterator> versions_;
  VersionScan scan_;
  uint64_t bytes_ = 0;
};

absl::StatusOr<VersionsPart> DiskStore::ReadVersions(VolumeId id, LaneId lane_id,
                                                     absl::Span<const BlockRange> ranges,
                                                     Position at_most, uint64_t bytes_max,
                                                     store::Damaged damaged) const {
  ASSIGN_OR_RETURN(std::shared_ptr<Volume> volume, Find(id));
  if (Index(lane_id) >= volume->lanes.size() || bytes_max == 0) {
    return absl::InvalidArgumentError(absl::StrCat("no versions of lane ", Index(lane_id)));
  }
  // The target may be larger: it has grown, and this one was not told yet.
  RETURN_IF_ERROR(CheckRanges({.size_blocks = kBlocksMax, .lanes = {}}, ranges));
  const Lane& lane = *volume->lanes[Index(lane_id)];
  RETURN_IF_ERROR(CheckNoneInvalid(*volume, lane));
  const Lane::State state = lane.state();
  if (!OnHistory(state.lineage, state.position, at_most)) {
    return absl::FailedPreconditionError(
        absl::StrCat("lane ", Index(lane_id), " is at ", state.position.ToString(), "; ",
                     at_most.ToString(), " is not on its history"));
  }
  VersionReader reader(*this, *volume, lane, at_most, damaged);
  VersionsPart part;
  for (const BlockRange& range : ranges) {
    ASSIGN_OR_RETURN(const bool more, reader.Read(range, bytes_max, &part));
    if (!more) break;
  }
  // A join that began meanwhile has changed no version yet, and none of its copies counts.
  if (lane.join().id != state.join.id) RETURN_IF_ERROR(CheckNoneInvalid(*volume, lane));
  if (volume->deleted()) return ErrnoToStatus(ENOENT, "volume was deleted");
  part.position = lane.position();
  return part;
}

// --- the target ---

// One call of CopyIn or Repair. Thread-safety: none. REQUIRES: the lane is claimed.
class DiskStore::Copying {
 public:
  Copying(const DiskStore& store, const Volume& volume, const Lane& lane, const CopyPart& part, bool repair)
      : store_(store), volume_(volume), lane_(lane), part_(part), state_(lane.state()),
        batch_(*store.DomainOf(lane)) {
    uint64_t last = ~uint64_t{0};
    for (const BlockVersion& version : part.versions) {
      const bool newest = std::exchange(last, version.block) != version.block;
      // A repair makes nothing worse: what it is not given stays, and is the newest still.
      if (repair && version.lost && newest) newest_stays_.insert(version.block);
      if (!repair || !version.lost) given_[version.block].push_back(&version);
    }
  }

  // Gives the lane's state after Write.
  const Lane::State& state() const { return state_; }
  bool empty() const { return batch_.empty(); }
  // Blocks that held data and read as zeros now.
  uint64_t freed() const { return freed_; }
  absl::Status Write() { return batch_.Write(store_.DomainOf(lane_)); }

  absl::Status Prepare() {
    for (const BlockRange& range : part_.ranges) {
      const uint64_t watermark = state_.join.watermark;
      if (range.first < watermark) {
        const uint64_t end = std::min(range.end(), watermark);
        RETURN_IF_ERROR(CopyMarked({range.first, end - range.first}));
      }
      if (range.end() > watermark) {
        const uint64_t first = std::max(range.first, watermark);
        RETURN_IF_ERROR(CopyPastWatermark({first, range.end() - first}));
      }
    }
    return absl::OkStatus();
  }

  // Blocks that are damaged, not marked.
  absl::Status PrepareRepair() {
    for (const BlockRange& range : part_.ranges) {
      for (const BlockRange& stripe : SplitByStripe(volume_.geometry().lanes, range)) {
        if (volume_.geometry().lanes.LaneOf(stripe.first) != lane_.id) continue;
        std::vector<NewestVersion> newest;
        RETURN_IF_ERROR(store_.ReadIndex(volume_, stripe, &newest));
        for (uint64_t i = 0; i < stripe.count; ++i) {
          RETURN_IF_ERROR(Replace(stripe.first + i, newest[i], Foreign::kNone));
        }
      }
    }
    return absl::OkStatus();
  }

 private:
  // Blocks that are marked one by one.
  absl::Status CopyMarked(BlockRange range) {
    if (state_.join.marked == 0) return absl::OkStatus();
    const uint64_t stripe_blocks = volume_.geometry().lanes.stripe_blocks;
    absl::Status status;
    RETURN_IF_ERROR(store_.ForEachMark(
        volume_, lane_.id, range.first / stripe_blocks,
        [&](uint64_t stripe, const StripeBits& bits) {
          const uint64_t first = std::max(range.first, stripe * stripe_blocks);
          const uint64_t end = std::min(range.end(), (stripe + 1) * stripe_blocks);
          if (first >= end) return false;
          status = CopyStripe(stripe, {first, end - first}, bits);
          return status.ok();
        }));
    return status;
  }

  absl::Status CopyStripe(uint64_t stripe, BlockRange range, const StripeBits& marks) {
    // A second range in this stripe goes on from what the first one left.
    StripeBits& left = left_.try_emplace(stripe, marks).first->second;
    std::vector<NewestVersion> newest;
    RETURN_IF_ERROR(store_.ReadIndex(volume_, range, &newest));
    for (uint64_t block = range.first; block < range.end(); ++block) {
      const uint64_t i = block % volume_.geometry().lanes.stripe_blocks;
      if (!left.Has(i)) continue;
      RETURN_IF_ERROR(Replace(block, newest[block - range.first], Foreign::kPossible));
      left.Remove(i);
      --state_.join.marked;
    }
    const std::string key = MarkKey(volume_.id, lane_.id, stripe);
    if (left.empty()) {
      batch_.Delete(key);
    } else if (left.bytes() != marks.bytes()) {
      batch_.Put(key, left.bytes());
    }
    return absl::OkStatus();
  }

  // Blocks of a lane that is copied whole, in order. Only those that either side
  // has something of are touched, so a range may be as large as the volume.
  absl::Status CopyPastWatermark(BlockRange range) {
    const LaneGeometry& lanes = volume_.geometry().lanes;
    if (NextLaneBlock(lanes, lane_.id, state_.join.watermark) < range.first) {
      return absl::FailedPreconditionError(
          absl::StrCat("lane ", Index(lane_.id), " is copied up to block ",
                       state_.join.watermark, "; ", range.first, " does not follow"));
    }
    std::map<uint64_t, NewestVersion> blocks;
    for (auto it = given_.lower_bound(range.first);
         it != given_.end() && it->first < range.end(); ++it) {
      blocks[it->first];
    }
    RETURN_IF_ERROR(AddIndexed(range, &blocks));
    for (const auto& [block, newest] : blocks) {
      RETURN_IF_ERROR(Replace(block, newest, Foreign::kPossible));
    }
    state_.join.watermark = range.end();
    batch_.Put(JoinKey(volume_.id, lane_.id),
               EncodeJoin({state_.join.id, state_.join.to, state_.join.watermark}));
    return absl::OkStatus();
  }

  absl::Status AddIndexed(BlockRange range, std::map<uint64_t, NewestVersion>* blocks) {
    const Domain& domain = *store_.DomainOf(lane_);
    std::unique_ptr<rocksdb::Iterator> index = NewBlockIterator(domain, Family::kBlocks);
    for (index->Seek(BlockKey({volume_.id, lane_.id, range.first})); index->Valid();
         index->Next()) {
      BlockAddress address;
      NewestVersion newest;
      if (!ParseBlockKey(View(index->key()), &address) ||
          !ParseNewestValue(View(index->value()), &newest)) {
        return ErrnoToStatus(EBADMSG, absl::StrCat("the index in ", domain.directory(),
                                                   " is damaged"));
      }
      if (address.volume != volume_.id || address.lane != lane_.id ||
          address.block >= range.end()) {
        break;
      }
      (*blocks)[address.block] = newest;
    }
    return FromRocks(index->status(), absl::StrCat("read ", domain.directory()));
  }

  // Versions that are off the lane's history: a lane with nothing left to copy has none, and to look for them
  // would read what is damaged.
  enum class Foreign { kNone, kPossible };

  // `current` is what the index names; its position is zero if there is none.
  absl::Status Replace(uint64_t block, const NewestVersion& current, Foreign foreign) {
    const BlockAddress address{volume_.id, lane_.id, block};
    NewestVersion best;
    const auto given = given_.find(block);
    if (given != given_.end()) {
      RETURN_IF_ERROR(KeepOwn(address, &given->second));
      const BlockVersion& newest = *given->second.front();
      best = {newest.position, newest.zero ? BlockKind::kZero : BlockKind::kData};
    }
    const bool live = current.position > part_.to;
    const bool any = current.position != Position();
    if (foreign == Foreign::kPossible && any && (live || !Mine(current.position))) {
      RETURN_IF_ERROR(DropForeign(address, &best));
    } else if (current.position > best.position) {
      best = current;
    }
    // Written anew even where they are there already: see reclaim.h. One that is lost has no data, so no reader takes it for one.
    if (given != given_.end()) {
      for (const BlockVersion* version : given->second) {
        batch_.PutVersion(address, version->position,
                          version->zero ? BlockKind::kZero : BlockKind::kData, version->crc,
                          version->data);
      }
    }
    if (live || newest_stays_.contains(block)) return absl::OkStatus();
    if (current.kind == BlockKind::kData && best.kind != BlockKind::kData) ++freed_;
    if (best.position != Position()) {
      batch_.PutNewest(address, best);
    } else if (any) {
      batch_.DeleteNewest(address);
    }
    return absl::OkStatus();
  }

  // A position is one write's, so what it has there itself is what the source has lost.
  absl::Status KeepOwn(const BlockAddress& address, std::vector<const BlockVersion*>* given) {
    const Domain& domain = *store_.DomainOf(lane_);
    for (const BlockVersion*& version : *given) {
      if (!version->lost) continue;
      std::string value;
      const rocksdb::Status got = domain.db()->Get(rocksdb::ReadOptions(), domain.family(Family::kVersions),
                                                   VersionKey(address, version->position), &value);
      if (got.IsNotFound()) continue;
      const absl::Status status = FromRocks(got, absl::StrCat("read ", domain.directory()));
      if (!status.ok() && StatusToErrno(status) != EBADMSG) return status;
      const absl::StatusOr<VersionValue> has = ParseVersion(address, version->position, value);
      if (!status.ok() || !has.ok()) continue;
      own_.push_back({.block = address.block, .position = version->position, .zero = has->kind == BlockKind::kZero,
                      .crc = has->crc, .data = std::string(has->data)});
      version = &own_.back();
    }
    return absl::OkStatus();
  }

  bool Mine(Position position) const {
    return OnHistory(state_.lineage, state_.position, position);
  }

  // Deletes what is not known to be on the lane's history. What is on it stays: it
  // is right, and the source has dropped it only as nobody needs it. Raises `best` to it. What is damaged goes too, or stays
  // damaged; beside what the source has given it is no newest version: that one is, and where a table is damaged there may be none.
  absl::Status DropForeign(const BlockAddress& address, NewestVersion* best) {
    VersionScan scan(*store_.DomainOf(lane_));
    const bool given = best->position != Position();
    int damaged = 0;
    for (Position at = part_.to;; at = Position::FromBits(at.bits() - 1)) {
      ASSIGN_OR_RETURN(const std::optional<FoundVersion> found, scan.Find(address, at));
      if (!found) return absl::OkStatus();
      if (!found->value.ok() && ++damaged > kDamagedVersionsMax) return found->value.status();
      at = found->position;
      if (!Mine(at)) {
        batch_.DeleteVersion(address, at);
      } else if (at > best->position && (found->value.ok() || !given)) {
        *best = {at, found->value.ok() ? found->value->kind : BlockKind::kData};
      }
      if (at == Position()) return absl::OkStatus();
    }
  }

  const DiskStore& store_;
  const Volume& volume_;
  const Lane& lane_;
  const CopyPart& part_;
  Lane::State state_;
  DomainBatch batch_;
  std::map<uint64_t, std::vector<const BlockVersion*>> given_;
  std::deque<BlockVersion> own_;      // in the place of what is given as lost
  std::set<uint64_t> newest_stays_;   // blocks
  std::map<uint64_t, StripeBits> left_;  // marks after this copy, of stripes it touches
  uint64_t freed_ = 0;
};

namespace {

// What needs no look at the lane's state.
absl::Status ValidateCopy(const VolumeGeometry& geometry, const CopyPart& part) {
  RETURN_IF_ERROR(CheckRanges(geometry, part.ranges));
  auto range = part.ranges.begin();
  const BlockVersion* last = nullptr;
  for (const BlockVersion& version : part.versions) {
    while (range != part.ranges.end() && range->end() <= version.block) ++range;
    const bool follows = last == nullptr || version.block > last->block ||
                         (version.block == last->block && version.position < last->position);
    last = &version;
    if (!follows || range == part.ranges.end() || version.block < range->first ||
        geometry.lanes.LaneOf(version.block) != part.lane) {
      return absl::InvalidArgumentError(
          absl::StrCat("a version of block ", version.block, " at ", version.position.ToString(),
                       " is not of this copy, or not in order"));
    }
    if (version.lost && version.zero) {
      return absl::InvalidArgumentError(absl::StrCat("block ", version.block, " cannot be lost and be zeros"));
    }
    const bool good = version.zero || version.lost ? version.data.empty()
                                                   : version.data.size() == kBlockBytes &&
                                                         Crc32c(version.data) == version.crc;
    if (!good) {
      return ErrnoToStatus(EBADMSG, absl::StrCat("data of block ", version.block,
                                                 " does not match its checksum"));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckJoin(const Lane::State& state, const CopyPart& part) {
  if (state.join.id != 0 && state.join.id == part.join_id && state.join.to == part.to) {
    return absl::OkStatus();
  }
  return absl::AbortedError(absl::StrCat(
      "lane ", Index(part.lane), " is in join ", state.join.id, " to ",
      state.join.to.ToString(), ", not ", part.join_id, " to ", part.to.ToString()));
}

absl::Status CheckRepair(const Lane::State& state, const CopyPart& part) {
  uint64_t blocks = 0;
  for (const BlockRange& range : part.ranges) {
    if (range.count > kRepairBlocksMax - blocks) {
      return absl::InvalidArgumentError(
          absl::StrCat("a repair of more than ", kRepairBlocksMax, " blocks"));
    }
    blocks += range.count;
  }
  if (OnHistory(state.lineage, state.position, part.to)) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("lane ", Index(part.lane), " is at ", state.position.ToString(),
                   "; it cannot be repaired up to ", part.to.ToString()));
}

// Whether the versions are of the lane's history.
absl::Status CheckVersions(const Lane::State& state, const CopyPart& part) {
  for (const BlockVersion& version : part.versions) {
    if (version.position <= part.to &&
        (OnHistory(state.lineage, state.position, version.position) ||
         IsForgotten(state.lineage, state.position, version.position))) {
      continue;
    }
    return absl::InvalidArgumentError(
        absl::StrCat("a version of block ", version.block, " at ", version.position.ToString(),
                     " is not on the history up to ", part.to.ToString()));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status DiskStore::CopyIn(VolumeId id, const CopyPart& part) {
  return Copy(id, part, /*repair=*/false);
}

absl::Status DiskStore::Repair(VolumeId id, const CopyPart& part) {
  return Copy(id, part, /*repair=*/true);
}

absl::Status DiskStore::Copy(VolumeId id, const CopyPart& part, bool repair) {
  ASSIGN_OR_RETURN(std::shared_ptr<Volume> volume, Find(id));
  if (Index(part.lane) >= volume->lanes.size()) {
    return absl::InvalidArgumentError(absl::StrCat("no lane ", Index(part.lane)));
  }
  RETURN_IF_ERROR(ValidateCopy(volume->geometry(), part));
  const std::shared_ptr<Lane>& lane = volume->lanes[Index(part.lane)];
  LaneClaim claim({lane});
  if (volume->deleted()) return ErrnoToStatus(ENOENT, "volume was deleted");
  // A join that has nothing left to copy does no harm: its beginning may have come once more, and late.
  if (repair) RETURN_IF_ERROR(CheckNoneInvalid(*volume, *lane));
  RETURN_IF_ERROR(repair ? CheckRepair(lane->state(), part) : CheckJoin(lane->state(), part));
  RETURN_IF_ERROR(CheckVersions(lane->state(), part));
  uint64_t bytes = 0;
  for (const BlockVersion& version : part.versions) bytes += kVersionBytes + version.data.size();
  if (!admission_[lane->domain]->Admit(bytes)) {
    return ErrnoToStatus(ENOSPC,
                         absl::StrCat(DomainOf(*lane)->directory(), " has no space left"));
  }
  Copying copying(*this, *volume, *lane, part, repair);
  RETURN_IF_ERROR(repair ? copying.PrepareRepair() : copying.Prepare());
  if (copying.empty()) return absl::OkStatus();
  RETURN_IF_ERROR(copying.Write());
  lane->Replaced(copying.state());
  if (copying.freed() > 0) lane->Discarded(copying.freed(), part.to);
  for (const BlockRange& range : part.ranges) volume->allocation.Changed(range);
  return absl::OkStatus();
}

}  // namespace weir::store
