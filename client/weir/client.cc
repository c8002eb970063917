#include "client/weir/client.h"

#include <algorithm>
#include <cerrno>
#include <limits>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "client/weir/remote_volume.h"
#include "grpcpp/channel.h"
#include "grpcpp/client_context.h"
#include "grpcpp/create_channel.h"
#include "proto/base/errno.h"
#include "proto/base/status_macros.h"
#include "proto/wire/identity.h"
#include "proto/wire/status.h"
#include "proto/wire/transport.h"
#include "weir/v1/volume.grpc.pb.h"

namespace weir {
namespace {

int64_t Milliseconds(absl::Duration duration) {
  return std::min<int64_t>(absl::ToInt64Milliseconds(duration), std::numeric_limits<int>::max());
}

std::shared_ptr<grpc::Channel> MakeChannel(const std::string& address,
                                           const ClientOptions& options) {
  grpc::ChannelArguments arguments;
  // Frames are bounded by what we ask for; see RemoteVolume.
  arguments.SetMaxReceiveMessageSize(-1);
  wire::SetStreamTransport(&arguments);
  // A proxy of the environment's is for the web, not for storage.
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  // One connection a client: gRPC would share one with every other client of
  // this process, and one's flow control would hold up the other.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS,
                   Milliseconds(options.reconnect_delay_min));
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, Milliseconds(options.connect_timeout));
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, Milliseconds(options.reconnect_delay_max));
  // A frontend that is gone without a word, while requests wait for it, is
  // noticed after these. Servers of ours admit it.
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 20'000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10'000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  return grpc::CreateCustomChannel(address, wire::ChannelCredentials(address), arguments);
}

absl::Status CheckOptions(const ClientOptions& options) {
  if (options.inflight_bytes_max == 0 || options.connect_timeout <= absl::ZeroDuration() ||
      options.timeout <= absl::ZeroDuration() ||
      options.reconnect_delay_min <= absl::ZeroDuration() ||
      options.reconnect_delay_max < options.reconnect_delay_min) {
    return absl::InvalidArgumentError(
        "ClientOptions: limits and durations must be above 0, and reconnect_delay_max at least "
        "reconnect_delay_min");
  }
  return absl::OkStatus();
}

class RemoteClient : public Client {
 public:
  RemoteClient(std::string address, std::shared_ptr<grpc::Channel> channel, ClientOptions options)
      : address_(std::move(address)),
        channel_(std::move(channel)),
        options_(options),
        stub_(v1::VolumeService::NewStub(channel_)) {}

  absl::StatusOr<std::unique_ptr<Volume>> OpenVolume(const std::string& name) override {
    v1::AttachRequest attach;
    attach.set_name(name);
    attach.set_unless_elsewhere(true);
    RETURN_IF_ERROR(Call(&Stub::Attach, attach).status());
    ASSIGN_OR_RETURN(auto volume, RemoteVolume::Open(channel_, name, options_));
    return std::unique_ptr<Volume>(std::move(volume));
  }

  absl::StatusOr<v1::Volume> CreateVolume(const v1::CreateVolumeRequest& request) override {
    ASSIGN_OR_RETURN(auto response, Call(&Stub::CreateVolume, request));
    return std::move(*response.mutable_volume());
  }

  absl::Status DeleteVolume(const std::string& name) override {
    return CallNamed<v1::DeleteVolumeRequest>(&Stub::DeleteVolume, name);
  }

  absl::StatusOr<std::vector<v1::Volume>> ListVolumes() override {
    ASSIGN_OR_RETURN(auto response, Call(&Stub::ListVolumes, v1::ListVolumesRequest()));
    return std::vector<v1::Volume>(response.volumes().begin(), response.volumes().end());
  }

  absl::StatusOr<v1::Volume> GetVolume(const std::string& name) override {
    v1::GetVolumeRequest request;
    request.set_name(name);
    ASSIGN_OR_RETURN(auto response, Call(&Stub::GetVolume, request));
    return std::move(*response.mutable_volume());
  }

  absl::Status Attach(const std::string& name) override {
    return CallNamed<v1::AttachRequest>(&Stub::Attach, name);
  }

  absl::Status Detach(const std::string& name, bool force) override {
    v1::DetachRequest request;
    request.set_name(name);
    request.set_force(force);
    return Call(&Stub::Detach, request).status();
  }

