// What changed in a lane: the changes family, read for tails and joins.
#include <algorithm>
#include <cerrno>

#include "absl/strings/str_cat.h"
#include "proto/base/errno.h"
#include "proto/base/status_macros.h"
#include "replica/store/disk_store.h"
#include "replica/store/history.h"
#include "replica/store/rocks.h"

namespace weir::store {

std::unique_ptr<rocksdb::Iterator> DiskStore::NewChangesIterator(
    const Lane& lane) const {
  rocksdb::ReadOptions options;
  options.fill_cache = false;
  return std::unique_ptr<rocksdb::Iterator>(DomainOf(lane)->db()->NewIterator(
      options, DomainOf(lane)->family(Family::kChanges)));
}

absl::Status DiskStore::ForEachChange(rocksdb::Iterator* changes,
                                      const Lane& lane, Position after,
                                      const VisitChange& visit) {
  const Position above = Position::FromBits(after.bits() + 1);
  for (changes->Seek(ChangeKeyFrom(lane.volume, lane.id, above));
       changes->Valid(); changes->Next()) {
    ChangeKeyParts parts;
    if (!ParseChangeKey(View(changes->key()), &parts) ||
        parts.volume != lane.volume || parts.lane != lane.id) {
      break;
    }
    const Position position = parts.change.position;
    uint64_t made_after = position.bits() - 1;
    if (!changes->value().empty() &&
        !ParseNumber(View(changes->value()), &made_after)) {
      return ErrnoToStatus(
          EBADMSG, absl::StrCat("the change at ", position.ToString(), " of lane ",
                                Index(lane.id), " is damaged"));
    }
    if (!visit(parts.change, Position::FromBits(made_after))) break;
  }
  return FromRocks(changes->status(), absl::StrCat("read changes of domain ", lane.domain));
}

absl::StatusOr<std::vector<BlockRange>> DiskStore::ReadChanges(
    VolumeId id, LaneId lane_id, Position from, Position to) const {
  ASSIGN_OR_RETURN(std::shared_ptr<Volume> volume, Find(id));
  if (Index(lane_id) >= volume->lanes.size() || from > to) {
    return absl::InvalidArgumentError(
        absl::StrCat("no changes of lane ", Index(lane_id), " from ",
                     from.ToString(), " to ", to.ToString()));
  }
  const std::shared_ptr<Lane>& lane = volume->lanes[Index(lane_id)];
  Lane::State state;
  std::unique_ptr<rocksdb::Iterator> changes;
  {
    // What is trimmed from now on the iterator still sees.
    LaneClaim claim({lane});
    state = lane->state();
    changes = NewChangesIterator(*lane);
  }
  if (!OnHistory(state.lineage, state.position, to)) {
    return absl::FailedPreconditionError(
        absl::StrCat("lane ", Index(lane_id), " is at ", state.position.ToString(),
                     "; ", to.ToString(), " is not on its history"));
  }
  if (!OnHistory(state.lineage, state.position, from) || from < state.known) {
    return absl::OutOfRangeError(
        absl::StrCat("changes of lane ", Index(lane_id), " are known after ",
                     state.known.ToString(), ", not after ", from.ToString()));
  }
  BlockSet changed(volume->geometry().lanes);
  RETURN_IF_ERROR(ForEachChange(
      changes.get(), *lane, from,
      [&](const ChangeEntry& change, Position made_after) {
        if (made_after < to) changed.Add(change.range);
        return changed.stripes().size() <= kJoinRangesMax;
      }));
  std::vector<BlockRange> ranges;
  if (!changed.ToRanges(kJoinRangesMax, &ranges)) {
    return absl::OutOfRangeError(absl::StrCat(
        "more than ", kJoinRangesMax, " stripes of lane ", Index(lane_id),
        " changed after ", from.ToString(), "; copy everything"));
  }
  return ranges;
}

}  // namespace weir::store
