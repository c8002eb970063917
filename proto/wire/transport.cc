#include "proto/wire/transport.h"

#include "grpc/impl/codegen/grpc_types.h"
#include "grpcpp/resource_quota.h"
#include "proto/wire/accept.h"
#include "proto/wire/poller_gate.h"

namespace weir::wire {
namespace {

// All headers of a call together. Ours are a few hundred bytes; 16 KiB is what a client may reasonably add.
constexpr int kMetadataBytesMax = 16 << 10;
// From accept to the peer's first SETTINGS. A handshake takes milliseconds, on a loaded machine a second. gRPC's own
// 120 s let anybody hold descriptors for that long.
constexpr int kHandshakeMs = 10'000;
// What has been received and not been taken, over all connections. Above it gRPC ends connections without calls, then calls,
// whoever's they are: so it lies well above what the services let come in (16 MiB a stream at a replica, 32 MiB a volume at a
// frontend, seldom all full at once). Without it one connection could leave 256 messages of 4 MiB unfinished.
constexpr size_t kBuffersBytesMax = 512 << 20;

}  // namespace

void SetStreamTransport(grpc::ChannelArguments* arguments) {
  arguments->SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  arguments->SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, kStreamWindowBytes);
}

void SetStreamTransport(grpc::ServerBuilder* builder) {
  builder->AddChannelArgument(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  builder->AddChannelArgument(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, kStreamWindowBytes);
}

void SetServerLimits(const ServerLimits& limits, grpc::ServerBuilder* builder) {
  KeepListenersAlive();
  LetOnePollerWait();
  SetStreamTransport(builder);
  builder->SetMaxReceiveMessageSize(static_cast<int>(limits.message_bytes_max));
  grpc::ResourceQuota quota("weir-server");
  quota.Resize(kBuffersBytesMax);
  if (limits.sync_threads_max > 0) quota.SetMaxThreads(limits.sync_threads_max);
  builder->SetResourceQuota(quota);
  builder->AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, limits.calls_per_connection_max);
  builder->AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, kMetadataBytesMax);
  builder->AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, kHandshakeMs);
  builder->AddChannelArgument(GRPC_ARG_MAX_CONNECTION_IDLE_MS, limits.idle_ms);
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, limits.keepalive_interval_ms);
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, limits.keepalive_timeout_ms);
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder->AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, limits.peer_ping_interval_ms);
  // Else a second process would quietly share the port.
  builder->AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  // Reflection is a synchronous service of gRPC's; two threads are plenty for it.
  builder->SetSyncServerOption(grpc::ServerBuilder::NUM_CQS, 1);
  builder->SetSyncServerOption(grpc::ServerBuilder::MIN_POLLERS, 1);
  builder->SetSyncServerOption(grpc::ServerBuilder::MAX_POLLERS, 2);
}

}  // namespace weir::wire
