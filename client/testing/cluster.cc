#include "client/testing/cluster.h"

#include <stdlib.h>

#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "grpcpp/client_context.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/security/credentials.h"
#include "proto/base/check.h"
#include "proto/base/status_macros.h"
#include "proto/wire/status.h"
#include "weir/v1/replica.grpc.pb.h"

namespace weir::testing {
namespace {

constexpr size_t kDirBytesMax = 80;  // a unix socket's path has 107
// Small: a test has several of them, twice three by default.
constexpr uint64_t kMemtableBytes = 4 << 20;
constexpr uint64_t kBlockCacheBytes = 4 << 20;

absl::StatusOr<std::string> MakeDir(const std::string& wanted) {
  if (wanted.empty()) {
    char made[] = "/tmp/weir-cluster-XXXXXX";
    if (mkdtemp(made) == nullptr) {
      return absl::UnavailableError("cannot make a directory under /tmp; check its space");
    }
    return std::string(made);
  }
  if (wanted.size() > kDirBytesMax) {
    return absl::InvalidArgumentError(absl::StrCat("ClusterOptions::dir is longer than ",
                                                   kDirBytesMax, " bytes; choose a shorter one"));
  }
  std::error_code error;
  std::filesystem::create_directories(wanted, error);
  if (error) {
    return absl::UnavailableError(
        absl::StrCat("cannot make ", wanted, " (", error.message(), "); choose another dir"));
  }
  return wanted;
}

absl::Status Validate(const ClusterOptions& options) {
  if (options.replicas < 1 || options.data_dirs < 1) {
    return absl::InvalidArgumentError("ClusterOptions: at least one replica and one data_dir");
  }
  return absl::OkStatus();
}

}  // namespace

Cluster::Cluster(ClusterOptions options, std::string dir, bool remove_dir)
    : options_(std::move(options)),
      dir_(std::move(dir)),
      remove_dir_(remove_dir),
      volume_addr_(absl::StrCat("unix:", dir_, "/volume")) {
  for (int i = 1; i <= options_.replicas; ++i) {
    Replica replica;
    replica.name = absl::StrCat("replica", i);
    replica.address = absl::StrCat("unix:", dir_, "/", replica.name);
    for (int d = 1; d <= options_.data_dirs; ++d) {
      replica.data_dirs.push_back(absl::StrCat(dir_, "/", replica.name, ".data", d));
    }
    replicas_.push_back(std::move(replica));
  }
}

absl::StatusOr<std::unique_ptr<Cluster>> Cluster::Start(ClusterOptions options) {
  RETURN_IF_ERROR(Validate(options));
  const bool remove_dir = options.dir.empty();
  ASSIGN_OR_RETURN(std::string dir, MakeDir(options.dir));
  std::unique_ptr<Cluster> cluster(new Cluster(std::move(options), std::move(dir), remove_dir));
  RETURN_IF_ERROR(cluster->StartAll());
  return cluster;
}

absl::Status Cluster::StartAll() {
  for (int i = 0; i < replicas(); ++i) RETURN_IF_ERROR(StartReplica(i));
  RETURN_IF_ERROR(StartFrontend());
  ASSIGN_OR_RETURN(client_, Client::Connect(volume_addr_, options_.client));
  return options_.replicas_register ? AwaitRegistrations() : absl::OkStatus();
}

absl::Status Cluster::AwaitRegistrations() {
  for (const absl::Time start = absl::Now();; absl::SleepFor(absl::Milliseconds(20))) {
    ASSIGN_OR_RETURN(const auto known, client_->ListReplicas());
    if (static_cast<int>(known.size()) == replicas()) return absl::OkStatus();
    if (absl::Now() - start < absl::Seconds(20)) continue;
    return absl::DeadlineExceededError("the replicas have not registered themselves");
  }
}

Cluster::~Cluster() {
  client_.reset();
  host_.reset();
  for (Replica& replica : replicas_) replica.server.reset();
  if (!remove_dir_) return;
  // What cannot be removed is /tmp's to clean.
  std::error_code ignored;
  std::filesystem::remove_all(dir_, ignored);
}

absl::StatusOr<std::unique_ptr<Volume>> Cluster::CreateAndOpenVolume(const std::string& name,
                                                                     uint64_t size_bytes,
                                                                     uint32_t min_in_sync) {
  v1::CreateVolumeRequest request;
  request.set_name(name);
  request.set_size_bytes(size_bytes);
  request.set_min_in_sync(min_in_sync);
  for (const Replica& replica : replicas_) request.add_replicas(replica.name);
  RETURN_IF_ERROR(client_->CreateVolume(request).status());
  return client_->OpenVolume(name);
}

void Cluster::StopFrontend() { host_.reset(); }

absl::Status Cluster::StartFrontend() {
  host::HostOptions options = options_.frontend;
  options.catalog = absl::StrCat("embedded:", dir_, "/catalog");
  options.listen = volume_addr_;
  options.replicas.clear();
  for (const Replica& replica : replicas_) {
    if (options_.replicas_register) break;
    options.replicas.emplace_back(replica.name, replica.address);
  }
  ASSIGN_OR_RETURN(host_, host::Host::Start(std::move(options)));
  return absl::OkStatus();
}

void Cluster::StopReplica(int i) { replicas_[i].server.reset(); }

void Cluster::LoseDisks(int i) {
  CHECK(replicas_[i].server == nullptr);
  for (const std::string& dir : replicas_[i].data_dirs) std::filesystem::remove_all(dir);
}

absl::Status Cluster::StartReplica(int i) {
  Replica& replica = replicas_[i];
  replica::ServerOptions options;
  options.name = replica.name;
  options.listen = replica.address;
  options.enable_fault_injection = options_.enable_fault_injection;
  if (options_.replicas_register) options.frontends = {volume_addr_};
  options.registration_lease = absl::Seconds(2);
  options.store.data_dirs = replica.data_dirs;
  options.store.memtable_bytes = kMemtableBytes;
  options.store.block_cache_bytes = kBlockCacheBytes;
  ASSIGN_OR_RETURN(replica.server, replica::Server::Start(std::move(options)));
  return absl::OkStatus();
}

absl::Status Cluster::SetFault(int i, const v1::Fault& fault) {
  auto stub = v1::ReplicaService::NewStub(
      grpc::CreateChannel(replica_addr(i), grpc::InsecureChannelCredentials()));
  grpc::ClientContext context;
  v1::SetFaultRequest request;
  *request.mutable_fault() = fault;
  v1::SetFaultResponse response;
  return wire::FromGrpc(stub->SetFault(&context, request, &response));
}

absl::Status Cluster::ClearFaults() {
  for (const Replica& replica : replicas_) {
    if (replica.server == nullptr) continue;
    auto stub = v1::ReplicaService::NewStub(
        grpc::CreateChannel(replica.address, grpc::InsecureChannelCredentials()));
    grpc::ClientContext context;
    v1::ClearFaultsResponse response;
    RETURN_IF_ERROR(
        wire::FromGrpc(stub->ClearFaults(&context, v1::ClearFaultsRequest(), &response)));
  }
  return absl::OkStatus();
}

}  // namespace weir::testing
