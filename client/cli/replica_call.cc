#include "client/cli/replica_call.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "grpcpp/create_channel.h"
#include "proto/base/status_macros.h"
#include "proto/wire/identity.h"
#include "proto/wire/status.h"

namespace weir::cli {

absl::Status WithReplica(Context& context, const std::string& replica,
                         const std::function<grpc::Status(v1::ReplicaService::Stub&, grpc::ClientContext*)>& call) {
  ASSIGN_OR_RETURN(std::string address, context.ReplicaAddress(replica));
  RETURN_IF_ERROR(wire::CheckDial("replica_addrs", address, wire::IdentityFiles()));
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  auto channel = grpc::CreateCustomChannel(address, wire::ChannelCredentials(address), arguments);
  auto stub = v1::ReplicaService::NewStub(channel);
  grpc::ClientContext client_context;
  client_context.set_deadline(absl::ToChronoTime(absl::Now() + absl::Seconds(context.timeout_s)));
  const absl::Status status = wire::FromGrpc(call(*stub, &client_context));
  if (status.code() == absl::StatusCode::kUnavailable) {
    return absl::UnavailableError(absl::StrCat("cannot reach ", replica, " at ", address, " (", status.message(),
                                               "); check that it runs"));
  }
  return status;
}

}  // namespace weir::cli
