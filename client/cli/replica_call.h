// Unary calls to replicas. Apart from context.h, since few commands make them and what
// gRPC generates takes a second or two to compile.
#ifndef WEIR_CLIENT_CLI_REPLICA_CALL_H_
#define WEIR_CLIENT_CLI_REPLICA_CALL_H_

#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/cli/context.h"
#include "grpcpp/client_context.h"
#include "weir/v1/replica.grpc.pb.h"

namespace weir::cli {

// Calls `call` with a connection to the replica, and a context that ends after --timeout. UNAVAILABLE: it cannot be reached.
absl::Status WithReplica(Context& context, const std::string& replica,
                         const std::function<grpc::Status(v1::ReplicaService::Stub&, grpc::ClientContext*)>& call);

template <typename Request, typename Response>
using ReplicaMethod = grpc::Status (v1::ReplicaService::Stub::*)(grpc::ClientContext*, const Request&, Response*);

template <typename Request, typename Response>
absl::StatusOr<Response> CallReplica(Context& context, const std::string& replica, ReplicaMethod<Request, Response> method,
                                     const Request& request) {
  Response response;
  const absl::Status status =
      WithReplica(context, replica, [&](v1::ReplicaService::Stub& stub, grpc::ClientContext* call) {
        return (stub.*method)(call, request, &response);
      });
  if (!status.ok()) return status;
  return response;
}

}  // namespace weir::cli

#endif  // WEIR_CLIENT_CLI_REPLICA_CALL_H_
