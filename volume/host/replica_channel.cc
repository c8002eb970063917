#include "volume/host/replica_channel.h"

#include <utility>

#include "grpcpp/create_channel.h"
#include "grpcpp/support/channel_arguments.h"
#include "proto/wire/identity.h"
#include "proto/wire/transport.h"

namespace weir::host {

std::shared_ptr<grpc::Channel> MakeReplicaChannel(const std::string& address) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 10'000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 5'000);
  // One that is only asked now and then, for a shorter time than that, would never be found dead.
  arguments.SetInt(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 1'000);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1'000);
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);  // we decide what is repeated
  arguments.SetMaxReceiveMessageSize(kReplicaMessageBytesMax);
  wire::SetStreamTransport(&arguments);
  return grpc::CreateCustomChannel(address, wire::ChannelCredentials(address), arguments);
}

std::shared_ptr<grpc::Channel> ReplicaChannels::Make(const std::string& address) {
  std::shared_ptr<grpc::Channel> made = MakeReplicaChannel(address);
  std::shared_ptr<grpc::Channel> oldest;
  {
    absl::MutexLock lock(&mu_);
    newest_.push_back(made);
    if (newest_.size() > kKept) {
      oldest = std::move(newest_.front());
      newest_.pop_front();
    }
  }
  return made;  // the oldest goes without the lock
}

}  // namespace weir::host
