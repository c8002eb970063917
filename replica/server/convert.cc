#include "replica/server/convert.h"

namespace weir::replica {
namespace {

// What an entry takes on the wire at most, beside its data.
constexpr size_t kEntryBytes = 48;

}  // namespace

void PositionToProto(LaneId lane, Position position, v1::LanePosition* out) {
  out->set_lane(Index(lane));
  out->set_position(position.bits());
}

void LaneStatesToProto(const std::vector<store::LaneState>& lanes,
                       google::protobuf::RepeatedPtrField<v1::LaneState>* out) {
  for (const store::LaneState& lane : lanes) {
    v1::LaneState* state = out->Add();
    state->set_lane(Index(lane.lane));
    state->set_position(lane.position.bits());
    state->set_durable_position(lane.durable_position.bits());
    state->set_domain(lane.domain);
    for (const LineageEntry& entry : lane.lineage) {
      v1::LineageEntry* added = state->add_lineage();
      added->set_epoch(entry.epoch);
      added->set_n(entry.n);
    }
    state->set_invalid_blocks(lane.invalid_blocks);
    state->set_join_id(lane.join_id);
    state->set_join_position(lane.join_to.bits());
  }
}

LanePositions PositionsFromProto(
    const google::protobuf::RepeatedPtrField<v1::LanePosition>& positions) {
  LanePositions result;
  result.reserve(static_cast<size_t>(positions.size()));
  for (const v1::LanePosition& position : positions) {
    result.emplace_back(LaneId{position.lane()}, Position::FromBits(position.position()));
  }
  return result;
}

std::vector<LineageEntry> LineageFromProto(
    const google::protobuf::RepeatedPtrField<v1::LineageEntry>& lineage) {
  std::vector<LineageEntry> result;
  for (const v1::LineageEntry& entry : lineage) result.push_back({entry.epoch(), entry.n()});
  return result;
}

std::vector<BlockRange> RangesFromProto(
    const google::protobuf::RepeatedPtrField<v1::BlockRun>& runs) {
  std::vector<BlockRange> ranges;
  ranges.reserve(static_cast<size_t>(runs.size()));
  for (const v1::BlockRun& run : runs) ranges.push_back({run.first_block(), run.block_count()});
  return ranges;
}

store::VolumeUpdate UpdateFromProto(const v1::UpdateReplicaVolumeRequest& request) {
  store::VolumeUpdate update{.version = request.version(),
                             .size_blocks = request.size_bytes() / kBlockBytes,
                             .pins = {}};
  for (const v1::Pin& wire : request.pins()) {
    Pin& pin = update.pins.emplace_back();
    pin.id = wire.id();
    for (uint64_t bits : wire.positions()) pin.positions.push_back(Position::FromBits(bits));
  }
  return update;
}

void RangesToProto(const std::vector<BlockRange>& ranges,
                   google::protobuf::RepeatedPtrField<v1::BlockRun>* out) {
  for (const BlockRange& range : ranges) {
    v1::BlockRun* run = out->Add();
    run->set_first_block(range.first);
    run->set_block_count(range.count);
  }
}

std::vector<store::BlockVersion> VersionsFromProto(
    const google::protobuf::RepeatedPtrField<v1::BlockVersion>& versions) {
  std::vector<store::BlockVersion> result;
  result.reserve(static_cast<size_t>(versions.size()));
  for (const v1::BlockVersion& version : versions) {
    result.push_back({.block = version.block(),
                      .position = Position::FromBits(version.position()),
                      .zero = version.zero(),
                      .crc = version.crc32c(),
                      .data = version.data(),
                      .lost = version.lost()});
  }
  return result;
}

void VersionToProto(store::BlockVersion version, v1::BlockVersion* out) {
  out->set_block(version.block);
  out->set_position(version.position.bits());
  out->set_zero(version.zero);
  out->set_crc32c(version.crc);
  out->set_data(std::move(version.data));
  out->set_lost(version.lost);
}

store::JoinLane JoinLaneFromProto(const v1::BeginJoinRequest& request) {
  store::JoinLane join;
  join.lane = LaneId{request.lane()};
  join.join_id = request.join_id();
  join.expected = Position::FromBits(request.expected_position());
  join.to = Position::FromBits(request.to_position());
  join.lineage = LineageFromProto(request.lineage());
  join.common = Position::FromBits(request.common_position());
  join.changes = RangesFromProto(request.changes());
  join.invalid = RangesFromProto(request.invalid());
  join.everything = request.everything();
  return join;
}

store::CopyPart CopyPartFromProto(const v1::CopyInRequest& request) {
  return {.lane = LaneId{request.lane()},
          .join_id = request.join_id(),
          .to = Position::FromBits(request.to_position()),
          .ranges = RangesFromProto(request.ranges()),
          .versions = VersionsFromProto(request.versions())};
}

store::Tail TailFromProto(const v1::AdoptTailRequest& first) {
  store::Tail tail;
  tail.lane = LaneId{first.lane()};
  tail.from = Position::FromBits(first.from_position());
  tail.to = Position::FromBits(first.to_position());
  tail.expected = first.expected_position() == 0 ? tail.from
                                                 : Position::FromBits(first.expected_position());
  tail.lineage = LineageFromProto(first.lineage());
  return tail;
}

void AppendChunk(const v1::TailChunk& chunk, store::Tail* tail) {
  for (const v1::ChangeEntry& change : chunk.changes()) {
    tail->changes.push_back({Position::FromBits(change.position()),
                             BlockRange{change.first_block(), change.block_count()}});
  }
  for (store::BlockVersion& version : VersionsFromProto(chunk.versions())) {
    tail->versions.push_back(std::move(version));
  }
}

bool TailChunker::Next(v1::TailChunk* chunk) {
  chunk->Clear();
  size_t bytes = 0;
  while (next_change_ < tail_.changes.size() && bytes + kEntryBytes <= bytes_max_) {
    const store::ChangeEntry& change = tail_.changes[next_change_++];
    v1::ChangeEntry* added = chunk->add_changes();
    added->set_position(change.position.bits());
    added->set_first_block(change.range.first);
    added->set_block_count(static_cast<uint32_t>(change.range.count));
    bytes += kEntryBytes;
  }
  while (next_change_ == tail_.changes.size() && next_version_ < tail_.versions.size()) {
    store::BlockVersion& version = tail_.versions[next_version_];
    const size_t version_bytes = kEntryBytes + version.data.size();
    if (bytes > 0 && bytes + version_bytes > bytes_max_) break;
    VersionToProto(std::move(version), chunk->add_versions());
    bytes += version_bytes;
    ++next_version_;
  }
  return bytes > 0;
}

}  // namespace weir::replica