  absl::Status Suspend(const std::string& name, bool noflush, absl::Duration deadline) override {
    v1::SuspendRequest request;
    request.set_name(name);
    request.set_noflush(noflush);
    request.set_deadline_ms(static_cast<uint32_t>(Milliseconds(deadline)));
    // The frontend keeps `deadline`; ours is for a frontend that is gone.
    return Call(&Stub::Suspend, request, deadline).status();
  }

  absl::Status Resume(const std::string& name) override {
    return CallNamed<v1::ResumeRequest>(&Stub::Resume, name);
  }

  absl::Status LoadTable(const std::string& name, const v1::Table& table) override {
    v1::LoadTableRequest request;
    request.set_name(name);
    *request.mutable_table() = table;
    return Call(&Stub::LoadTable, request).status();
  }

  absl::StatusOr<std::string> ReplaceMember(const std::string& name, const std::string& replica,
                                            const std::string& with,
                                            bool make_before_break) override {
    v1::ReplaceMemberRequest request;
    request.set_name(name);
    request.set_replica(replica);
    request.set_with(with);
    request.set_make_before_break(make_before_break);
    ASSIGN_OR_RETURN(auto response, Call(&Stub::ReplaceMember, request));
    return response.with();
  }

  absl::StatusOr<v1::Volume> ExpandVolume(const std::string& name, uint64_t size_bytes) override {
    v1::ExpandVolumeRequest request;
    request.set_name(name);
    request.set_size_bytes(size_bytes);
    ASSIGN_OR_RETURN(auto response, Call(&Stub::ExpandVolume, request));
    return std::move(*response.mutable_volume());
  }

  absl::StatusOr<v1::Volume> CloneVolume(const v1::CloneVolumeRequest& request) override {
    ASSIGN_OR_RETURN(auto response, Call(&Stub::CloneVolume, request));
    return std::move(*response.mutable_volume());
  }

  absl::StatusOr<v1::FlattenVolumeResponse> FlattenVolume(const std::string& name,
                                                          uint64_t from_bytes) override {
    v1::FlattenVolumeRequest request;
    request.set_name(name);
    request.set_from_bytes(from_bytes);
    return Call(&Stub::FlattenVolume, request);
  }

  absl::StatusOr<uint64_t> RestoreVolume(const std::string& name,
                                         const std::string& snapshot) override {
    v1::RestoreVolumeRequest request;
    request.set_name(name);
    request.set_snapshot(snapshot);
    // As long as it takes: the frontend goes on whether somebody waits or not.
    ASSIGN_OR_RETURN(auto response, Call(&Stub::RestoreVolume, request, absl::Hours(24)));
    return response.restored_bytes();
  }

  absl::StatusOr<v1::Snapshot> CreateSnapshot(const std::string& volume,
                                              const std::string& name) override {
    v1::CreateSnapshotRequest request;
    request.set_volume(volume);
    request.set_name(name);
    ASSIGN_OR_RETURN(auto response, Call(&Stub::CreateSnapshot, request));
    return std::move(*response.mutable_snapshot());
  }

  absl::StatusOr<std::vector<v1::Snapshot>> ListSnapshots(const std::string& volume) override {
    v1::ListSnapshotsRequest request;
    request.set_volume(volume);
    ASSIGN_OR_RETURN(auto response, Call(&Stub::ListSnapshots, request));
    return std::vector<v1::Snapshot>(response.snapshots().begin(), response.snapshots().end());
  }

  absl::StatusOr<v1::Snapshot> GetSnapshot(const std::string& volume,
                                           const std::string& name) override {
    v1::GetSnapshotRequest request;
    request.set_volume(volume);
    request.set_name(name);
    ASSIGN_OR_RETURN(auto response, Call(&Stub::GetSnapshot, request));
    return std::move(*response.mutable_snapshot());
  }

  absl::Status DeleteSnapshot(const std::string& volume, const std::string& name) override {
    v1::DeleteSnapshotRequest request;
    request.set_volume(volume);
    request.set_name(name);
    return Call(&Stub::DeleteSnapshot, request).status();
  }

  absl::StatusOr<std::string> ReadSnapshot(const std::string& volume, const std::string& name,
                                           uint64_t offset, uint32_t length) override {
    v1::ReadRequest request;
    request.set_name(volume);
    request.set_snapshot(name);
    request.set_offset_bytes(offset);
    request.set_length_bytes(length);
    ASSIGN_OR_RETURN(auto response, Call(&Stub::Read, request));
    return std::move(*response.mutable_data());
  }

