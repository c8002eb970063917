#include "replica/server/service.h"

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "proto/base/log.h"
#include "proto/base/status_macros.h"
#include "proto/base/version.h"
#include "proto/wire/identity.h"
#include "proto/wire/status.h"
#include "replica/server/admission.h"
#include "replica/server/convert.h"
#include "replica/server/disk_probes.h"
#include "replica/server/io_stream.h"
#include "replica/server/join_calls.h"
#include "replica/server/pin_calls.h"
#include "replica/server/record_calls.h"
#include "replica/server/tail_calls.h"

namespace weir::replica {
namespace {

uint64_t Number(VolumeId volume) { return static_cast<uint64_t>(volume); }

template <typename Request>
Gate::Changes ChangesIn(const Request& request) {
  return request.has_volume_changes() ? Gate::Changes(request.volume_changes()) : std::nullopt;
}

}  // namespace

grpc::ServerUnaryReactor* Service::Run(grpc::CallbackServerContext* context,
                                       std::function<absl::Status()> call) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const bool taken = replica_.control().Run([this, context, reactor, call = std::move(call)] {
    // Whoever gave up may have asked for something else since, above all after a delete.
    if (context->IsCancelled()) {
      return reactor->Finish(wire::ToGrpc(absl::CancelledError("the caller has given up")));
    }
    const absl::Status status = call();
    if (!status.ok()) replica_.CheckHealth();
    reactor->Finish(wire::ToGrpc(status));
  });
  if (!taken) {
    reactor->Finish(wire::ToGrpc(
        absl::UnavailableError("the replica is busy or shutting down; try again")));
  }
  return reactor;
}

grpc::ServerUnaryReactor* Service::Run(grpc::CallbackServerContext* context, const v1::Fence& fence,
                                       std::function<absl::Status()> call) {
  return RunIf(wire::GrantOf(*context).Check(fence.volume_id()), context, std::move(call));
}

grpc::ServerUnaryReactor* Service::RunIf(const absl::Status& granted, grpc::CallbackServerContext* context,
                                         std::function<absl::Status()> call) {
  if (granted.ok()) return Run(context, std::move(call));
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(wire::ToGrpc(granted));
  return reactor;
}

grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* Service::Io(
    grpc::CallbackServerContext* context) {
  return IoStream::Start(replica_, wire::GrantOf(*context), context->peer());
}

grpc::ServerUnaryReactor* Service::GetReplica(grpc::CallbackServerContext* context,
                                              const v1::GetReplicaRequest* request,
                                              v1::GetReplicaResponse* response) {
  return Run(context, [this, request, response] { return DoGetReplica(*request, response); });
}

absl::Status Service::DoGetReplica(const v1::GetReplicaRequest& request, v1::GetReplicaResponse* response) {
  store::Store& store = replica_.store();
  const store::Identity identity = store.identity();
  response->set_name(replica_.options().name);
  response->set_cluster_id(identity.cluster_id);
  response->set_store_id(identity.store_id);
  response->set_incarnation(identity.incarnation);
  response->set_generation(identity.generation);
  if (request.volume_id() != 0) response->set_volume_changes(replica_.gate().volume_changes(VolumeId{request.volume_id()}));
  response->set_boot_id(replica_.boot_id());
  const absl::Status health = store.health();
  response->set_state(health.ok() ? "SERVING" : "FAILED");
  response->set_state_reason(std::string(health.message()));
  response->set_version(kVersion);
  response->set_fault_injection(replica_.options().enable_fault_injection);
  response->set_registration(replica_.registration());
  response->mutable_labels()->insert(replica_.options().labels.begin(),
                                     replica_.options().labels.end());
  uint32_t index = 0;
  for (const std::string& path : replica_.options().store.data_dirs) {
    const DirectorySpace space = SpaceOf(path);
    v1::DataDir* directory = response->add_data_dirs();
    directory->set_path(path);
    directory->set_index(index);
    directory->set_capacity_bytes(space.capacity_bytes);
    directory->set_available_bytes(space.available_bytes);
    if (const auto truth = replica_.disks().Of(index++); truth != nullptr) {
      *directory->mutable_disk() = DiskTruthToProto(*truth);
    }
  }
  for (VolumeId id : store.Volumes()) {
    const absl::StatusOr<store::VolumeState> state = store.GetVolume(id);
    if (!state.ok()) continue;  // deleted in between
    v1::ReplicaVolume* volume = response->add_volumes();
    volume->set_volume_id(Number(id));
    volume->set_size_bytes(state->geometry.size_blocks * kBlockBytes);
    volume->set_promised_epoch(state->promised_epoch);
    LaneStatesToProto(state->lanes, volume->mutable_lanes());
    volume->mutable_pins()->Assign(state->pins.begin(), state->pins.end());
    const absl::StatusOr<store::SpaceUsed> space = store.GetSpaceUsed(id);
    if (!space.ok()) continue;  // a failed store still says what it is
    volume->set_live_bytes(space->live_bytes);
    volume->set_pinned_bytes(space->pinned_bytes);
    volume->set_reclaimable_bytes(space->reclaimable_bytes);
  }
  return absl::OkStatus();
}

