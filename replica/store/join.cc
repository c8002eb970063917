// Joins: how one begins, which blocks it leaves marked invalid, how it ends.
//
// The marks are a bitmap a stripe, for what changed since a common point, and a
// watermark a lane, past which all is invalid: so that a lane of a terabyte
// begins its join in a small batch, and a mark is found by one lookup.
#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/base/errno.h"
#include "proto/base/status_macros.h"
#include "replica/store/disk_store.h"
#include "replica/store/history.h"
#include "replica/store/rocks.h"

namespace weir::store {
namespace {

// What a mark or a change takes at most, beside a mark's bitmap.
constexpr uint64_t kRecordBytes = 64;

absl::Status ValidateRanges(const VolumeGeometry& geometry, LaneId lane,
                            const std::vector<BlockRange>& ranges) {
  if (ranges.size() > kJoinRangesMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("a join of ", ranges.size(), " ranges; at most ", kJoinRangesMax));
  }
  for (const BlockRange& range : ranges) {
    if (InOneStripe(geometry, lane, range)) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("blocks ", range.first, "+", range.count, " are not in one stripe of lane ",
                     Index(lane)));
  }
  return absl::OkStatus();
}

absl::Status ValidateJoin(const Volume& volume, const JoinLane& join) {
  if (Index(join.lane) >= volume.lanes.size() || join.join_id == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("no join ", join.join_id, " of lane ", Index(join.lane)));
  }
  if (join.to < join.expected || !IsLineage(join.lineage, join.to.epoch())) {
    return absl::InvalidArgumentError(
        absl::StrCat("a lane at ", join.expected.ToString(), " cannot join at ",
                     join.to.ToString(), " or not with this lineage"));
  }
  if (join.to.epoch() < volume.promised()) {
    return ErrnoToStatus(ESTALE, absl::StrCat("the volume has promised ", volume.promised(),
                                              ", not ", join.to.epoch()));
  }
  if (join.everything) return absl::OkStatus();
  RETURN_IF_ERROR(ValidateRanges(volume.geometry(), join.lane, join.changes));
  return ValidateRanges(volume.geometry(), join.lane, join.invalid);
}

// Whether what the target changed after `join.common` is known and can be marked.
absl::Status CheckCommon(const Lane::State& state, const JoinLane& join) {
  if (join.everything) return absl::OkStatus();
  if (!OnHistory(state.lineage, state.position, join.common) ||
      !OnHistory(join.lineage, join.to, join.common)) {
    return absl::InvalidArgumentError(
        absl::StrCat(join.common.ToString(), " is not on both histories of lane ",
                     Index(join.lane)));
  }
  if (join.common >= state.known) return absl::OkStatus();
  return absl::OutOfRangeError(
      absl::StrCat("changes of lane ", Index(join.lane), " are known after ",
                   state.known.ToString(), ", not after ", join.common.ToString(),
                   "; copy everything"));
}

}  // namespace

bool InOneStripe(const VolumeGeometry& geometry, LaneId lane, BlockRange range) {
  const uint64_t stripe = geometry.lanes.stripe_blocks;
  return range.count > 0 && range.first < geometry.size_blocks &&
         range.count <= geometry.size_blocks - range.first &&
         range.first / stripe == (range.end() - 1) / stripe &&
         geometry.lanes.LaneOf(range.first) == lane;
}

uint64_t InvalidBlockCount(const VolumeGeometry& geometry, LaneId lane,
                           const Lane::Join& join) {
  if (join.watermark >= geometry.size_blocks) return join.marked;
  return join.marked + LaneBlocksBelow(geometry.lanes, lane, geometry.size_blocks) -
         LaneBlocksBelow(geometry.lanes, lane, join.watermark);
}

absl::Status CheckNoneInvalid(const Volume& volume, const Lane& lane) {
  const uint64_t invalid = InvalidBlockCount(volume.geometry(), lane.id, lane.join());
  if (invalid == 0) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("lane ", Index(lane.id), " of volume ", static_cast<uint64_t>(volume.id),
                   " is joining: ", invalid, " blocks are still to be copied"));
}

// --- reading marks ---

