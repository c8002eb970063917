#include "replica/server/server.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "grpcpp/ext/proto_server_reflection_plugin.h"
#include "grpcpp/grpcpp.h"
#include "grpcpp/health_check_service_interface.h"
#include "proto/base/log.h"
#include "proto/base/status_macros.h"
#include "proto/metrics/process.h"
#include "proto/monitor/monitor_server.h"
#include "proto/wire/identity.h"
#include "proto/wire/transport.h"
#include "replica/server/faults.h"
#include "replica/server/metrics.h"
#include "replica/server/registration.h"
#include "replica/server/replica.h"
#include "replica/server/service.h"

namespace weir::replica {
namespace {

constexpr char kServiceName[] = "weir.v1.ReplicaService";
constexpr absl::string_view kUnixPrefix = "unix:";

// "host:port" without its port, or false.
bool SplitPort(absl::string_view address, std::string* host, int* port) {
  const size_t colon = address.rfind(':');
  if (colon == absl::string_view::npos || colon == 0) return false;
  *host = std::string(address.substr(0, colon));
  return absl::SimpleAtoi(address.substr(colon + 1), port) && *port >= 0 && *port <= 65535;
}

absl::Status CheckAddress(absl::string_view option, absl::string_view address, bool unix_allowed) {
  if (unix_allowed && absl::StartsWith(address, kUnixPrefix)) {
    const size_t path_bytes = address.size() - kUnixPrefix.size();
    if (path_bytes > 0 && path_bytes < sizeof(sockaddr_un::sun_path)) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat(
        option, "=", address, ": the socket's path must have 1 to ",
        sizeof(sockaddr_un::sun_path) - 1, " bytes"));
  }
  std::string host;
  int port = 0;
  if (SplitPort(address, &host, &port)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(option, "=", address, " is not host:port",
                                                 unix_allowed ? " or unix:PATH" : ""));
}

absl::Status InUse(absl::string_view option, const std::string& address) {
  const bool is_unix = absl::StartsWith(address, kUnixPrefix);
  return absl::UnavailableError(absl::StrCat(
      "cannot listen on --", option, "=", address, ": ",
      is_unix ? "another process listens there, or the socket cannot be made; stop the other "
                "process (ss -lxp shows it), or make its directory and let us write to it"
              : "the address is in use or not this machine's; stop the other process "
                "(ss -lptn shows it) or choose another address"));
}

// gRPC unlinks the socket of a running server without asking; so we ask.
bool SomebodyListensOn(const std::string& path) {
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return false;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  const bool connected =
      connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0;
  close(fd);
  return connected;
}

void SetLimits(const ServerOptions& options, grpc::ServerBuilder* builder) {
  wire::ServerLimits limits;
  // A frame just above our limit gets our clear answer; far above, gRPC refuses to buffer it.
  limits.message_bytes_max = 2 * options.frame_bytes_max;
  limits.calls_per_connection_max = static_cast<int>(options.calls_per_connection_max);
  limits.keepalive_interval_ms = static_cast<int>(absl::ToInt64Milliseconds(options.keepalive_interval));
  limits.keepalive_timeout_ms = static_cast<int>(absl::ToInt64Milliseconds(options.keepalive_timeout));
  // Frontends ping us too, to notice a dead machine within seconds.
  limits.peer_ping_interval_ms = 500;
  wire::SetServerLimits(limits, builder);
}

void EnableHealthAndReflection() {
  static const bool once = [] {
    grpc::EnableDefaultHealthCheckService(true);
    grpc::reflection::InitProtoReflectionServerBuilderPlugin();
    return true;
  }();
  static_cast<void>(once);
}

class GrpcServer final : public Server {
 public:
  GrpcServer(ServerOptions options, std::unique_ptr<store::Store> store, std::shared_ptr<FaultTable> faults,
             std::shared_ptr<Metrics> metrics)
      : replica_(std::move(options), std::move(store), std::move(faults), std::move(metrics),
                 [this] { StoreFailed(); }),
        service_(replica_),
        collector_(std::make_shared<StoreCollector>(
            &replica_.store(), replica_.options().store.data_dirs, &replica_.disks())) {}
  ~GrpcServer() override { Shutdown(); }

  absl::Status Listen();
  absl::Status StartMonitor();
  // REQUIRES: it listens.
  void BeginRegistration();

  const std::string& address() const override { return address_; }
  const std::string& metrics_address() const override { return metrics_address_; }
  void Shutdown() override;

