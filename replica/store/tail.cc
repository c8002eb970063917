// Levelling: reading one lane's tail here, adopting it elsewhere.
#include <algorithm>
#include <cerrno>
#include <set>

#include "absl/strings/str_cat.h"
#include "proto/base/crc32c.h"
#include "proto/base/errno.h"
#include "proto/base/status_macros.h"
#include "replica/store/disk_store.h"
#include "replica/store/history.h"
#include "replica/store/rocks.h"
#include "replica/store/write_batch.h"

namespace weir::store {
namespace {

absl::Status ValidateTail(const VolumeGeometry& geometry, const Tail& tail) {
  if (tail.to < tail.from) {
    return absl::InvalidArgumentError("a tail ends before it begins");
  }
  const auto within = [&](Position position) {
    return position > tail.from && position <= tail.to;
  };
  std::set<uint64_t> changed;
  for (const ChangeEntry& change : tail.changes) {
    if (!within(change.position) ||
        !InOneStripe(geometry, tail.lane, change.range)) {
      return absl::InvalidArgumentError(absl::StrCat(
          "a change at ", change.position.ToString(), " is not of this tail"));
    }
    for (uint64_t block = change.range.first; block < change.range.end(); ++block) {
      changed.insert(block);
    }
  }
  for (const BlockVersion& version : tail.versions) {
    // Erased, so that a block cannot come twice.
    if (changed.erase(version.block) == 0 || !within(version.position)) {
      return absl::InvalidArgumentError(absl::StrCat(
          "a version of block ", version.block, " is not of this tail"));
    }
    const bool good = version.zero ? version.data.empty()
                                   : version.data.size() == kBlockBytes &&
                                         Crc32c(version.data) == version.crc;
    if (!good) {
      return ErrnoToStatus(EBADMSG,
                           absl::StrCat("data of block ", version.block,
                                        " does not match its checksum"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Tail> DiskStore::ReadTail(VolumeId id, LaneId lane_id,
                                         Position from, Position to) const {
  ASSIGN_OR_RETURN(std::shared_ptr<Volume> volume, Find(id));
  if (Index(lane_id) >= volume->lanes.size() || from > to) {
    return absl::InvalidArgumentError(absl::StrCat(
        "no tail of lane ", Index(lane_id), " from ", from.ToString(), " to ",
        to.ToString()));
  }
  const std::shared_ptr<Lane>& lane = volume->lanes[Index(lane_id)];
  LaneClaim claim({lane});
  const Lane::State state = lane->state();
  RETURN_IF_ERROR(CheckNoneInvalid(*volume, *lane));
  if (state.position != to) {
    return absl::FailedPreconditionError(
        absl::StrCat("lane ", Index(lane_id), " is at ",
                     state.position.ToString(), ", not ", to.ToString()));
  }
  if (!OnHistory(state.lineage, state.position, from)) {
    return absl::OutOfRangeError(absl::StrCat(
        from.ToString(), " is not on the history of lane ", Index(lane_id)));
  }
  if (from < state.known) {
    return absl::OutOfRangeError(absl::StrCat(
        "changes of lane ", Index(lane_id), " are trimmed up to ",
        state.known.ToString(), ", past ", from.ToString()));
  }
  Tail tail{.lane = lane_id, .from = from, .to = to, .expected = from, .lineage = state.lineage};
  RETURN_IF_ERROR(ForEachChange(NewChangesIterator(*lane).get(), *lane, from,
                                [&](const ChangeEntry& change, Position) {
                                  tail.changes.push_back(change);
                                  return true;
                                }));
  RETURN_IF_ERROR(ReadTailVersions(*volume, &tail));
  return tail;
}

// A block without a version was only ever zeroed, and reads as zeros on the
// target too, which has the same history up to `from`.
absl::Status DiskStore::ReadTailVersions(const Volume& volume,
                                         Tail* tail) const {
  std::set<uint64_t> changed;
  for (const ChangeEntry& change : tail->changes) {
    for (uint64_t b = change.range.first; b < change.range.end(); ++b) {
      changed.insert(b);
    }
  }
  for (uint64_t block : changed) {
    std::vector<NewestVersion> newest;
    RETURN_IF_ERROR(ReadIndex(volume, {block, 1}, &newest));
    // At or below `from`: a zeroing that changed nothing.
    if (newest[0].position <= tail->from) continue;
    BlockVersion version{.block = block, .position = newest[0].position};
    version.zero = newest[0].kind == BlockKind::kZero;
    if (!version.zero) {
      ReadResult read;
      RETURN_IF_ERROR(ReadStripe(volume, {block, 1}, &read));
      version.crc = read.crcs[0];
      version.data = std::move(read.data);
    }
    tail->versions.push_back(std::move(version));
  }
  return absl::OkStatus();
}

// Bases without writes are all that may be given up for another history.
absl::Status DiskStore::CheckNothingAbove(const Lane& lane, const Lane::State& state,
                                          Position from) const {
  if (state.position == from) return absl::OkStatus();
  bool written = !OnHistory(state.lineage, state.position, from) || state.known > from;
  RETURN_IF_ERROR(ForEachChange(NewChangesIterator(lane).get(), lane, from,
                                [&](const ChangeEntry&, Position) { return !(written = true); }));
  if (!written) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      "the lane is at ", state.position.ToString(), " and was written to after ",
      from.ToString()));
}

absl::Status DiskStore::AdoptTail(VolumeId id, const Tail& tail) {
  ASSIGN_OR_RETURN(std::shared_ptr<Volume> volume, Find(id));
  if (Index(tail.lane) >= volume->lanes.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("no lane ", Index(tail.lane)));
  }
  RETURN_IF_ERROR(ValidateTail(volume->geometry(), tail));
  const std::shared_ptr<Lane>& lane = volume->lanes[Index(tail.lane)];
  LaneClaim claim({lane});
  if (volume->deleted()) return ErrnoToStatus(ENOENT, "volume was deleted");
  RETURN_IF_ERROR(CheckNoneInvalid(*volume, *lane));
  Lane::State state = lane->state();
  if (state.position == tail.to) return absl::OkStatus();
  if (state.position != tail.expected) {
    return absl::AbortedError(
        absl::StrCat("lane ", Index(tail.lane), " is at ", state.position.ToString(),
                     ", not ", tail.expected.ToString()));
  }
  RETURN_IF_ERROR(CheckNothingAbove(*lane, state, tail.from));
  if (!admission_[lane->domain]->Admit(tail.versions.size() * kBlockBytes)) {
    return ErrnoToStatus(ENOSPC, absl::StrCat(DomainOf(*lane)->directory(),
                                              " has no space left"));
  }
  DomainBatch batch(*DomainOf(*lane));
  for (const ChangeEntry& change : tail.changes) {
    // A source that has joined may know no better than "in this tail".
    batch.PutChange(id, tail.lane, change, tail.from);
  }
  for (const BlockVersion& version : tail.versions) {
    const BlockAddress address{id, tail.lane, version.block};
    if (version.zero) {
      batch.PutZero(address, version.position);
    } else {
      batch.PutData(address, version.position, version.crc, version.data);
    }
  }
  batch.PutPosition(id, tail.lane, tail.to);
  batch.PutLineage(id, tail.lane, tail.lineage);
  state.position = state.jumped = tail.to;
  state.lineage = tail.lineage;
  batch.Put(KnownKey(id, tail.lane), EncodeKnown(state.known, state.jumped));
  {
    absl::MutexLock lock(DomainOf(*lane)->marks());
    // A lane below its mark would be taken for one that has lost what it had synced. What lies below the tail has been.
    if (tail.from < lane->state().durable) batch.Put(SyncedKey(id, tail.lane), EncodeNumber(tail.from.bits()));
    RETURN_IF_ERROR(batch.Write(DomainOf(*lane)));
    lane->Replaced(std::move(state));
  }
  DomainOf(*lane)->MarkDirty(lane);
  for (const ChangeEntry& change : tail.changes) {
    volume->allocation.Changed(change.range);
  }
  return absl::OkStatus();
}

}  // namespace weir::store
