#include "volume/host/volume_service.h"

#include <utility>

#include "proto/base/payload.h"
#include "proto/base/status_macros.h"
#include "proto/wire/status.h"
#include "volume/host/long_request.h"
#include "volume/host/request_codec.h"
#include "volume/host/trace_call.h"

namespace weir::host {

VolumeService::Reactor* VolumeService::Control(
    Context* context, std::function<absl::Status()> call) {
  Reactor* reactor = context->DefaultReactor();
  const bool accepted = control_->Run([reactor, call = std::move(call)] {
    reactor->Finish(wire::ToGrpc(call()));
  });
  if (!accepted) {
    reactor->Finish(wire::ToGrpc(absl::ResourceExhaustedError(
        "too many control calls wait; try again later")));
  }
  return reactor;
}

VolumeService::Reactor* VolumeService::CreateVolume(
    Context* context, const v1::CreateVolumeRequest* request,
    v1::CreateVolumeResponse* response) {
  return Control(context, [this, request, response]() -> absl::Status {
    ASSIGN_OR_RETURN(*response->mutable_volume(), host_->CreateVolume(*request));
    return absl::OkStatus();
  });
}

VolumeService::Reactor* VolumeService::DeleteVolume(
    Context* context, const v1::DeleteVolumeRequest* request,
    v1::DeleteVolumeResponse*) {
  return Control(context,
                 [this, request] { return host_->DeleteVolume(request->name()); });
}

VolumeService::Reactor* VolumeService::ListVolumes(
    Context* context, const v1::ListVolumesRequest*,
    v1::ListVolumesResponse* response) {
  return Control(context, [this, response]() -> absl::Status {
    ASSIGN_OR_RETURN(const std::vector<v1::Volume> volumes,
                     host_->ListVolumes());
    response->mutable_volumes()->Assign(volumes.begin(), volumes.end());
    return absl::OkStatus();
  });
}

VolumeService::Reactor* VolumeService::GetVolume(
    Context* context, const v1::GetVolumeRequest* request,
    v1::GetVolumeResponse* response) {
  return Control(context, [this, request, response]() -> absl::Status {
    ASSIGN_OR_RETURN(*response->mutable_volume(),
                     host_->GetVolume(request->name()));
    return absl::OkStatus();
  });
}

VolumeService::Reactor* VolumeService::Attach(Context* context,
                                              const v1::AttachRequest* request,
                                              v1::AttachResponse* response) {
  return Control(context, [this, request, response]() -> absl::Status {
    const AttachMode mode = request->unless_elsewhere() ? AttachMode::kUnlessElsewhere
                                                        : AttachMode::kTakeOver;
    RETURN_IF_ERROR(host_->Attach(request->name(), mode).status());
    ASSIGN_OR_RETURN(*response->mutable_volume(),
                     host_->GetVolume(request->name()));
    return absl::OkStatus();
  });
}

VolumeService::Reactor* VolumeService::Detach(Context* context,
                                              const v1::DetachRequest* request,
                                              v1::DetachResponse*) {
  return Control(context, [this, request] {
    return host_->Detach(request->name(), request->force());
  });
}

VolumeService::Reactor* VolumeService::Suspend(Context* context,
                                               const v1::SuspendRequest* request,
                                               v1::SuspendResponse*) {
  return Control(context, [this, request] { return host_->Suspend(*request); });
}

VolumeService::Reactor* VolumeService::Resume(Context* context,
                                              const v1::ResumeRequest* request,
                                              v1::ResumeResponse*) {
  return Control(context,
                 [this, request] { return host_->Resume(request->name()); });
}

VolumeService::Reactor* VolumeService::LoadTable(
    Context* context, const v1::LoadTableRequest* request,
    v1::LoadTableResponse*) {
  return Control(context,
                 [this, request] { return host_->LoadTable(*request); });
}

VolumeService::Reactor* VolumeService::ReplaceMember(Context* context,
                                                     const v1::ReplaceMemberRequest* request,
                                                     v1::ReplaceMemberResponse* response) {
  return Control(context, [this, request, response]() -> absl::Status {
    ASSIGN_OR_RETURN(*response, host_->ReplaceMember(*request));
    return absl::OkStatus();
  });
}

VolumeService::Reactor* VolumeService::Scrub(Context* context, const v1::ScrubRequest* request,
                                             v1::ScrubResponse* response) {
  return Control(context, [this, request, response]() -> absl::Status {
    ASSIGN_OR_RETURN(*response->mutable_scrub(), host_->Scrub(*request));
    return absl::OkStatus();
  });
}

VolumeService::Reactor* VolumeService::ExpandVolume(Context* context,
                                                    const v1::ExpandVolumeRequest* request,
                                                    v1::ExpandVolumeResponse* response) {
  return Control(context, [this, request, response]() -> absl::Status {
    ASSIGN_OR_RETURN(*response->mutable_volume(),
                     host_->ExpandVolume(request->name(), request->size_bytes()));
    return absl::OkStatus();
  });
}

VolumeService::Reactor* VolumeService::CloneVolume(Context* context,
                                                   const v1::CloneVolumeRequest* request,
                                                   v1::CloneVolumeResponse* response) {
  return Control(context, [this, request, response]() -> absl::Status {
    ASSIGN_OR_RETURN(*response->mutable_volume(), host_->CloneVolume(*request));
    return absl::OkStatus();
  });
}

VolumeService::Reactor* VolumeService::FlattenVolume(Context* context,
                                                     const v1::FlattenVolumeRequest* request,
                                                     v1::FlattenVolumeResponse* response) {
  return Control(context, [this, request, response]() -> absl::Status {
    ASSIGN_OR_RETURN(*response, host_->FlattenVolume(*request));
    return absl::OkStatus();
  });
}

VolumeService::Reactor* VolumeService::RestoreVolume(Context* context,
                                                     const v1::RestoreVolumeRequest* request,
                                                     v1::RestoreVolumeResponse* response) {
  return Control(context, [this, request, response]() -> absl::Status {
    ASSIGN_OR_RETURN(*response, host_->RestoreVolume(*request));
    return absl::OkStatus();
  });
}

VolumeService::Reactor* VolumeService::CreateSnapshot(
    Context* context, const v1::CreateSnapshotRequest* request,
    v1::CreateSnapshotResponse* response) {
  return Control(context, [this, request, response]() -> absl::Status {
    ASSIGN_OR_RETURN(*response->mutable_snapshot(),
                     host_->CreateSnapshot(request->volume(), request->name()));
    return absl::OkStatus();
  });
}

VolumeService::Reactor* VolumeService::ListSnapshots(
    Context* context, const v1::ListSnapshotsRequest* request,
    v1::ListSnapshotsResponse* response) {
  return Control(context, [this, request, response]() -> absl::Status {
    ASSIGN_OR_RETURN(const std::vector<v1::Snapshot> snapshots,
                     host_->ListSnapshots(request->volume()));
    response->mutable_snapshots()->Assign(snapshots.begin(), snapshots.end());
    return absl::OkStatus();
  });
}

VolumeService::Reactor* VolumeService::GetSnapshot(
    Context* context, const v1::GetSnapshotRequest* request,
    v1::GetSnapshotResponse* response) {
  return Control(context, [this, request, response]() -> absl::Status {
    ASSIGN_OR_RETURN(*response->mutable_snapshot(),
                     host_->GetSnapshot(request->volume(), request->name()));
    return absl::OkStatus();
  });
}

VolumeService::Reactor* VolumeService::DeleteSnapshot(
    Context* context, const v1::DeleteSnapshotRequest* request, v1::DeleteSnapshotResponse*) {
  return Control(context, [this, request] {
    return host_->DeleteSnapshot(request->volume(), request->name());
  });
}

VolumeService::Reactor* VolumeService::Explain(Context* context,
                                               const v1::ExplainRequest* request,
                                               v1::ExplainResponse* response) {
  return Control(context, [this, request, response]() -> absl::Status {
    ASSIGN_OR_RETURN(*response, host_->Explain(request->name()));
    return absl::OkStatus();
  });
}

VolumeService::Reactor* VolumeService::Trace(Context*, const v1::TraceRequest* request,
                                             v1::TraceResponse* response) {
  return TraceCall::Begin(host_->GetAttached(request->name()), *request, response);
}

VolumeService::Reactor* VolumeService::ListReplicas(
    Context* context, const v1::ListReplicasRequest*,
    v1::ListReplicasResponse* response) {
  return Control(context, [this, response]() -> absl::Status {
    ASSIGN_OR_RETURN(const std::vector<v1::ReplicaSummary> replicas,
                     host_->ListReplicas());
    response->mutable_replicas()->Assign(replicas.begin(), replicas.end());
    return absl::OkStatus();
  });
}

VolumeService::Reactor* VolumeService::ForgetReplica(Context* context, const v1::ForgetReplicaRequest* request,
                                                     v1::ForgetReplicaResponse*) {
  return Control(context, [this, request] { return host_->ForgetReplica(request->name()); });
}

VolumeService::Reactor* VolumeService::ListFrontends(Context* context,
                                                     const v1::ListFrontendsRequest*,
                                                     v1::ListFrontendsResponse* response) {
  return Control(context, [this, response]() -> absl::Status {
    ASSIGN_OR_RETURN(const std::vector<v1::FrontendSummary> frontends, host_->ListFrontends());
    response->mutable_frontends()->Assign(frontends.begin(), frontends.end());
    return absl::OkStatus();
  });
}

VolumeService::Reactor* VolumeService::SetAttributes(Context* context,
                                                     const v1::SetAttributesRequest* request,
                                                     v1::SetAttributesResponse* response) {
  return Control(context, [this, request, response]() -> absl::Status {
    ASSIGN_OR_RETURN(*response->mutable_volume(), host_->SetAttributes(*request));
    return absl::OkStatus();
  });
}

VolumeService::Reactor* VolumeService::RebuildCatalog(Context* context,
                                                      const v1::RebuildCatalogRequest* request,
                                                      v1::RebuildCatalogResponse* response) {
  return Control(context, [this, request, response]() -> absl::Status {
    ASSIGN_OR_RETURN(*response, host_->RebuildCatalog(*request));
    return absl::OkStatus();
  });
}

grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* VolumeService::Io(
    Context*) {
  return VolumeIoStream::Begin(
      VolumeIoStream::Options(),
      [this](const std::string& name) { return host_->GetAttached(name); },
      &sessions_);
}

VolumeService::Reactor* VolumeService::Data(
    Context* context, const std::string& name, IoRequest request,
    std::function<void(IoOutcome&)> answer) {
  Reactor* reactor = context->DefaultReactor();
  absl::StatusOr<std::shared_ptr<HostedVolume>> volume =
      host_->GetAttached(name);
  if (!volume.ok()) {
    reactor->Finish(wire::ToGrpc(volume.status()));
    return reactor;
  }
  SubmitAnyLength(*volume, std::move(request),
                  [reactor, answer = std::move(answer)](IoOutcome outcome) {
                    if (outcome.result.ok()) answer(outcome);
                    reactor->Finish(OutcomeStatus(outcome));
                  });
  return reactor;
}

VolumeService::Reactor* VolumeService::DataWithTargets(
    Context* context, const std::string& name, IoRequest request,
    v1::WriteResponse* response) {
  return Data(context, name, std::move(request), [response](IoOutcome& outcome) {
    EncodeTargets(outcome.targets, response->mutable_targets());
  });
}

VolumeService::Reactor* VolumeService::Read(Context* context,
                                            const v1::ReadRequest* request,
                                            v1::ReadResponse* response) {
  if (!request->snapshot().empty()) {
    return Control(context, [this, request, response]() -> absl::Status {
      ASSIGN_OR_RETURN(*response->mutable_data(), host_->ReadSnapshot(*request));
      return absl::OkStatus();
    });
  }
  IoRequest io;
  io.kind = engine::RequestKind::kRead;
  io.offset_bytes = request->offset_bytes();
  io.length_bytes = request->length_bytes();
  return Data(context, request->name(), std::move(io),
              [response](IoOutcome& outcome) {
                std::string* data = response->mutable_data();
                for (const Payload& piece : ReadPayload(outcome.parts)) {
                  data->append(piece.bytes().data(), piece.size());
                }
              });
}

namespace {

// A copy: the replay buffer may keep the data longer than gRPC the request.
IoRequest WriteLike(engine::RequestKind kind, const v1::WriteRequest& request) {
  IoRequest io;
  io.kind = kind;
  io.offset_bytes = request.offset_bytes();
  io.length_bytes = request.data().size();
  io.fua = request.fua();
  io.data = Payload::CopyOf(request.data());
  return io;
}

}  // namespace

VolumeService::Reactor* VolumeService::Write(Context* context,
                                             const v1::WriteRequest* request,
                                             v1::WriteResponse* response) {
  return DataWithTargets(context, request->name(),
                         WriteLike(engine::RequestKind::kWrite, *request),
                         response);
}

VolumeService::Reactor* VolumeService::Barrier(Context* context,
                                               const v1::WriteRequest* request,
                                               v1::WriteResponse* response) {
  return DataWithTargets(context, request->name(),
                         WriteLike(engine::RequestKind::kBarrier, *request),
                         response);
}

VolumeService::Reactor* VolumeService::WriteZeroes(
    Context* context, const v1::WriteZeroesRequest* request,
    v1::WriteResponse* response) {
  IoRequest io;
  io.kind = engine::RequestKind::kWriteZeroes;
  io.offset_bytes = request->offset_bytes();
  io.length_bytes = request->length_bytes();
  io.fua = request->fua();
  return DataWithTargets(context, request->name(), std::move(io), response);
}

VolumeService::Reactor* VolumeService::Discard(
    Context* context, const v1::DiscardRequest* request,
    v1::WriteResponse* response) {
  IoRequest io;
  io.kind = engine::RequestKind::kDiscard;
  io.offset_bytes = request->offset_bytes();
  io.length_bytes = request->length_bytes();
  return DataWithTargets(context, request->name(), std::move(io), response);
}

VolumeService::Reactor* VolumeService::Flush(Context* context,
                                             const v1::FlushRequest* request,
                                             v1::WriteResponse* response) {
  IoRequest io;
  io.kind = engine::RequestKind::kFlush;
  return DataWithTargets(context, request->name(), std::move(io), response);
}

}  // namespace weir::host