 private:
  void StoreFailed();
  absl::Status Ready() const;

  Replica replica_;
  Service service_;
  const std::shared_ptr<StoreCollector> collector_;
  std::string address_;
  std::string metrics_address_;
  absl::Mutex shutdown_mutex_;  // the second caller waits for the first
  bool shut_down_ ABSL_GUARDED_BY(shutdown_mutex_) = false;
  std::atomic<bool> stopping_{false};
  std::unique_ptr<monitor::MonitorServer> monitor_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<Registration> registration_;
};

absl::Status GrpcServer::Listen() {
  const std::string& listen = replica_.options().listen;
  const bool is_unix = absl::StartsWith(listen, kUnixPrefix);
  if (is_unix && SomebodyListensOn(listen.substr(kUnixPrefix.size()))) {
    return InUse("listen", listen);
  }
  RETURN_IF_ERROR(wire::UseTls(replica_.options().tls));
  RETURN_IF_ERROR(wire::CheckListen(listen, replica_.options().tls.insecure));
  for (const std::string& frontend : replica_.options().frontends) {
    RETURN_IF_ERROR(wire::CheckDial("frontends", frontend, replica_.options().tls));
  }
  EnableHealthAndReflection();
  grpc::ServerBuilder builder;
  SetLimits(replica_.options(), &builder);
  int port = 0;
  builder.AddListeningPort(listen, wire::ServerCredentials(listen), &port);
  builder.RegisterService(&service_);
  server_ = builder.BuildAndStart();
  if (server_ == nullptr || port <= 0) return InUse("listen", listen);
  server_->GetHealthCheckService()->SetServingStatus(kServiceName, true);
  // A store can be FAILED from the first moment on.
  replica_.CheckHealth();
  address_ = listen;
  std::string host;
  int asked_port = 0;
  if (!is_unix && SplitPort(listen, &host, &asked_port)) address_ = absl::StrCat(host, ":", port);
  return absl::OkStatus();
}

absl::Status GrpcServer::StartMonitor() {
  const std::string& listen = replica_.options().metrics_listen;
  if (listen.empty()) return absl::OkStatus();
  monitor::MonitorServer::Options options;
  options.listen = listen;
  options.insecure = replica_.options().tls.insecure || replica_.options().insecure_metrics;
  options.metrics = {replica_.metrics().registry, collector_,
                     std::make_shared<metrics::ProcessCollector>("weir-replica")};
  options.healthy = [this] { return replica_.Serving(); };
  options.ready = [this] { return Ready(); };
  ASSIGN_OR_RETURN(monitor_, monitor::MonitorServer::Start(std::move(options)));
  metrics_address_ = absl::StrCat(listen.substr(0, listen.rfind(':')), ":", monitor_->port());
  return absl::OkStatus();
}

absl::Status GrpcServer::Ready() const {
  if (stopping_) {
    return absl::UnavailableError(absl::StrCat("replica ", replica_.options().name, " is shutting down"));
  }
  return replica_.Serving();
}

void GrpcServer::BeginRegistration() {
  const ServerOptions& options = replica_.options();
  if (options.frontends.empty()) return;
  registration_ = std::make_unique<Registration>(
      &replica_, options.advertise.empty() ? address_ : options.advertise);
}

void GrpcServer::StoreFailed() {
  // Null while Listen is still building it; Listen looks at the health again then.
  if (server_ != nullptr) server_->GetHealthCheckService()->SetServingStatus(false);
}

void GrpcServer::Shutdown() {
  absl::MutexLock lock(&shutdown_mutex_);
  if (std::exchange(shut_down_, true)) return;
  stopping_ = true;
  const ServerOptions& options = replica_.options();
  registration_.reset();
  if (server_ != nullptr) {
    server_->GetHealthCheckService()->SetServingStatus(false);
    replica_.sessions().EndAll(absl::UnavailableError(
        absl::StrCat("replica ", options.name, " is shutting down")));
    server_->Shutdown(absl::ToChronoTime(absl::Now() + options.shutdown_grace));
    server_->Wait();
  }
  monitor_.reset();
  replica_.Stop();
  // The destructor of replica_ closes the store, which syncs it.
}

absl::StatusOr<std::unique_ptr<Server>> Serve(ServerOptions options, std::unique_ptr<store::Store> store,
                                              std::shared_ptr<FaultTable> faults,
                                              std::shared_ptr<Metrics> metrics) {
  auto server = std::make_unique<GrpcServer>(std::move(options), std::move(store), std::move(faults),
                                             std::move(metrics));
  RETURN_IF_ERROR(server->Listen());
  RETURN_IF_ERROR(server->StartMonitor());
  server->BeginRegistration();
  return server;
}

constexpr size_t kLabelsMax = 16;
constexpr size_t kLabelBytesMax = 63;

absl::Status CheckLabelText(const std::string& text) {
  bool good = !text.empty() && text.size() <= kLabelBytesMax;
  for (char c : text) {
    good = good && (absl::ascii_isalnum(c) || c == '.' || c == '_' || c == '-' || c == '/');
  }
  if (good) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "label '", text.substr(0, kLabelBytesMax),
      "': names and values are 1 to 63 letters, digits and . _ - /, such as zone=a"));
}

}  // namespace