grpc::ServerUnaryReactor* Service::CreateVolume(grpc::CallbackServerContext* context,
                                                const v1::CreateReplicaVolumeRequest* request,
                                                v1::CreateReplicaVolumeResponse* response) {
  return Run(context, request->fence(), [this, request, response] { return DoCreateVolume(*request, response); });
}

absl::Status Service::DoCreateVolume(const v1::CreateReplicaVolumeRequest& request,
                                     v1::CreateReplicaVolumeResponse* response) {
  const v1::Fence& fence = request.fence();
  if (Number(VolumeIdOf(fence)) == 0) return absl::InvalidArgumentError("fence.volume_id is missing");
  ASSIGN_OR_RETURN(const store::VolumeGeometry geometry,
                   CheckGeometry(request.size_bytes(), request.lanes(), request.stripe_blocks()));
  RETURN_IF_ERROR(replica_.gate().CreateVolume(fence, geometry, ChangesIn(request)));
  LOG(INFO) << "replica=" << replica_.options().name << " cluster=" << fence.cluster_id()
            << " volume=" << fence.volume_id() << " created size_bytes=" << request.size_bytes();
  const store::Identity identity = replica_.store().identity();
  response->set_store_id(identity.store_id);
  response->set_incarnation(identity.incarnation);
  response->set_boot_id(replica_.boot_id());
  return absl::OkStatus();
}

grpc::ServerUnaryReactor* Service::DeleteVolume(grpc::CallbackServerContext* context,
                                                const v1::DeleteReplicaVolumeRequest* request,
                                                v1::DeleteReplicaVolumeResponse*) {
  return Run(context, request->fence(), [this, request] { return DoDeleteVolume(*request); });
}

absl::Status Service::DoDeleteVolume(const v1::DeleteReplicaVolumeRequest& request) {
  ASSIGN_OR_RETURN(const bool deleted, replica_.gate().DeleteVolume(request.fence(), ChangesIn(request)));
  if (deleted) {
    LOG(INFO) << "replica=" << replica_.options().name << " volume=" << request.fence().volume_id() << " deleted";
  }
  return absl::OkStatus();
}

grpc::ServerUnaryReactor* Service::Seal(grpc::CallbackServerContext* context,
                                        const v1::SealRequest* request,
                                        v1::SealResponse* response) {
  return Run(context, request->fence(), [this, request, response] { return DoSeal(*request, response); });
}