absl::Status DiskStore::ForEachMark(const Volume& volume, LaneId lane, uint64_t stripe,
                                    const VisitMarks& visit) const {
  const Domain& domain = *domains_[DomainOf(lane)];
  const std::string end = MarksEnd(volume.id, lane);
  const rocksdb::Slice end_slice(end);
  rocksdb::ReadOptions options;
  options.iterate_upper_bound = &end_slice;
  std::unique_ptr<rocksdb::Iterator> keys(
      domain.db()->NewIterator(options, domain.family(Family::kMeta)));
  for (keys->Seek(MarkKey(volume.id, lane, stripe)); keys->Valid(); keys->Next()) {
    uint64_t marked = 0;
    StripeBits bits(0);
    if (!ParseMarkKey(View(keys->key()), volume.id, lane, &marked) ||
        !StripeBits::Parse(View(keys->value()), volume.geometry().lanes.stripe_blocks, &bits)) {
      return ErrnoToStatus(EBADMSG, absl::StrCat("a mark of lane ", Index(lane), " in ",
                                                 domain.directory(), " is damaged"));
    }
    if (!visit(marked, bits)) break;
  }
  return FromRocks(keys->status(), absl::StrCat("read marks in ", domain.directory()));
}

absl::StatusOr<std::optional<StripeBits>> DiskStore::MarksOf(const Volume& volume,
                                                             const Lane& lane,
                                                             uint64_t stripe) const {
  absl::StatusOr<std::string> value =
      DomainOf(lane)->GetMeta(MarkKey(volume.id, lane.id, stripe));
  if (absl::IsNotFound(value.status())) return std::optional<StripeBits>();
  RETURN_IF_ERROR(value.status());
  std::optional<StripeBits> bits(StripeBits(0));
  if (StripeBits::Parse(*value, volume.geometry().lanes.stripe_blocks, &*bits)) return bits;
  return ErrnoToStatus(EBADMSG, absl::StrCat("the mark of stripe ", stripe, " in ",
                                             DomainOf(lane)->directory(), " is damaged"));
}

absl::StatusOr<StripeBits> DiskStore::InvalidOf(const Volume& volume, const Lane& lane,
                                                BlockRange range) const {
  const uint32_t stripe_blocks = volume.geometry().lanes.stripe_blocks;
  const Lane::Join join = lane.join();
  StripeBits invalid(stripe_blocks);
  if (join.marked > 0) {
    ASSIGN_OR_RETURN(std::optional<StripeBits> marks,
                     MarksOf(volume, lane, range.first / stripe_blocks));
    if (marks) invalid = *std::move(marks);
  }
  for (uint64_t block = std::max(range.first, join.watermark); block < range.end(); ++block) {
    invalid.Add(block % stripe_blocks);
  }
  return invalid;
}

absl::Status DiskStore::CheckValid(const Volume& volume, BlockRange range) const {
  const Lane& lane = *volume.lanes[Index(volume.geometry().lanes.LaneOf(range.first))];
  if (lane.join().id == 0) return absl::OkStatus();
  ASSIGN_OR_RETURN(const StripeBits invalid, InvalidOf(volume, lane, range));
  for (uint64_t block = range.first; block < range.end(); ++block) {
    if (!invalid.Has(block % volume.geometry().lanes.stripe_blocks)) continue;
    return ErrnoToStatus(kBlockInvalid,
                         absl::StrCat("block ", block, " of volume ",
                                      static_cast<uint64_t>(volume.id), " is still to be copied"));
  }
  return absl::OkStatus();
}

absl::StatusOr<InvalidPage> DiskStore::InvalidBlocks(VolumeId id, LaneId lane_id,
                                                     uint64_t from_block,
                                                     size_t ranges_max) const {
  ASSIGN_OR_RETURN(std::shared_ptr<Volume> volume, Find(id));
  if (Index(lane_id) >= volume->lanes.size() || ranges_max == 0) {
    return absl::InvalidArgumentError(absl::StrCat("no page of lane ", Index(lane_id)));
  }
  const VolumeGeometry& geometry = volume->geometry();
  const Lane::Join join = volume->lanes[Index(lane_id)]->join();
  InvalidPage page{.join_id = join.id, .to = join.to,
                   .invalid_blocks = InvalidBlockCount(geometry, lane_id, join),
                   .next_block = geometry.size_blocks};
  const size_t limit = std::min(ranges_max, kJoinRangesMax);
  std::vector<BlockRange> ranges;
  RETURN_IF_ERROR(ForEachMark(
      *volume, lane_id, from_block / geometry.lanes.stripe_blocks,
      [&](uint64_t stripe, const StripeBits& bits) {
        AppendRuns(geometry.lanes, stripe, bits, &ranges);
        while (!ranges.empty() && ranges.front().end() <= from_block) ranges.erase(ranges.begin());
        return ranges.size() <= limit;
      }));
  if (!ranges.empty() && ranges.front().first < from_block) {
    ranges.front() = {from_block, ranges.front().end() - from_block};
  }
  const uint64_t past = std::max(join.watermark, from_block);
  if (past < geometry.size_blocks) ranges.push_back({past, geometry.size_blocks - past});
  if (ranges.size() > limit) {
    page.next_block = ranges[limit].first;
    ranges.resize(limit);
  }
  page.ranges = std::move(ranges);
  return page;
}