absl::Status ServerOptions::Validate() const {
  if (name.empty()) return absl::InvalidArgumentError("name is empty");
  if (labels.size() > kLabelsMax) {
    return absl::InvalidArgumentError(absl::StrCat("labels: at most ", kLabelsMax));
  }
  for (const auto& [label, value] : labels) {
    RETURN_IF_ERROR(CheckLabelText(label));
    RETURN_IF_ERROR(CheckLabelText(value));
  }
  RETURN_IF_ERROR(CheckAddress("listen", listen, /*unix_allowed=*/true));
  for (const std::string& frontend : frontends) {
    RETURN_IF_ERROR(CheckAddress("frontends", frontend, /*unix_allowed=*/true));
  }
  if (!advertise.empty()) {
    RETURN_IF_ERROR(CheckAddress("advertise", advertise, /*unix_allowed=*/true));
  }
  const bool nowhere = absl::StartsWith(listen, "0.0.0.0:") || absl::StartsWith(listen, "[::]:");
  if (!frontends.empty() && advertise.empty() && nowhere) {
    return absl::InvalidArgumentError(absl::StrCat(
        "frontends cannot find a replica at ", listen, "; say with advertise where it is"));
  }
  if (registration_lease < absl::Seconds(1) || registration_lease > absl::Minutes(10)) {
    return absl::InvalidArgumentError("registration_lease must be 1s to 10m");
  }
  if (!metrics_listen.empty()) {
    RETURN_IF_ERROR(CheckAddress("metrics_listen", metrics_listen, /*unix_allowed=*/false));
  }
  if (frame_bytes_max < (5 << 20) || frame_bytes_max > (512 << 20)) {
    return absl::InvalidArgumentError(
        "frame_bytes_max must be 5 MiB (a stripe and its head) to 512 MiB");
  }
  if (inflight_bytes_max == 0 || unanswered_bytes_max == 0 || unanswered_ios_max == 0 ||
      tail_bytes_max == 0 || calls_per_connection_max == 0) {
    return absl::InvalidArgumentError(
        "inflight_bytes_max, unanswered_bytes_max, unanswered_ios_max, tail_bytes_max and "
        "calls_per_connection_max must be above 0");
  }
  if (keepalive_interval < absl::Seconds(1) || keepalive_timeout < absl::Seconds(1)) {
    return absl::InvalidArgumentError("keepalive_interval and _timeout must be at least 1s");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Server>> Server::Start(ServerOptions options) {
  RETURN_IF_ERROR(options.Validate());
  auto faults = std::make_shared<FaultTable>();
  auto metrics = std::make_shared<Metrics>(static_cast<uint32_t>(options.store.data_dirs.size()));
  if (options.enable_fault_injection) {
    options.store.file_fault = [faults, metrics](uint32_t domain, store::FileAct act) {
      const v1::FaultOp op = FaultOpOf(act);
      const FaultVerdict verdict = faults->Strike(op, domain);
      if (verdict.hits()) metrics->Injected(op);
      return verdict.error;
    };
  }
  ASSIGN_OR_RETURN(std::unique_ptr<store::Store> store, store::Store::Open(options.store));
  return Serve(std::move(options), std::move(store), std::move(faults), std::move(metrics));
}

absl::StatusOr<std::unique_ptr<Server>> Server::StartWithStore(
    ServerOptions options, std::unique_ptr<store::Store> store) {
  RETURN_IF_ERROR(options.Validate());
  auto metrics = std::make_shared<Metrics>(store->num_domains());
  return Serve(std::move(options), std::move(store), std::make_shared<FaultTable>(), std::move(metrics));
}

}  // namespace weir::replica
