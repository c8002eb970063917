#include "replica/server/record_calls.h"

#include <algorithm>
#include <vector>

#include "absl/status/statusor.h"
#include "proto/base/status_macros.h"
#include "replica/server/admission.h"

namespace weir::replica {
namespace {

// A page has one record more than fits in this; gRPC's limit is 8 MiB.
constexpr size_t kPageBytes = 1 << 20;

}  // namespace

absl::Status KeepRecord(Replica& replica, const v1::KeepRecordRequest& request) {
  const auto keep = [&](VolumeId id) {
    return replica.store().KeepRecord(
        id, {request.fence().epoch(), request.revision(), request.record()});
  };
  return replica.gate().Step(request.fence(), keep, Acquaintance::kStore);
}

absl::Status ListRecords(Replica& replica, const v1::ListRecordsRequest& request,
                         v1::ListRecordsResponse* response) {
  const store::Store& store = replica.store();
  const store::Identity identity = store.identity();
  response->set_name(replica.options().name);
  response->set_cluster_id(identity.cluster_id);
  response->set_store_id(identity.store_id);
  std::vector<VolumeId> volumes = store.Volumes();
  std::sort(volumes.begin(), volumes.end());
  size_t bytes = 0;
  for (VolumeId id : volumes) {
    if (static_cast<uint64_t>(id) < request.from_volume_id()) continue;
    if (bytes > kPageBytes) {
      response->set_next_volume_id(static_cast<uint64_t>(id));
      break;
    }
    const absl::StatusOr<store::VolumeState> state = store.GetVolume(id);
    if (absl::IsNotFound(state.status())) continue;  // deleted in between
    RETURN_IF_ERROR(state.status());
    v1::KeptRecord* kept = response->add_records();
    kept->set_volume_id(static_cast<uint64_t>(id));
    // A copy that cannot be read must not hide the others.
    if (const absl::StatusOr<store::RecordCopy> copy = store.GetRecord(id); copy.ok()) {
      kept->set_epoch(copy->epoch);
      kept->set_revision(copy->revision);
      kept->set_record(copy->record);
    }
    kept->set_promised_epoch(state->promised_epoch);
    LaneStatesToProto(state->lanes, kept->mutable_lanes());
    kept->set_size_bytes(state->geometry.size_blocks * kBlockBytes);
    kept->mutable_pins()->Assign(state->pins.begin(), state->pins.end());
    bytes += kept->ByteSizeLong();
  }
  return absl::OkStatus();
}

}  // namespace weir::replica