// --- begin and end ---

absl::StatusOr<BlockSet> DiskStore::BlocksToMark(const Volume& volume, const Lane& lane,
                                                 const JoinLane& join,
                                                 OwnChanges* own) const {
  BlockSet blocks(volume.geometry().lanes);
  if (join.everything) return blocks;
  for (const BlockRange& range : join.changes) blocks.Add(range);
  for (const BlockRange& range : join.invalid) blocks.Add(range);
  RETURN_IF_ERROR(ForEachChange(NewChangesIterator(lane).get(), lane, join.common,
                                [&](const ChangeEntry& change, Position made_after) {
                                  blocks.Add(change.range);
                                  own->entries.push_back(change);
                                  own->reach_below_common |= made_after < join.common;
                                  return own->entries.size() <= kJoinRangesMax;
                                }));
  if (own->entries.size() <= kJoinRangesMax) return blocks;
  return absl::OutOfRangeError(
      absl::StrCat("lane ", Index(lane.id), " has more than ", kJoinRangesMax,
                   " changes after ", join.common.ToString(), "; copy everything"));
}

absl::Status DiskStore::AddMarks(const Volume& volume, const Lane& lane, const BlockSet& blocks,
                                 Lane::Join* state, DomainBatch* batch) const {
  const uint32_t stripe_blocks = volume.geometry().lanes.stripe_blocks;
  const bool any_before = state->marked > 0;
  for (const auto& [stripe, added] : blocks.stripes()) {
    StripeBits bits(stripe_blocks);
    if (any_before) {
      ASSIGN_OR_RETURN(std::optional<StripeBits> before, MarksOf(volume, lane, stripe));
      if (before) bits = *std::move(before);
    }
    const uint64_t count_before = bits.count();
    for (uint64_t i = 0; i < stripe_blocks; ++i) {
      if (added.Has(i) && stripe * stripe_blocks + i < state->watermark) bits.Add(i);
    }
    const uint64_t count = bits.count();
    if (count == count_before) continue;
    batch->Put(MarkKey(volume.id, lane.id, stripe), bits.bytes());
    state->marked += count - count_before;
  }
  return absl::OkStatus();
}

absl::Status DiskStore::DropMarks(const Volume& volume, const Lane& lane,
                                  DomainBatch* batch) const {
  return ForEachMark(volume, lane.id, 0, [&](uint64_t stripe, const StripeBits&) {
    batch->Delete(MarkKey(volume.id, lane.id, stripe));
    return true;
  });
}

