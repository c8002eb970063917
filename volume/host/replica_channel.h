// How a frontend connects to a replica.
#ifndef WEIR_VOLUME_HOST_REPLICA_CHANNEL_H_
#define WEIR_VOLUME_HOST_REPLICA_CHANNEL_H_

#include <cstddef>
#include <deque>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "grpcpp/channel.h"

namespace weir::host {

// What a frame, or a chunk of a tail, may measure; as the replica's server has it.
inline constexpr size_t kReplicaMessageBytesMax = 8 << 20;

// A connection of its own (nothing shared with other channels to the same
// address, so a broken one is never inherited), found dead within 15 s by
// keepalive. The caller decides when to try again.
std::shared_ptr<grpc::Channel> MakeReplicaChannel(const std::string& address);

// Makes the sessions' channels and keeps the newest of them alive. A session
// ends on one of gRPC's callback threads, and gRPC 1.51 joins those threads when the last
// channel goes: from one of them that aborts the process. So the last one must
// be ours, and go on the thread that ends the host.
//
// Thread-safety: safe. Outlives the sessions.
class ReplicaChannels {
 public:
  std::shared_ptr<grpc::Channel> Make(const std::string& address);

 private:
  // More than one, since the newest may not have begun its stream yet.
  static constexpr size_t kKept = 4;

  absl::Mutex mu_;
  std::deque<std::shared_ptr<grpc::Channel>> newest_ ABSL_GUARDED_BY(mu_);
};

}  // namespace weir::host

#endif  // WEIR_VOLUME_HOST_REPLICA_CHANNEL_H_
