// What gRPC's transport needs so that our streams do not stall, for channels and for
// servers alike; and what a server of ours takes from whoever connects.
//
// Thread-safety: free functions, safe.
#ifndef WEIR_PROTO_WIRE_TRANSPORT_H_
#define WEIR_PROTO_WIRE_TRANSPORT_H_

#include <cstddef>

#include "grpcpp/server_builder.h"
#include "grpcpp/support/channel_arguments.h"

namespace weir::wire {

// What a peer may send on one stream before we have read it, bytes. It is memory
// that a slow reader costs, so not more than a frame's worth.
inline constexpr int kStreamWindowBytes = 4 << 20;

// Turns the bandwidth probe off and sets a fixed window instead. With gRPC 1.51.1 a
// stream with megabytes under way now and then stops for ten seconds, until the
// probe's next ping moves it: in 3 of 300 runs of
// ServerTest.SlowReadersAreHeldBackAndLoseNothing on a loaded machine with the
// probe, in none of 1,500 without it.
void SetStreamTransport(grpc::ChannelArguments* arguments);
void SetStreamTransport(grpc::ServerBuilder* builder);

// What differs from server to server. Where a number is the same for all it is in transport.cc, with its reason.
struct ServerLimits {
  size_t message_bytes_max = 8 << 20;   // a larger one fails its call once its length has been read
  int calls_per_connection_max = 256;   // gRPC 1.51 holds only those to it that acknowledge SETTINGS
  int keepalive_interval_ms = 20'000;   // a peer that has been silent for so long is pinged
  int keepalive_timeout_ms = 10'000;    // one that does not answer is gone
  int peer_ping_interval_ms = 5'000;    // one that pings more often, without a call, is told to go
  int idle_ms = 600'000;                // a connection without a call for so long is ended; one with a stream never is
  int sync_threads_max = 0;             // of synchronous services, above which calls get RESOURCE_EXHAUSTED; 0: no limit
};

// Everything that bounds a server of ours on a network; SetStreamTransport, KeepListenersAlive and LetOnePollerWait too. Not bounded, since gRPC 1.51
// has no means: how many calls a peer begins and resets (SECURITY.md).
void SetServerLimits(const ServerLimits& limits, grpc::ServerBuilder* builder);

}  // namespace weir::wire

#endif  // WEIR_PROTO_WIRE_TRANSPORT_H_
