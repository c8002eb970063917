// VolumeService over a Host.
//
// Control calls block, so they run on a work queue, not on gRPC's threads. Data
// calls are answered by the thread that completes the request.
//
// Thread-safety: safe. Host and queue outlive it; the server is shut down first.
#ifndef WEIR_VOLUME_HOST_VOLUME_SERVICE_H_
#define WEIR_VOLUME_HOST_VOLUME_SERVICE_H_

#include <functional>
#include <string>

#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/server_callback.h"
#include "volume/host/client_sessions.h"
#include "volume/host/host.h"
#include "volume/host/volume_io_stream.h"
#include "volume/host/work_queue.h"
#include "weir/v1/volume.grpc.pb.h"

namespace weir::host {

// Io in its raw form, all else as messages.
using VolumeServiceData =
    v1::VolumeService::WithCallbackMethod_Read<
    v1::VolumeService::WithCallbackMethod_Write<
    v1::VolumeService::WithCallbackMethod_WriteZeroes<
    v1::VolumeService::WithCallbackMethod_Discard<
    v1::VolumeService::WithCallbackMethod_Barrier<
    v1::VolumeService::WithCallbackMethod_Flush<
    v1::VolumeService::Service>>>>>>;
using VolumeServiceIo = v1::VolumeService::WithRawCallbackMethod_Io<VolumeServiceData>;
using VolumeServiceSnapshots =
    v1::VolumeService::WithCallbackMethod_ExpandVolume<
    v1::VolumeService::WithCallbackMethod_CloneVolume<
    v1::VolumeService::WithCallbackMethod_FlattenVolume<
    v1::VolumeService::WithCallbackMethod_RestoreVolume<
    v1::VolumeService::WithCallbackMethod_CreateSnapshot<
    v1::VolumeService::WithCallbackMethod_ListSnapshots<
    v1::VolumeService::WithCallbackMethod_GetSnapshot<
    v1::VolumeService::WithCallbackMethod_DeleteSnapshot<
    VolumeServiceIo>>>>>>>>;
using VolumeServiceBase =
    v1::VolumeService::WithCallbackMethod_CreateVolume<
    v1::VolumeService::WithCallbackMethod_DeleteVolume<
    v1::VolumeService::WithCallbackMethod_ListVolumes<
    v1::VolumeService::WithCallbackMethod_GetVolume<
    v1::VolumeService::WithCallbackMethod_Attach<
    v1::VolumeService::WithCallbackMethod_Detach<
    v1::VolumeService::WithCallbackMethod_Suspend<
    v1::VolumeService::WithCallbackMethod_Resume<
    v1::VolumeService::WithCallbackMethod_LoadTable<
    v1::VolumeService::WithCallbackMethod_ReplaceMember<
    v1::VolumeService::WithCallbackMethod_Scrub<
    v1::VolumeService::WithCallbackMethod_Explain<
    v1::VolumeService::WithCallbackMethod_Trace<
    v1::VolumeService::WithCallbackMethod_ListReplicas<
    v1::VolumeService::WithCallbackMethod_ListFrontends<
    v1::VolumeService::WithCallbackMethod_SetAttributes<
    v1::VolumeService::WithCallbackMethod_RebuildCatalog<
    v1::VolumeService::WithCallbackMethod_ForgetReplica<
    VolumeServiceSnapshots>>>>>>>>>>>>>>>>>>;

class VolumeService final : public VolumeServiceBase {
 public:
  VolumeService(Host* host, WorkQueue* control)
      : host_(host), control_(control) {}

  // The host is shutting down. Clients' streams end, and what is unanswered on them is not answered: they are
  // to go on with whoever has the volume next, if it says that they may.
  void EndSessions() {
    sessions_.End(absl::UnavailableError("this frontend is shutting down"));
  }

  using Context = grpc::CallbackServerContext;
  using Reactor = grpc::ServerUnaryReactor;

