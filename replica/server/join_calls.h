// The calls of a join: a lane's history and its blocks go from one replica to another.
//
// Thread-safety: safe. The unary ones block and run on a control thread. The
// reactor owns itself until OnDone. `replica` outlives them.
#ifndef WEIR_REPLICA_SERVER_JOIN_CALLS_H_
#define WEIR_REPLICA_SERVER_JOIN_CALLS_H_

#include "absl/status/status.h"
#include "grpcpp/support/server_callback.h"
#include "proto/wire/access.h"
#include "replica/server/replica.h"
#include "weir/v1/replica.pb.h"

namespace weir::replica {

absl::Status GetChanges(Replica& replica, const v1::GetChangesRequest& request,
                        v1::GetChangesResponse* response);
absl::Status BeginJoin(Replica& replica, const v1::BeginJoinRequest& request);
absl::Status CopyIn(Replica& replica, const v1::CopyInRequest& request);
absl::Status GetJoin(Replica& replica, const v1::GetJoinRequest& request,
                     v1::GetJoinResponse* response);
absl::Status GetDigests(Replica& replica, const v1::GetDigestsRequest& request,
                        v1::GetDigestsResponse* response);
absl::Status FinishJoin(Replica& replica, const v1::FinishJoinRequest& request);

grpc::ServerWriteReactor<v1::VersionsPart>* StartReadVersions(
    Replica& replica, const wire::VolumeGrant& grant, const v1::ReadVersionsRequest& request);

}  // namespace weir::replica

#endif  // WEIR_REPLICA_SERVER_JOIN_CALLS_H_