absl::Status Service::DoSeal(const v1::SealRequest& request, v1::SealResponse* response) {
  const v1::Fence& fence = request.fence();
  ASSIGN_OR_RETURN(const Gate::Sealed sealed, replica_.gate().Seal(fence));
  // Not each time that a frontend tries to bring a member back, which it does for as long as that one is away.
  if (sealed.raised) {
    LOG(INFO) << "replica=" << replica_.options().name << " volume=" << fence.volume_id()
              << " epoch=" << fence.epoch() << " sealed";
  }
  const store::Identity identity = replica_.store().identity();
  response->set_store_id(identity.store_id);
  response->set_incarnation(identity.incarnation);
  response->set_boot_id(replica_.boot_id());
  LaneStatesToProto(sealed.volume.lanes, response->mutable_lanes());
  response->set_flush_supported(replica_.FlushSupported());
  return absl::OkStatus();
}

grpc::ServerWriteReactor<v1::TailChunk>* Service::ReadTail(grpc::CallbackServerContext* context,
                                                           const v1::ReadTailRequest* request) {
  return StartReadTail(replica_, wire::GrantOf(*context), *request);
}

grpc::ServerReadReactor<v1::AdoptTailRequest>* Service::AdoptTail(grpc::CallbackServerContext* context,
                                                                  v1::AdoptTailResponse*) {
  return StartAdoptTail(replica_, wire::GrantOf(*context));
}

grpc::ServerUnaryReactor* Service::TakeBase(grpc::CallbackServerContext* context,
                                            const v1::TakeBaseRequest* request,
                                            v1::TakeBaseResponse*) {
  return Run(context, request->fence(), [this, request] { return DoTakeBase(*request); });
}

absl::Status Service::DoTakeBase(const v1::TakeBaseRequest& request) {
  const LanePositions expected = PositionsFromProto(request.expected());
  return replica_.gate().Step(request.fence(), [&](VolumeId id) {
    RETURN_IF_ERROR(replica_.store().TakeBase(id, request.fence().epoch(), request.act_epoch(), expected));
    LOG(INFO) << "replica=" << replica_.options().name << " volume=" << Number(id)
              << " epoch=" << request.fence().epoch() << " base taken";
    return absl::OkStatus();
  });
}

// --- pins ---

grpc::ServerUnaryReactor* Service::UpdateVolume(grpc::CallbackServerContext* context,
                                                const v1::UpdateReplicaVolumeRequest* request,
                                                v1::UpdateReplicaVolumeResponse*) {
  return Run(context, request->fence(), [this, request] { return replica::UpdateVolume(replica_, *request); });
}

grpc::ServerUnaryReactor* Service::ReadPinned(grpc::CallbackServerContext* context,
                                              const v1::ReadPinnedRequest* request,
                                              v1::ReadPinnedResponse* response) {
  return Run(context, request->fence(), [this, request, response] {
    return replica::ReadPinned(replica_, *request, response);
  });
}

grpc::ServerUnaryReactor* Service::GetChangedSince(grpc::CallbackServerContext* context,
                                                   const v1::GetChangedSinceRequest* request,
                                                   v1::GetChangedSinceResponse* response) {
  return Run(context, request->fence(), [this, request, response] {
    return replica::GetChangedSince(replica_, *request, response);
  });
}

// --- copies of records ---

grpc::ServerUnaryReactor* Service::KeepRecord(grpc::CallbackServerContext* context,
                                              const v1::KeepRecordRequest* request,
                                              v1::KeepRecordResponse*) {
  return Run(context, request->fence(), [this, request] { return replica::KeepRecord(replica_, *request); });
}

grpc::ServerUnaryReactor* Service::ListRecords(grpc::CallbackServerContext* context,
                                               const v1::ListRecordsRequest* request,
                                               v1::ListRecordsResponse* response) {
  // What somebody sees only half of he cannot make a catalog of.
  return RunIf(wire::GrantOf(*context).CheckAll(), context,
               [this, request, response] { return replica::ListRecords(replica_, *request, response); });
}

// --- join ---

grpc::ServerUnaryReactor* Service::GetChanges(grpc::CallbackServerContext* context,
                                              const v1::GetChangesRequest* request,
                                              v1::GetChangesResponse* response) {
  return Run(context, request->fence(), [this, request, response] {
    return replica::GetChanges(replica_, *request, response);
  });
}

