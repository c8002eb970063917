#include "client/cli/context.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "client/cli/output.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/security/credentials.h"
#include "proto/base/status_macros.h"
#include "proto/wire/status.h"

namespace weir::cli {

void Context::Print(const google::protobuf::Message& message, const std::string& text) {
  out << (json() ? ToJson(message) : text);
}

absl::StatusOr<ClusterEnv> Context::Environment() const {
  ClusterEnv env;
  if (!cluster_dir.empty()) {
    ASSIGN_OR_RETURN(env, ReadClusterEnv(cluster_dir));
  }
  if (!volume_addr.empty()) env.volume_addr = volume_addr;
  if (!replica_addrs.empty()) {
    ASSIGN_OR_RETURN(env.replica_addrs, ParseNamedValues(replica_addrs));
  }
  return env;
}

absl::StatusOr<std::unique_ptr<Client>> Context::ConnectFrontend() {
  ASSIGN_OR_RETURN(ClusterEnv env, Environment());
  if (env.volume_addr.empty()) {
    return Usage(absl::InvalidArgumentError(
        "the frontend's address is not known; give --cluster=DIR (or WEIR_CLUSTER) or "
        "--volume_addr=HOST:PORT"));
  }
  ClientOptions options;
  options.timeout = absl::Seconds(timeout_s);
  options.connect_timeout = std::min(absl::Seconds(5), options.timeout);
  return Client::Connect(env.volume_addr, options);
}

absl::StatusOr<std::vector<std::string>> Context::ReplicaNames() {
  ASSIGN_OR_RETURN(ClusterEnv env, Environment());
  std::vector<std::string> names;
  for (const auto& [name, address] : env.replica_addrs) names.push_back(name);
  if (!names.empty()) return names;
  return Usage(absl::InvalidArgumentError(
      "the replicas are not known; name one, or give --cluster=DIR (or WEIR_CLUSTER)"));
}

absl::StatusOr<std::string> Context::ReplicaAddress(const std::string& replica) {
  ASSIGN_OR_RETURN(ClusterEnv env, Environment());
  std::vector<std::string> names;
  for (const auto& [name, address] : env.replica_addrs) {
    if (name == replica) return address;
    names.push_back(name);
  }
  if (replica.find(':') != std::string::npos) return replica;
  return absl::NotFoundError(
      names.empty()
          ? absl::StrCat("the address of ", replica,
                         " is not known; give --cluster=DIR (or WEIR_CLUSTER), or "
                         "--replica_addrs=",
                         replica, "=HOST:PORT")
          : absl::StrCat("no replica ", replica, "; there are ", absl::StrJoin(names, ", ")));
}

absl::Status Context::WithReplica(
    const std::string& replica,
    const std::function<grpc::Status(v1::ReplicaService::Stub&, grpc::ClientContext*)>& call) {
  ASSIGN_OR_RETURN(std::string address, ReplicaAddress(replica));
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  auto channel = grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
  auto stub = v1::ReplicaService::NewStub(channel);
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + absl::Seconds(timeout_s)));
  absl::Status status = wire::FromGrpc(call(*stub, &context));
  if (status.code() == absl::StatusCode::kUnavailable) {
    return absl::UnavailableError(absl::StrCat("cannot reach ", replica, " at ", address, " (",
                                               status.message(), "); check that it runs"));
  }
  return status;
}

}  // namespace weir::cli
