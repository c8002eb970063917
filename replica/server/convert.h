// Messages <-> the store's structs. Pure functions.
#ifndef WEIR_REPLICA_SERVER_CONVERT_H_
#define WEIR_REPLICA_SERVER_CONVERT_H_

#include <cstddef>
#include <utility>
#include <vector>

#include "google/protobuf/repeated_field.h"
#include "proto/base/position.h"
#include "replica/store/store.h"
#include "weir/v1/replica.pb.h"
#include "weir/v1/types.pb.h"

namespace weir::replica {

using LanePositions = std::vector<std::pair<LaneId, Position>>;

inline VolumeId VolumeIdOf(const v1::Fence& fence) { return VolumeId{fence.volume_id()}; }

void LaneStatesToProto(const std::vector<store::LaneState>& lanes,
                       google::protobuf::RepeatedPtrField<v1::LaneState>* out);
void PositionToProto(LaneId lane, Position position, v1::LanePosition* out);
LanePositions PositionsFromProto(
    const google::protobuf::RepeatedPtrField<v1::LanePosition>& positions);
std::vector<LineageEntry> LineageFromProto(
    const google::protobuf::RepeatedPtrField<v1::LineageEntry>& lineage);

std::vector<BlockRange> RangesFromProto(
    const google::protobuf::RepeatedPtrField<v1::BlockRun>& runs);
void RangesToProto(const std::vector<BlockRange>& ranges,
                   google::protobuf::RepeatedPtrField<v1::BlockRun>* out);
std::vector<store::BlockVersion> VersionsFromProto(
    const google::protobuf::RepeatedPtrField<v1::BlockVersion>& versions);
void VersionToProto(store::BlockVersion version, v1::BlockVersion* out);

store::VolumeUpdate UpdateFromProto(const v1::UpdateReplicaVolumeRequest& request);
store::JoinLane JoinLaneFromProto(const v1::BeginJoinRequest& request);
store::CopyPart CopyPartFromProto(const v1::CopyInRequest& request);

// What the first message of a tail says of it, without its chunk.
store::Tail TailFromProto(const v1::AdoptTailRequest& first);
// Appends a chunk to a tail that is being put together.
void AppendChunk(const v1::TailChunk& chunk, store::Tail* tail);

// A tail in chunks below `bytes_max` each (one block version may exceed it alone), changes first.
class TailChunker {
 public:
  TailChunker(store::Tail tail, size_t bytes_max)
      : tail_(std::move(tail)), bytes_max_(bytes_max) {}
  // False: there is nothing more.
  bool Next(v1::TailChunk* chunk);

 private:
  store::Tail tail_;
  const size_t bytes_max_;
  size_t next_change_ = 0;
  size_t next_version_ = 0;
};

}  // namespace weir::replica

#endif  // WEIR_REPLICA_SERVER_CONVERT_H_
