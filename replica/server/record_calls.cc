#include "replica/server/record_calls.h"

#include "absl/status/statusor.h"
#include "proto/base/status_macros.h"
#include "replica/server/admission.h"
#include "replica/server/tail_calls.h"

namespace weir::replica {

absl::Status KeepRecord(Replica& replica, const v1::KeepRecordRequest& request) {
  const auto keep = [&](VolumeId id) {
    return replica.store().KeepRecord(
        id, {request.fence().epoch(), request.revision(), request.record()});
  };
  return FencedStep(replica, request.fence(), keep, Acquaintance::kStore);
}

// Of a store that has failed too, as far as it can be read: for its owner it may be the last one that knows.
absl::Status ListRecords(Replica& replica, v1::ListRecordsResponse* response) {
  const store::Store& store = replica.store();
  const store::Identity identity = store.identity();
  response->set_name(replica.options().name);
  response->set_cluster_id(identity.cluster_id);
  response->set_store_id(identity.store_id);
  for (VolumeId id : store.Volumes()) {
    const absl::StatusOr<store::VolumeState> state = store.GetVolume(id);
    if (!state.ok()) continue;  // deleted in between
    ASSIGN_OR_RETURN(const store::RecordCopy copy, store.GetRecord(id));
    v1::KeptRecord* kept = response->add_records();
    kept->set_volume_id(static_cast<uint64_t>(id));
    kept->set_epoch(copy.epoch);
    kept->set_revision(copy.revision);
    kept->set_record(copy.record);
    kept->set_promised_epoch(state->promised_epoch);
    for (const store::LaneState& lane : state->lanes) {
      v1::LanePosition* position = kept->add_positions();
      position->set_lane(Index(lane.lane));
      position->set_position(lane.position.bits());
    }
    kept->set_size_bytes(state->geometry.size_blocks * kBlockBytes);
    kept->mutable_pins()->Assign(state->pins.begin(), state->pins.end());
  }
  return absl::OkStatus();
}

}  // namespace weir::replica
