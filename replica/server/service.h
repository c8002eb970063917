// ReplicaService: the unary calls, and those that move tails and blocks. Each runs on
// one of the replica's control threads, since most of them sync.
//
// Thread-safety: safe. `replica` outlives it and every call.
#ifndef WEIR_REPLICA_SERVER_SERVICE_H_
#define WEIR_REPLICA_SERVER_SERVICE_H_

#include <functional>

#include "absl/status/status.h"
#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/server_callback.h"
#include "replica/server/replica.h"
#include "weir/v1/replica.grpc.pb.h"
#include "weir/v1/replica.pb.h"

namespace weir::replica {

template <typename Base>
using WithVolumeCalls = v1::ReplicaService::WithCallbackMethod_GetReplica<
    v1::ReplicaService::WithCallbackMethod_CreateVolume<
        v1::ReplicaService::WithCallbackMethod_DeleteVolume<
            v1::ReplicaService::WithCallbackMethod_Seal<
                v1::ReplicaService::WithCallbackMethod_ReadTail<
                    v1::ReplicaService::WithCallbackMethod_AdoptTail<
                        v1::ReplicaService::WithCallbackMethod_TakeBase<
                            Base>>>>>>>;
template <typename Base>
using WithJoinCalls = v1::ReplicaService::WithCallbackMethod_GetChanges<
    v1::ReplicaService::WithCallbackMethod_BeginJoin<
        v1::ReplicaService::WithCallbackMethod_ReadVersions<
            v1::ReplicaService::WithCallbackMethod_CopyIn<
                v1::ReplicaService::WithCallbackMethod_GetJoin<
                    v1::ReplicaService::WithCallbackMethod_FinishJoin<
                        v1::ReplicaService::WithCallbackMethod_GetDigests<
                            Base>>>>>>>;
template <typename Base>
using WithPinCalls = v1::ReplicaService::WithCallbackMethod_UpdateVolume<
    v1::ReplicaService::WithCallbackMethod_ReadPinned<
        v1::ReplicaService::WithCallbackMethod_GetChangedSince<
            Base>>>;
template <typename Base>
using WithRecordCalls = v1::ReplicaService::WithCallbackMethod_KeepRecord<
    v1::ReplicaService::WithCallbackMethod_ListRecords<
        Base>>;
template <typename Base>
using WithFaultCalls = v1::ReplicaService::WithCallbackMethod_SetFault<
    v1::ReplicaService::WithCallbackMethod_ListFaults<
        v1::ReplicaService::WithCallbackMethod_ClearFaults<
            Base>>>;
// Io takes raw frames, so that payloads stay in the slices they came in.
using ServiceBase = v1::ReplicaService::WithRawCallbackMethod_Io<
    WithVolumeCalls<WithPinCalls<WithRecordCalls<WithJoinCalls<WithFaultCalls<v1::ReplicaService::Service>>>>>>;

class Service final : public ServiceBase {
 public:
  explicit Service(Replica& replica) : replica_(replica) {}

  grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* Io(
      grpc::CallbackServerContext* context) override;
  grpc::ServerUnaryReactor* GetReplica(grpc::CallbackServerContext* context,
                                       const v1::GetReplicaRequest* request,
                                       v1::GetReplicaResponse* response) override;
  grpc::ServerUnaryReactor* CreateVolume(grpc::CallbackServerContext* context,
                                         const v1::CreateReplicaVolumeRequest* request,
                                         v1::CreateReplicaVolumeResponse* response) override;
  grpc::ServerUnaryReactor* DeleteVolume(grpc::CallbackServerContext* context,
                                         const v1::DeleteReplicaVolumeRequest* request,
                                         v1::DeleteReplicaVolumeResponse* response) override;
  grpc::ServerUnaryReactor* Seal(grpc::CallbackServerContext* context,
                                 const v1::SealRequest* request,
                                 v1::SealResponse* response) override;
  grpc::ServerWriteReactor<v1::TailChunk>* ReadTail(grpc::CallbackServerContext* context,
                                                    const v1::ReadTailRequest* request) override;
  grpc::ServerReadReactor<v1::AdoptTailRequest>* AdoptTail(
      grpc::CallbackServerContext* context, v1::AdoptTailResponse* response) override;
  grpc::ServerUnaryReactor* TakeBase(grpc::CallbackServerContext* context,
                                     const v1::TakeBaseRequest* request,
                                     v1::TakeBaseResponse* response) override;
  grpc::ServerUnaryReactor* UpdateVolume(grpc::CallbackServerContext* context,
                                         const v1::UpdateReplicaVolumeRequest* request,
                                         v1::UpdateReplicaVolumeResponse* response) override;
  grpc::ServerUnaryReactor* ReadPinned(grpc::CallbackServerContext* context,
                                       const v1::ReadPinnedRequest* request,
                                       v1::ReadPinnedResponse* response) override;
  grpc::ServerUnaryReactor* GetChangedSince(grpc::CallbackServerContext* context,
                                            const v1::GetChangedSinceRequest* request,
                                            v1::GetChangedSinceResponse* response) override;
  grpc::ServerUnaryReactor* KeepRecord(grpc::CallbackServerContext* context,
                                       const v1::KeepRecordRequest* request,
                                       v1::KeepRecordResponse* response) override;
  grpc::ServerUnaryReactor* ListRecords(grpc::CallbackServerContext* context,
                                        const v1::ListRecordsRequest* request,
                                        v1::ListRecordsResponse* response) override;
  grpc::ServerUnaryReactor* GetChanges(grpc::CallbackServerContext* context,
                                       const v1::GetChangesRequest* request,
                                       v1::GetChangesResponse* response) override;
  grpc::ServerUnaryReactor* BeginJoin(grpc::CallbackServerContext* context,
                                      const v1::BeginJoinRequest* request,
                                      v1::BeginJoinResponse* response) override;
  grpc::ServerWriteReactor<v1::VersionsPart>* ReadVersions(
      grpc::CallbackServerContext* context, const v1::ReadVersionsRequest* request) override;
  grpc::ServerUnaryReactor* CopyIn(grpc::CallbackServerContext* context,
                                   const v1::CopyInRequest* request,
                                   v1::CopyInResponse* response) override;
  grpc::ServerUnaryReactor* GetJoin(grpc::CallbackServerContext* context,
                                    const v1::GetJoinRequest* request,
                                    v1::GetJoinResponse* response) override;
  grpc::ServerUnaryReactor* FinishJoin(grpc::CallbackServerContext* context,
                                       const v1::FinishJoinRequest* request,
                                       v1::FinishJoinResponse* response) override;
  grpc::ServerUnaryReactor* GetDigests(grpc::CallbackServerContext* context,
                                       const v1::GetDigestsRequest* request,
                                       v1::GetDigestsResponse* response) override;
  grpc::ServerUnaryReactor* SetFault(grpc::CallbackServerContext* context,
                                     const v1::SetFaultRequest* request,
                                     v1::SetFaultResponse* response) override;
  grpc::ServerUnaryReactor* ListFaults(grpc::CallbackServerContext* context,
                                       const v1::ListFaultsRequest* request,
                                       v1::ListFaultsResponse* response) override;
  grpc::ServerUnaryReactor* ClearFaults(grpc::CallbackServerContext* context,
                                        const v1::ClearFaultsRequest* request,
                                        v1::ClearFaultsResponse* response) override;

 private:
  grpc::ServerUnaryReactor* Run(grpc::CallbackServerContext* context,
                                std::function<absl::Status()> call);
  // Refused if the caller may not act for the fence's volume.
  grpc::ServerUnaryReactor* Run(grpc::CallbackServerContext* context, const v1::Fence& fence,
                                std::function<absl::Status()> call);
  grpc::ServerUnaryReactor* RunIf(const absl::Status& granted, grpc::CallbackServerContext* context,
                                  std::function<absl::Status()> call);
  absl::Status CheckFaultsEnabled() const;

  absl::Status DoGetReplica(const v1::GetReplicaRequest& request, v1::GetReplicaResponse* response);
  absl::Status DoCreateVolume(const v1::CreateReplicaVolumeRequest& request,
                              v1::CreateReplicaVolumeResponse* response);
  absl::Status DoDeleteVolume(const v1::DeleteReplicaVolumeRequest& request);
  absl::Status DoSeal(const v1::SealRequest& request, v1::SealResponse* response);
  absl::Status DoTakeBase(const v1::TakeBaseRequest& request);

  Replica& replica_;
};

}  // namespace weir::replica

#endif  // WEIR_REPLICA_SERVER_SERVICE_H_