absl::Status DiskStore::BeginJoin(VolumeId id, const JoinLane& join) {
  ASSIGN_OR_RETURN(std::shared_ptr<Volume> volume, Find(id));
  RETURN_IF_ERROR(ValidateJoin(*volume, join));
  const std::shared_ptr<Lane>& lane = volume->lanes[Index(join.lane)];
  LaneClaim claim({lane});
  if (volume->deleted()) return ErrnoToStatus(ENOENT, "volume was deleted");
  Lane::State state = lane->state();
  if (state.join.id == join.join_id && state.join.to == join.to) return absl::OkStatus();
  if (state.join.id == join.join_id || state.position != join.expected) {
    return absl::AbortedError(absl::StrCat("lane ", Index(join.lane), " is at ",
                                           state.position.ToString(), " in join ", state.join.id,
                                           ", not at ", join.expected.ToString()));
  }
  RETURN_IF_ERROR(CheckCommon(state, join));
  OwnChanges own;
  ASSIGN_OR_RETURN(const BlockSet blocks, BlocksToMark(*volume, *lane, join, &own));
  const uint64_t record_bytes = kRecordBytes + volume->geometry().lanes.stripe_blocks / 8;
  if (!admission_[lane->domain]->Admit((blocks.stripes().size() + join.changes.size()) *
                                       record_bytes)) {
    return ErrnoToStatus(ENOSPC,
                         absl::StrCat(DomainOf(*lane)->directory(), " has no space left"));
  }
  DomainBatch batch(*DomainOf(*lane));
  state.join.id = join.join_id;
  state.join.to = state.position = state.jumped = join.to;
  state.lineage = join.lineage;
  if (join.everything) {
    RETURN_IF_ERROR(DropMarks(*volume, *lane, &batch));
    state.join.watermark = state.join.marked = 0;
    // What this lane changed before lies at or below it, and is trimmed in time.
    state.known = join.to;
  } else {
    for (const ChangeEntry& change : own.entries) batch.DeleteChange(id, lane->id, change);
    // With them goes what is known of before.
    if (own.reach_below_common) state.known = std::max(state.known, join.common);
    for (const BlockRange& range : join.changes) {
      batch.PutChange(id, lane->id, {join.to, range}, join.common);
    }
    RETURN_IF_ERROR(AddMarks(*volume, *lane, blocks, &state.join, &batch));
  }
  batch.PutPosition(id, lane->id, join.to);
  batch.PutLineage(id, lane->id, join.lineage);
  batch.Put(KnownKey(id, lane->id), EncodeKnown(state.known, state.jumped));
  batch.Put(JoinKey(id, lane->id),
            EncodeJoin({join.join_id, join.to, state.join.watermark}));
  RETURN_IF_ERROR(batch.Write(DomainOf(*lane)));
  lane->Replaced(std::move(state));
  DomainOf(*lane)->MarkDirty(lane);
  return absl::OkStatus();
}

absl::Status DiskStore::FinishJoin(VolumeId id, uint64_t join_id) {
  ASSIGN_OR_RETURN(std::shared_ptr<Volume> volume, Find(id));
  LaneClaim claim(volume->lanes);
  if (volume->deleted()) return ErrnoToStatus(ENOENT, "volume was deleted");
  for (const auto& lane : volume->lanes) {
    const uint64_t now = lane->join().id;
    if (now != 0 && now != join_id) {
      return absl::AbortedError(absl::StrCat("lane ", Index(lane->id), " is in join ", now,
                                             ", not ", join_id));
    }
    RETURN_IF_ERROR(CheckNoneInvalid(*volume, *lane));
  }
  for (const auto& lane : volume->lanes) {
    Lane::State state = lane->state();
    if (state.join.id == 0) continue;
    DomainBatch batch(*DomainOf(*lane));
    batch.Delete(JoinKey(id, lane->id));
    RETURN_IF_ERROR(batch.Write(DomainOf(*lane)));
    // What was copied in has taken the place of much else, perhaps.
    lane->Discarded(WorthCompacting(*volume), state.position);
    state.join = Lane::Join();
    lane->Replaced(std::move(state));
  }
  return absl::OkStatus();
}

// --- opening ---

absl::Status DiskStore::LoadJoin(const Volume& volume, LaneId lane, Lane::State* state) {
  const Domain& domain = *domains_[DomainOf(lane)];
  // Stores older than joins had no such record: what is noted may be trimmed.
  state->known = state->noted;
  absl::StatusOr<std::string> known = domain.GetMeta(KnownKey(volume.id, lane));
  bool good = absl::IsNotFound(known.status()) ||
              (known.ok() && ParseKnown(*known, &state->known, &state->jumped));
  state->trim = state->known;
  absl::StatusOr<std::string> record = domain.GetMeta(JoinKey(volume.id, lane));
  JoinRecord join;
  if (record.ok()) {
    good = good && ParseJoin(*record, &join);
    state->join = {.id = join.join_id, .to = join.to, .watermark = join.watermark};
  } else if (!absl::IsNotFound(record.status())) {
    good = false;
  }
  RETURN_IF_ERROR(ForEachMark(volume, lane, 0, [&](uint64_t, const StripeBits& bits) {
    state->join.marked += bits.count();
    return true;
  }));
  if (good && (state->join.marked == 0 || state->join.id != 0)) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat(domain.directory(), ": the join of lane ", Index(lane),
                                          " of volume ", static_cast<uint64_t>(volume.id),
                                          " is inconsistent"));
}

}  // namespace weir::store
