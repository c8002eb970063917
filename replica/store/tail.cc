// Levelling: reading one lane's tail here, adopting it elsewhere.
#include <algorithm>
#include <cerrno>
#include <set>

#include "absl/strings/str_cat.h"
#include "proto/base/crc32c.h"
#include "proto/base/errno.h"
#include "proto/base/status_macros.h"
#include "replica/store/disk_store.h"
#include "replica/store/rocks.h"
#include "replica/store/write_batch.h"

namespace weir::store {
namespace {

// Whether `from` is a point of the history that ends in `state`.
bool OnHistory(const Lane::State& state, Position from) {
  if (from.epoch() == state.position.epoch()) return from <= state.position;
  return std::any_of(state.lineage.begin(), state.lineage.end(),
                     [from](const LineageEntry& entry) {
                       return entry.epoch == from.epoch() && from.n() <= entry.n;
                     });
}

bool InOneLane(const VolumeGeometry& geometry, LaneId lane, BlockRange range) {
  const uint64_t stripe = geometry.lanes.stripe_blocks;
  return range.count > 0 && range.first < geometry.size_blocks &&
         range.count <= geometry.size_blocks - range.first &&
         range.first / stripe == (range.end() - 1) / stripe &&
         geometry.lanes.LaneOf(range.first) == lane;
}

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
        !InOneLane(geometry, tail.lane, change.range)) {
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
  if (state.position != to) {
    return absl::FailedPreconditionError(
        absl::StrCat("lane ", Index(lane_id), " is at ",
                     state.position.ToString(), ", not ", to.ToString()));
  }
  if (!OnHistory(state, from)) {
    return absl::OutOfRangeError(absl::StrCat(
        from.ToString(), " is not on the history of lane ", Index(lane_id)));
  }
  if (from < state.noted) {
    return absl::OutOfRangeError(absl::StrCat(
        "changes of lane ", Index(lane_id), " are trimmed up to ",
        state.noted.ToString(), ", past ", from.ToString()));
  }
  Tail tail{.lane = lane_id, .from = from, .to = to, .lineage = state.lineage};
  RETURN_IF_ERROR(ReadChanges(*lane, &tail));
  RETURN_IF_ERROR(ReadTailVersions(*volume, &tail));
  return tail;
}

absl::Status DiskStore::ReadChanges(const Lane& lane, Tail* tail) const {
  const Domain& domain = *DomainOf(lane);
  std::unique_ptr<rocksdb::Iterator> keys(domain.db()->NewIterator(
      rocksdb::ReadOptions(), domain.family(Family::kChanges)));
  const Position above = Position::FromBits(tail->from.bits() + 1);
  for (keys->Seek(ChangeKeyFrom(lane.volume, lane.id, above)); keys->Valid();
       keys->Next()) {
    ChangeKeyParts parts;
    if (!ParseChangeKey(View(keys->key()), &parts) ||
        parts.volume != lane.volume || parts.lane != lane.id) {
      break;
    }
    tail->changes.push_back(parts.change);
  }
  return FromRocks(keys->status(), absl::StrCat("read ", domain.directory()));
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

absl::Status DiskStore::AdoptTail(VolumeId id, const Tail& tail) {
  ASSIGN_OR_RETURN(std::shared_ptr<Volume> volume, Find(id));
  if (Index(tail.lane) >= volume->lanes.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("no lane ", Index(tail.lane)));
  }
  RETURN_IF_ERROR(ValidateTail(volume->geometry, tail));
  const std::shared_ptr<Lane>& lane = volume->lanes[Index(tail.lane)];
  LaneClaim claim({lane});
  if (volume->deleted()) return ErrnoToStatus(ENOENT, "volume was deleted");
  const Position now = lane->position();
  if (now == tail.to) return absl::OkStatus();
  if (now != tail.from) {
    return absl::AbortedError(
        absl::StrCat("lane ", Index(tail.lane), " is at ", now.ToString(),
                     ", not ", tail.from.ToString()));
  }
  if (!admission_[lane->domain]->Admit(tail.versions.size() * kBlockBytes)) {
    return ErrnoToStatus(ENOSPC, absl::StrCat(DomainOf(*lane)->directory(),
                                              " has no space left"));
  }
  DomainBatch batch(*DomainOf(*lane));
  for (const ChangeEntry& change : tail.changes) {
    batch.PutChange(id, tail.lane, change);
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
  RETURN_IF_ERROR(batch.Write(DomainOf(*lane)));
  lane->Applied(tail.to, tail.lineage);
  DomainOf(*lane)->MarkDirty(lane);
  for (const ChangeEntry& change : tail.changes) {
    volume->allocation.Changed(change.range);
  }
  return absl::OkStatus();
}

}  // namespace weir::store
