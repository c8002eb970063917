// One session: one gRPC stream of ReplicaService.Io to one replica, for one
// volume, from its hello to its end.
//
//   NEW -Start-> CONNECTING -hello answered-> CONNECTED
//    any state -End, or the stream ends-> ENDED
//
// Clones that become ready while a frame is being written go together as the
// next frame, and plain writes wait for others while many are unanswered
// (FrameBatcher); their payload is shared, never copied.
//
// Thread-safety: Queue, QueueDurablePoints and Kick by one thread at a time
// (the volume's dispatcher); the rest by any thread. Events run on gRPC's
// threads without a lock held.
//
// Life: held by whoever made it and, from Start until its stream is gone, by
// itself.
#ifndef WEIR_VOLUME_HOST_TARGET_SESSION_H_
#define WEIR_VOLUME_HOST_TARGET_SESSION_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "grpcpp/client_context.h"
#include "grpcpp/generic/generic_stub.h"
#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/client_callback.h"
#include "proto/wire/frame_batcher.h"
#include "volume/engine/types.h"
#include "volume/host/clone_codec.h"
#include "volume/host/metrics.h"
#include "volume/host/replica_channel.h"
#include "volume/host/slow_log.h"
#include "volume/host/target_times.h"
#include "volume/host/tracer.h"
#include "weir/v1/replica.pb.h"

namespace weir::host {

using CompletedClone = std::pair<engine::CloneId, engine::CloneReply>;

class TargetSession final
    : public grpc::ClientBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>,
      public std::enable_shared_from_this<TargetSession> {
 public:
  struct Config {
    std::string volume;   // name, for logs and metrics
    std::string replica;  // name
    std::string address;
    v1::Hello hello;      // sent as it is; fence.store_id is checked in the answer
    uint32_t lanes = 0;
    ReplicaChannels* channels = nullptr;  // outlives the last event
    std::shared_ptr<Tracer> tracer;       // of the volume, as this:
    std::shared_ptr<SlowLog> slow_log;
  };
  struct Events {
    std::function<void(const engine::TargetHello&)> connected;
    // All replies of one frame.
    std::function<void(std::vector<CompletedClone>)> replied;
    // The replica has, or has no longer, room for more data.
    std::function<void(bool exhausted)> space_changed;
    // The replica still serves this session, as of when this ping was queued at the earliest.
    std::function<void(uint64_t ping)> ponged;
    // The last event of a session that was started. ESTALE is fenced, and only
    // a replica that says so itself is: any other refusal is a lost session.
    std::function<void(engine::Result, std::string reason)> ended;
  };

  static std::shared_ptr<TargetSession> Make(Config config, Events events,
                                             Metrics* metrics);

  // Connects and sends the hello. False: End was called before, nothing happens.
  [[nodiscard]] bool Start();
  // Ends it if no hello has come yet.
  void EndUnlessConnected();
  // Ends it; `ended` tells `reason`. A session that was not started only never starts.
  void End(engine::Result result, std::string reason);

  void Queue(const engine::Clone& clone);
  void QueueDurablePoints(const engine::SendDurablePoints& news);
  void QueuePing(uint64_t ping);
  // Sends what was queued, at once, when the present write is done, or with what comes yet.
  void Kick();

  // Reactions; for gRPC only.
  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnDone(const grpc::Status& status) override;

 private:
  // What an answer is checked against, and measured from.
  struct Unanswered {
    AskedFor asked;
    uint64_t first_block = 0;
    engine::Time queued{};
    engine::Time handed{};  // to gRPC, its frame
    wire::FrameBatcher::Haste haste = wire::FrameBatcher::Haste::kNow;
  };
  // In waiting_: of a part that is no clone. The engine's ids begin at 1.
  static constexpr uint64_t kNoClone = 0;

  TargetSession(Config config, Events events, Metrics* metrics);
  // A part that is no clone. False: the peer reads too slowly, and nothing was queued.
  bool QueueOther(const v1::IoFrame& part);
  void Carry(wire::FrameBatcher::Step step);
  // The first `parts` of those that wait go out now, in one frame.
  void NoteHanded(size_t parts);
  void Stop();
  // Of one received frame; not OK ends the session.
  absl::Status TakeFrame();
  absl::Status TakeHello(const v1::HelloReply& hello);
  absl::Status TakeReplies(const v1::IoReplyFrame& frame,
                           const Payload& payload);
  // Of the replies of one frame and the clones that they answer.
  void CountReplies(const std::vector<CompletedClone>& replies, const std::vector<Unanswered>& clones,
                    const std::vector<uint64_t>& store_us);
  void CountError(const engine::CloneReply& reply);
  void NoteIfSlow(const Unanswered& clone, const CloneTimes* times, engine::Time now);
  void EndBusyIfIdleLocked(engine::Time now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const Config config_;
  const Events events_;
  Metrics* const metrics_;
  const Metrics::Target target_metrics_;

  std::unique_ptr<grpc::GenericStub> stub_;
  grpc::ClientContext context_;
  wire::FrameBatcher batcher_;
  v1::IoFrame part_;  // of the dispatcher; kept for its memory
  // Of the dispatcher: what this session was last told to keep.
  std::optional<std::vector<std::pair<LaneId, Position>>> kept_after_;

  // Of gRPC's reading thread; one reaction at a time.
  grpc::ByteBuffer received_;
  v1::IoReplyFrame frame_;

  absl::Mutex mu_;
  bool started_ ABSL_GUARDED_BY(mu_) = false;    // Start was called
  bool streaming_ ABSL_GUARDED_BY(mu_) = false;  // the call exists: Stop may act
  bool connected_ ABSL_GUARDED_BY(mu_) = false;
  bool ended_ ABSL_GUARDED_BY(mu_) = false;      // End was called
  engine::Result end_result_ ABSL_GUARDED_BY(mu_);
  std::string end_reason_ ABSL_GUARDED_BY(mu_);
  absl::flat_hash_map<uint64_t, Unanswered> unanswered_ ABSL_GUARDED_BY(mu_);
  bool busy_ ABSL_GUARDED_BY(mu_) = false;  // as the target's times have been told
  std::deque<uint64_t> waiting_ ABSL_GUARDED_BY(mu_);  // clones of the parts in batcher_'s queue, in its order
  std::shared_ptr<TargetSession> self_ ABSL_GUARDED_BY(mu_);
};

}  // namespace weir::host

#endif  // WEIR_VOLUME_HOST_TARGET_SESSION_H_
