#include "client/cli/context.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "client/cli/output.h"
#include "proto/base/status_macros.h"
#include "proto/wire/identity.h"
#include "proto/wire/status.h"

namespace weir::cli {
namespace {

constexpr absl::Duration kConnectTimeout = absl::Seconds(5);
// Where others may do as well, or the next step is an operator's.
constexpr absl::Duration kConnectTimeoutOfMany = absl::Seconds(2);

}  // namespace

void Context::Print(const google::protobuf::Message& message, const std::string& text) {
  out << (json() ? ToJson(message) : text);
}

void Context::PrintDone(const std::string& volume, const std::string& result,
                        const std::string& text) {
  out << (json() ? absl::StrCat("{\"volume\": \"", volume, "\", \"result\": \"", result, "\"}\n")
                 : text);
}

absl::StatusOr<ClusterEnv> Context::Environment() const {
  ClusterEnv env;
  if (!cluster_dir.empty()) {
    ASSIGN_OR_RETURN(env, ReadClusterEnv(cluster_dir));
  }
  if (tls.given()) env.tls = tls;
  env.tls.insecure = tls.insecure;
  RETURN_IF_ERROR(wire::UseTls(env.tls));
  if (!volume_addr.empty()) env.volume_addr = volume_addr;
  if (!replica_addrs.empty()) {
    ASSIGN_OR_RETURN(env.replica_addrs, ParseNamedValues(replica_addrs));
  }
  return env;
}

// Name and address of those to try, in this order.
absl::StatusOr<NamedValues> Context::Frontends() {
  ASSIGN_OR_RETURN(ClusterEnv env, Environment());
  if (!volume_addr.empty()) return NamedValues{{"", volume_addr}};
  if (frontend.empty() && !env.volume_addrs.empty()) return env.volume_addrs;
  std::vector<std::string> names;
  for (const auto& [name, address] : env.volume_addrs) {
    if (name == frontend) return NamedValues{{name, address}};
    names.push_back(name);
  }
  if (!names.empty()) {
    return Usage(absl::NotFoundError(absl::StrCat("no frontend ", frontend, "; there are ",
                                                  absl::StrJoin(names, ", "))));
  }
  return Usage(absl::InvalidArgumentError(
      "the frontend's address is not known; give --cluster=DIR (or WEIR_CLUSTER) or "
      "--volume_addr=HOST:PORT"));
}

absl::StatusOr<std::unique_ptr<Client>> Context::Connect(const std::string& address,
                                                         absl::Duration connect_timeout) const {
  ClientOptions options;
  options.timeout = absl::Seconds(timeout_s);
  options.connect_timeout = std::min(connect_timeout, options.timeout);
  return Client::Connect(address, options);
}

absl::StatusOr<std::unique_ptr<Client>> Context::ConnectFrontend() {
  ASSIGN_OR_RETURN(const NamedValues frontends, Frontends());
  const absl::Duration timeout =
      frontends.size() > 1 ? kConnectTimeoutOfMany : kConnectTimeout;
  absl::StatusOr<std::unique_ptr<Client>> client = absl::UnavailableError("no frontend");
  for (const auto& [name, address] : frontends) {
    client = Connect(address, timeout);
    if (client.ok()) break;
  }
  return client;
}

absl::StatusOr<std::unique_ptr<Client>> Context::ConnectFrontendOf(const std::string& volume,
                                                                   Purpose purpose) {
  ASSIGN_OR_RETURN(std::unique_ptr<Client> client, ConnectFrontend());
  if (!volume_addr.empty() || !frontend.empty()) return client;
  const absl::StatusOr<v1::Volume> found = client->GetVolume(volume);
  // What is wrong with it, the command itself will say.
  if (!found.ok() || (found->state() != "ELSEWHERE" && found->state() != "FENCED") ||
      found->frontend_address().empty()) {
    return client;
  }
  absl::StatusOr<std::unique_ptr<Client>> other =
      Connect(found->frontend_address(), kConnectTimeoutOfMany);
  if (other.ok()) return other;
  if (purpose == Purpose::kLook) return client;
  return absl::UnavailableError(absl::StrCat(
      "volume ", volume, " is attached at frontend ", found->frontend(), ", which does not answer (",
      other.status().message(), "); if that one is gone, take the volume over: weirctl volume "
      "attach ", volume, " --frontend=NAME (or --volume_addr)"));
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

}  // namespace weir::cli
