#include "replica/store/testing/join_steps.h"

#include <algorithm>
#include <map>
#include <utility>

#include "proto/base/status_macros.h"

namespace weir::store::testing {
namespace {

std::map<Epoch, uint64_t> EpochEnds(const LaneState& lane) {
  std::map<Epoch, uint64_t> ends;
  for (const LineageEntry& entry : lane.lineage) ends[entry.epoch] = entry.n;
  ends[lane.position.epoch()] = lane.position.n();
  return ends;
}

}  // namespace

bool CommonPoint(const LaneState& a, const LaneState& b, Position* common) {
  const std::map<Epoch, uint64_t> ours = EpochEnds(a);
  const std::map<Epoch, uint64_t> theirs = EpochEnds(b);
  for (auto it = ours.rbegin(); it != ours.rend(); ++it) {
    const auto other = theirs.find(it->first);
    if (other == theirs.end()) continue;
    *common = Position(it->first, std::min(it->second, other->second));
    return true;
  }
  return false;
}

absl::StatusOr<JoinLane> PlanJoin(Store* source, Store* target, VolumeId id, LaneId lane,
                                  uint64_t join_id, bool everything) {
  ASSIGN_OR_RETURN(const VolumeState ours, source->GetVolume(id));
  ASSIGN_OR_RETURN(const VolumeState theirs, target->GetVolume(id));
  const LaneState& from = ours.lanes[Index(lane)];
  const LaneState& into = theirs.lanes[Index(lane)];
  JoinLane join{.lane = lane, .join_id = join_id, .expected = into.position, .to = from.position,
                .lineage = from.lineage};
  join.everything = everything || !CommonPoint(from, into, &join.common);
  if (join.everything) return join;
  absl::StatusOr<std::vector<BlockRange>> changes =
      source->ReadChanges(id, lane, join.common, join.to);
  if (absl::IsOutOfRange(changes.status())) {
    join.everything = true;
    return join;
  }
  RETURN_IF_ERROR(changes.status());
  join.changes = *std::move(changes);
  return join;
}

absl::Status BeginJoin(Store* source, Store* target, VolumeId id, uint64_t join_id,
                       bool everything) {
  ASSIGN_OR_RETURN(const VolumeState state, target->GetVolume(id));
  for (const LaneState& lane : state.lanes) {
    ASSIGN_OR_RETURN(JoinLane join,
                     PlanJoin(source, target, id, lane.lane, join_id, everything));
    absl::Status status = target->BeginJoin(id, join);
    if (absl::IsOutOfRange(status)) {
      join.everything = true;
      status = target->BeginJoin(id, join);
    }
    RETURN_IF_ERROR(status);
  }
  return absl::OkStatus();
}

absl::StatusOr<uint64_t> CopySome(Store* source, Store* target, VolumeId id, LaneId lane,
                                  size_t ranges_max, uint64_t bytes_max, uint64_t* from_block) {
  const uint64_t from = from_block == nullptr ? 0 : *from_block;
  ASSIGN_OR_RETURN(const InvalidPage page, target->InvalidBlocks(id, lane, from, ranges_max));
  ASSIGN_OR_RETURN(VersionsPart read,
                   source->ReadVersions(id, lane, page.ranges, page.to, bytes_max));
  uint64_t bytes = 0;
  for (const BlockVersion& version : read.versions) bytes += version.data.size();
  CopyPart part{.lane = lane, .join_id = page.join_id, .to = page.to,
                .ranges = std::move(read.ranges), .versions = std::move(read.versions)};
  RETURN_IF_ERROR(target->CopyIn(id, part));
  if (from_block != nullptr && !part.ranges.empty()) *from_block = part.ranges.back().end();
  return bytes;
}

absl::StatusOr<uint64_t> CopyAll(Store* source, Store* target, VolumeId id) {
  ASSIGN_OR_RETURN(const VolumeState state, target->GetVolume(id));
  uint64_t bytes = 0;
  for (const LaneState& lane : state.lanes) {
    uint64_t left = lane.invalid_blocks;
    uint64_t from = 0;
    while (left > 0) {
      ASSIGN_OR_RETURN(const uint64_t copied,
                       CopySome(source, target, id, lane.lane, 256, 1 << 20, &from));
      bytes += copied;
      ASSIGN_OR_RETURN(const InvalidPage page, target->InvalidBlocks(id, lane.lane, from, 1));
      if (page.invalid_blocks >= left) return absl::InternalError("a copy made no progress");
      left = page.invalid_blocks;
    }
  }
  return bytes;
}

uint64_t InvalidBlocksOf(const Store& store, VolumeId id) {
  uint64_t invalid = 0;
  const absl::StatusOr<VolumeState> state = store.GetVolume(id);
  if (!state.ok()) return 0;
  for (const LaneState& lane : state->lanes) invalid += lane.invalid_blocks;
  return invalid;
}

}  // namespace weir::store::testing