grpc::ServerUnaryReactor* Service::BeginJoin(grpc::CallbackServerContext* context,
                                             const v1::BeginJoinRequest* request,
                                             v1::BeginJoinResponse*) {
  return Run(context, request->fence(), [this, request] { return replica::BeginJoin(replica_, *request); });
}

grpc::ServerWriteReactor<v1::VersionsPart>* Service::ReadVersions(
    grpc::CallbackServerContext* context, const v1::ReadVersionsRequest* request) {
  return StartReadVersions(replica_, wire::GrantOf(*context), *request);
}

grpc::ServerUnaryReactor* Service::CopyIn(grpc::CallbackServerContext* context,
                                          const v1::CopyInRequest* request, v1::CopyInResponse*) {
  return Run(context, request->fence(), [this, request] { return replica::CopyIn(replica_, *request); });
}

grpc::ServerUnaryReactor* Service::GetJoin(grpc::CallbackServerContext* context,
                                           const v1::GetJoinRequest* request,
                                           v1::GetJoinResponse* response) {
  return Run(context, request->fence(), [this, request, response] {
    return replica::GetJoin(replica_, *request, response);
  });
}

grpc::ServerUnaryReactor* Service::FinishJoin(grpc::CallbackServerContext* context,
                                              const v1::FinishJoinRequest* request,
                                              v1::FinishJoinResponse*) {
  return Run(context, request->fence(), [this, request] { return replica::FinishJoin(replica_, *request); });
}

grpc::ServerUnaryReactor* Service::GetDigests(grpc::CallbackServerContext* context,
                                              const v1::GetDigestsRequest* request,
                                              v1::GetDigestsResponse* response) {
  return Run(context, request->fence(), [this, request, response] {
    return replica::GetDigests(replica_, *request, response);
  });
}

// --- faults: quick, so on the thread that received the call ---

absl::Status Service::CheckFaultsEnabled() const {
  if (replica_.options().enable_fault_injection) return absl::OkStatus();
  // Not PERMISSION_DENIED: that says which certificate is needed, and none would help.
  return absl::FailedPreconditionError(absl::StrCat(
      "fault injection is off on replica ", replica_.options().name, "; start it with --enable_fault_injection"));
}

grpc::ServerUnaryReactor* Service::SetFault(grpc::CallbackServerContext* context,
                                            const v1::SetFaultRequest* request,
                                            v1::SetFaultResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  absl::Status status = CheckFaultsEnabled();
  if (status.ok()) {
    const absl::StatusOr<uint64_t> id = replica_.faults().Add(request->fault());
    status = id.status();
    if (id.ok()) {
      response->set_id(*id);
      LOG(WARNING) << "replica=" << replica_.options().name << " fault rule " << *id
                   << " set: " << request->fault().ShortDebugString();
    }
  }
  reactor->Finish(wire::ToGrpc(status));
  return reactor;
}

grpc::ServerUnaryReactor* Service::ListFaults(grpc::CallbackServerContext* context,
                                              const v1::ListFaultsRequest*,
                                              v1::ListFaultsResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const absl::Status status = CheckFaultsEnabled();
  if (status.ok()) {
    for (v1::Fault& fault : replica_.faults().List()) *response->add_faults() = std::move(fault);
  }
  reactor->Finish(wire::ToGrpc(status));
  return reactor;
}

grpc::ServerUnaryReactor* Service::ClearFaults(grpc::CallbackServerContext* context,
                                               const v1::ClearFaultsRequest* request,
                                               v1::ClearFaultsResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const absl::Status status = CheckFaultsEnabled();
  if (status.ok()) response->set_cleared(replica_.faults().Clear(request->id()));
  reactor->Finish(wire::ToGrpc(status));
  return reactor;
}

}  // namespace weir::replica
