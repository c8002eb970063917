// What gRPC's transport needs so that our streams do not stall. Both ends use it, for
// channels and for servers alike.
//
// Thread-safety: free functions, safe.
#ifndef WEIR_PROTO_WIRE_TRANSPORT_H_
#define WEIR_PROTO_WIRE_TRANSPORT_H_

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

}  // namespace weir::wire

#endif  // WEIR_PROTO_WIRE_TRANSPORT_H_