  Reactor* CreateVolume(Context* context, const v1::CreateVolumeRequest* request,
                        v1::CreateVolumeResponse* response) override;
  Reactor* DeleteVolume(Context* context, const v1::DeleteVolumeRequest* request,
                        v1::DeleteVolumeResponse* response) override;
  Reactor* ListVolumes(Context* context, const v1::ListVolumesRequest* request,
                       v1::ListVolumesResponse* response) override;
  Reactor* GetVolume(Context* context, const v1::GetVolumeRequest* request,
                     v1::GetVolumeResponse* response) override;
  Reactor* Attach(Context* context, const v1::AttachRequest* request,
                  v1::AttachResponse* response) override;
  Reactor* Detach(Context* context, const v1::DetachRequest* request,
                  v1::DetachResponse* response) override;
  Reactor* Suspend(Context* context, const v1::SuspendRequest* request,
                   v1::SuspendResponse* response) override;
  Reactor* Resume(Context* context, const v1::ResumeRequest* request,
                  v1::ResumeResponse* response) override;
  Reactor* LoadTable(Context* context, const v1::LoadTableRequest* request,
                     v1::LoadTableResponse* response) override;
  Reactor* ReplaceMember(Context* context, const v1::ReplaceMemberRequest* request,
                         v1::ReplaceMemberResponse* response) override;
  Reactor* ExpandVolume(Context* context, const v1::ExpandVolumeRequest* request,
                        v1::ExpandVolumeResponse* response) override;
  Reactor* CloneVolume(Context* context, const v1::CloneVolumeRequest* request,
                       v1::CloneVolumeResponse* response) override;
  Reactor* FlattenVolume(Context* context, const v1::FlattenVolumeRequest* request,
                         v1::FlattenVolumeResponse* response) override;
  Reactor* RestoreVolume(Context* context, const v1::RestoreVolumeRequest* request,
                         v1::RestoreVolumeResponse* response) override;
  Reactor* CreateSnapshot(Context* context, const v1::CreateSnapshotRequest* request,
                          v1::CreateSnapshotResponse* response) override;
  Reactor* ListSnapshots(Context* context, const v1::ListSnapshotsRequest* request,
                         v1::ListSnapshotsResponse* response) override;
  Reactor* GetSnapshot(Context* context, const v1::GetSnapshotRequest* request,
                       v1::GetSnapshotResponse* response) override;
  Reactor* DeleteSnapshot(Context* context, const v1::DeleteSnapshotRequest* request,
                          v1::DeleteSnapshotResponse* response) override;
  Reactor* Scrub(Context* context, const v1::ScrubRequest* request,
                 v1::ScrubResponse* response) override;
  Reactor* Explain(Context* context, const v1::ExplainRequest* request,
                   v1::ExplainResponse* response) override;
  Reactor* Trace(Context* context, const v1::TraceRequest* request,
                 v1::TraceResponse* response) override;
  Reactor* ListReplicas(Context* context, const v1::ListReplicasRequest* request,
                        v1::ListReplicasResponse* response) override;
  Reactor* ForgetReplica(Context* context, const v1::ForgetReplicaRequest* request,
                         v1::ForgetReplicaResponse* response) override;
  Reactor* ListFrontends(Context* context, const v1::ListFrontendsRequest* request,
                         v1::ListFrontendsResponse* response) override;
  Reactor* SetAttributes(Context* context, const v1::SetAttributesRequest* request,
                         v1::SetAttributesResponse* response) override;
  Reactor* RebuildCatalog(Context* context, const v1::RebuildCatalogRequest* request,
                          v1::RebuildCatalogResponse* response) override;

  grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* Io(
      Context* context) override;
  Reactor* Read(Context* context, const v1::ReadRequest* request,
                v1::ReadResponse* response) override;
  Reactor* Write(Context* context, const v1::WriteRequest* request,
                 v1::WriteResponse* response) override;
  Reactor* WriteZeroes(Context* context, const v1::WriteZeroesRequest* request,
                       v1::WriteResponse* response) override;
  Reactor* Discard(Context* context, const v1::DiscardRequest* request,
                   v1::WriteResponse* response) override;
  Reactor* Barrier(Context* context, const v1::WriteRequest* request,
                   v1::WriteResponse* response) override;
  Reactor* Flush(Context* context, const v1::FlushRequest* request,
                 v1::WriteResponse* response) override;

 private:
  // Runs `call` on the control queue and finishes with its status.
  Reactor* Control(Context* context, std::function<absl::Status()> call);
  // Submits to the volume; `answer` fills the response in on success.
  Reactor* Data(Context* context, const std::string& name, IoRequest request,
                std::function<void(IoOutcome&)> answer);
  // Data whose response is what single targets said.
  Reactor* DataWithTargets(Context* context, const std::string& name,
                           IoRequest request, v1::WriteResponse* response);

  Host* const host_;
  WorkQueue* const control_;
  ClientSessions sessions_;
};

}  // namespace weir::host

#endif  // WEIR_VOLUME_HOST_VOLUME_SERVICE_H_
