#include "client/csi/frontends.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "client/csi/names.h"
#include "grpcpp/client_context.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/generic/generic_stub.h"
#include "grpcpp/support/byte_buffer.h"
#include "proto/base/status_macros.h"
#include "proto/wire/identity.h"
#include "proto/wire/status.h"

namespace weir::csi {
namespace {

// A frontend that is there answers at once; one whose host is gone never does.
constexpr absl::Duration kAnswerMax = absl::Seconds(1);
constexpr int kReconnectMs = 200;

// gRPC's own service, which no other work of the frontend holds up.
constexpr char kProbe[] = "/grpc.health.v1.Health/Check";

bool Answers(const std::shared_ptr<grpc::Channel>& channel, absl::Time deadline) {
  grpc::GenericStub stub(channel);
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(deadline));
  context.set_wait_for_ready(true);
  const grpc::Slice nothing;
  const grpc::ByteBuffer request(&nothing, 1);
  grpc::ByteBuffer response;
  absl::Notification done;
  grpc::Status status;
  stub.UnaryCall(&context, kProbe, grpc::StubOptions(), &request, &response, [&](grpc::Status ended) {
    status = std::move(ended);
    done.Notify();
  });
  done.WaitForNotification();
  return status.error_code() != grpc::StatusCode::DEADLINE_EXCEEDED &&
         status.error_code() != grpc::StatusCode::UNAVAILABLE;
}

}  // namespace

std::shared_ptr<Frontends::Connection> Frontends::ConnectionTo(const std::string& address) {
  absl::MutexLock lock(&mutex_);
  std::shared_ptr<Connection>& connection = connections_[address];
  if (connection == nullptr) {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
    // Else a new channel may get the connection of the one that was given up.
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    // One that is started again is found again soon.
    arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, kReconnectMs);
    arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, kReconnectMs);
    connection = std::make_shared<Connection>();
    connection->channel = grpc::CreateCustomChannel(address, wire::ChannelCredentials(address), arguments);
    connection->stub = v1::VolumeService::NewStub(connection->channel);
  }
  return connection;
}

bool Frontends::IsLive(const std::string& address, absl::Time deadline) {
  const std::shared_ptr<Connection> connection = ConnectionTo(address);
  const bool live = Answers(connection->channel, std::min(deadline, absl::Now() + kAnswerMax));
  if (live) return true;
  absl::MutexLock lock(&mutex_);
  // The next one to ask begins with a new connection: this one may never be found dead.
  const auto found = connections_.find(address);
  if (found != connections_.end() && found->second == connection) connections_.erase(found);
  return false;
}

absl::StatusOr<std::string> Frontends::Live(absl::Time deadline) {
  std::vector<std::string> addresses = seeds_;
  {
    absl::MutexLock lock(&mutex_);
    for (const std::string& address : known_) {
      if (std::find(addresses.begin(), addresses.end(), address) == addresses.end()) {
        addresses.push_back(address);
      }
    }
    std::stable_partition(addresses.begin(), addresses.end(), [this](const std::string& address)
        ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return address == last_live_; });
  }
  for (const std::string& address : addresses) {
    if (!IsLive(address, deadline)) continue;
    absl::MutexLock lock(&mutex_);
    last_live_ = address;
    return address;
  }
  return absl::UnavailableError(absl::StrCat("no frontend answers at ", absl::StrJoin(addresses, ", "),
                                             "; check that weir-volume runs"));
}

absl::Status Frontends::Run(const std::string& address, absl::Time deadline, const BoundCall& call) {
  const std::shared_ptr<Connection> connection = ConnectionTo(address);
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(deadline));
  const absl::Status status = wire::FromGrpc(call(*connection->stub, &context));
  if (!absl::IsUnavailable(status)) return status;
  return absl::UnavailableError(absl::StrCat("frontend at ", address, ": ", status.message()));
}

absl::StatusOr<v1::Volume> Frontends::GetVolume(const std::string& name, absl::Time deadline) {
  v1::GetVolumeRequest request;
  request.set_name(name);
  ASSIGN_OR_RETURN(v1::GetVolumeResponse response, Call(&Stub::GetVolume, request, deadline));
  return std::move(*response.mutable_volume());
}

absl::StatusOr<std::vector<v1::FrontendSummary>> Frontends::List(absl::Time deadline) {
  ASSIGN_OR_RETURN(const v1::ListFrontendsResponse response,
                   Call(&Stub::ListFrontends, v1::ListFrontendsRequest(), deadline));
  std::vector<v1::FrontendSummary> frontends;
  std::vector<std::string> addresses;
  for (const v1::FrontendSummary& frontend : response.frontends()) {
    if (frontend.address().empty()) continue;
    frontends.push_back(frontend);
    addresses.push_back(frontend.address());
  }
  absl::MutexLock lock(&mutex_);
  known_ = std::move(addresses);
  return frontends;
}

absl::StatusOr<v1::FrontendSummary> Frontends::OfNode(const std::string& node, absl::Time deadline) {
  ASSIGN_OR_RETURN(const std::vector<v1::FrontendSummary> frontends, List(deadline));
  for (const v1::FrontendSummary& frontend : frontends) {
    if (frontend.name() == node) return frontend;
  }
  return absl::NotFoundError(absl::StrCat("there is no node '", node.substr(0, 80), "': no frontend has that name"));
}

std::map<std::string, std::string> PlaceOf(const v1::FrontendSummary& frontend) {
  std::map<std::string, std::string> place;
  for (const auto& [label, value] : frontend.labels()) place[absl::StrCat(kTopologyPrefix, label)] = value;
  if (place.empty()) place[absl::StrCat(kTopologyPrefix, "node")] = frontend.name();
  return place;
}

}  // namespace weir::csi