  absl::StatusOr<v1::ScrubStatus> Scrub(const std::string& name, bool stop) override {
    v1::ScrubRequest request;
    request.set_name(name);
    request.set_stop(stop);
    ASSIGN_OR_RETURN(v1::ScrubResponse response, Call(&Stub::Scrub, request));
    return std::move(*response.mutable_scrub());
  }

  absl::StatusOr<v1::ExplainResponse> Explain(const std::string& name) override {
    v1::ExplainRequest request;
    request.set_name(name);
    return Call(&Stub::Explain, request);
  }

  absl::StatusOr<v1::TraceResponse> Trace(const v1::TraceRequest& request) override {
    return Call(&Stub::Trace, request, absl::Seconds(request.seconds()));
  }

  absl::StatusOr<v1::RebuildCatalogResponse> RebuildCatalog(
      const v1::RebuildCatalogRequest& request) override {
    return Call(&Stub::RebuildCatalog, request);
  }

  absl::Status ForgetReplica(const std::string& name) override {
    v1::ForgetReplicaRequest request;
    request.set_name(name);
    return Call(&Stub::ForgetReplica, request).status();
  }

  absl::StatusOr<std::vector<v1::ReplicaSummary>> ListReplicas() override {
    ASSIGN_OR_RETURN(auto response, Call(&Stub::ListReplicas, v1::ListReplicasRequest()));
    return std::vector<v1::ReplicaSummary>(response.replicas().begin(), response.replicas().end());
  }

  IoResult Flush(const std::string& name) override {
    // Over a stream: a unary call that fails can carry no per-target details.
    auto volume = RemoteVolume::Open(channel_, name, options_);
    if (!volume.ok()) return IoResult{volume.status(), {}, "", {}};
    absl::Notification answered;
    IoResult result;
    (*volume)->FlushAsync([&](IoResult answer) {
      result = std::move(answer);
      answered.Notify();
    });
    answered.WaitForNotification();
    return result;
  }

 private:
  using Stub = v1::VolumeService::Stub;
  template <typename Request, typename Response>
  using Method = grpc::Status (Stub::*)(grpc::ClientContext*, const Request&, Response*);

  template <typename Request, typename Response>
  absl::StatusOr<Response> Call(Method<Request, Response> method, const Request& request,
                                absl::Duration extra = absl::ZeroDuration()) {
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(absl::Now() + options_.timeout + extra));
    Response response;
    const grpc::Status grpc_status = (stub_.get()->*method)(&context, request, &response);
    if (grpc_status.ok()) return response;
    absl::Status status = wire::FromGrpc(grpc_status);
    // gRPC's own words for a lost connection say nothing of us.
    if (channel_->GetState(false) != GRPC_CHANNEL_READY &&
        status.code() == absl::StatusCode::kUnavailable) {
      return absl::UnavailableError(absl::StrCat("cannot reach the frontend at ", address_, " (",
                                                 status.message(),
                                                 "); check that weir-volume runs"));
    }
    return status;
  }

  template <typename Request, typename Response>
  absl::Status CallNamed(Method<Request, Response> method, const std::string& name) {
    Request request;
    request.set_name(name);
    return Call(method, request).status();
  }

  const std::string address_;
  const std::shared_ptr<grpc::Channel> channel_;
  const ClientOptions options_;
  const std::unique_ptr<Stub> stub_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Client>> Client::Connect(const std::string& address,
                                                        ClientOptions options) {
  RETURN_IF_ERROR(CheckOptions(options));
  RETURN_IF_ERROR(wire::UseTls(options.tls));
  RETURN_IF_ERROR(wire::CheckDial("frontend", address, wire::IdentityFiles()));
  std::shared_ptr<grpc::Channel> channel = MakeChannel(address, options);
  if (!channel->WaitForConnected(absl::ToChronoTime(absl::Now() + options.connect_timeout))) {
    return absl::UnavailableError(
        absl::StrCat("cannot reach a frontend at ", address, " within ", absl::FormatDuration(options.connect_timeout),
                     "; check the address and that weir-volume runs",
                     wire::IdentityFiles().given() ? "" : ", and give a certificate if it speaks TLS: there is none"));
  }
  return std::unique_ptr<Client>(
      std::make_unique<RemoteClient>(address, std::move(channel), options));
}

}  // namespace weir
