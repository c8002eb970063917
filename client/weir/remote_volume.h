// A volume handle: which requests are unanswered, and what to do when the
// stream that carries them ends.
#ifndef WEIR_CLIENT_WEIR_REMOTE_VOLUME_H_
#define WEIR_CLIENT_WEIR_REMOTE_VOLUME_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "client/weir/client.h"
#include "client/weir/inflight_budget.h"
#include "client/weir/io_stream.h"
#include "grpcpp/alarm.h"
#include "grpcpp/channel.h"
#include "proto/base/payload.h"
#include "proto/base/position.h"
#include "weir/v1/volume.grpc.pb.h"

namespace weir {

// See Volume for what it promises. A small state machine:
//
//            Opened, may go on              all is sent          stream lost
//   OPENING --------------------> RESENDING -------------> OPEN -------------> PAUSING
//     ^  \                            |                      |                    |
//     |   \ taken over, detached,     | the same             | the same           | timer
//     |    \ gone                     v                      |                    |
//     |     '-----------------> REFUSING <-------------------'                    |
//     |        Reset                  |                                           |
//     '-------------------------------'-------------------------------------------'
//
// RESENDING too becomes PAUSING when its stream is lost.
//
// Thread-safety: safe. Each event computes under the mutex what is to be done, and does it
// after it has let go. Owns its stream and timer; the destructor
// waits for every request, then for the stream, the timer and a running Attach.
class RemoteVolume : public Volume, private IoStream::Events {
 public:
  // Opens the stream and waits for it. Does not attach; a volume that is not
  // attached is FAILED_PRECONDITION.
  static absl::StatusOr<std::unique_ptr<RemoteVolume>> Open(std::shared_ptr<grpc::Channel> channel,
                                                            const std::string& name,
                                                            const ClientOptions& options);
  ~RemoteVolume() override;

  uint64_t size_bytes() const override;
  uint32_t epoch() const override;
  bool flush_supported() const override;
  uint32_t length_bytes_max() const override;

  void ReadAsync(uint64_t offset, uint32_t length, Callback done) override;
  void WriteAsync(uint64_t offset, std::string data, bool fua, Callback done) override;
  void WriteZeroesAsync(uint64_t offset, uint32_t length, bool fua, Callback done) override;
  void DiscardAsync(uint64_t offset, uint32_t length, Callback done) override;
  void BarrierAsync(uint64_t offset, std::string data, Callback done) override;
  void FlushAsync(Callback done) override;
  void ExtentsAsync(uint64_t offset, uint32_t length, Callback done) override;
  void Reset() override;

 private:
  enum class Phase {
    kOpening,   // a stream, or the Attach before it, is under way; requests wait
    kResending,  // the stream stands, pending_ is being sent on it; requests only join pending_
    kOpen,      // requests go out as they come
    kPausing,   // until the next attempt to open; requests wait
    kRefusing,  // requests fail with refusal_, until Reset
  };

  struct Pending {
    v1::VolumeIo io;
    Payload data;
    Callback done;
    uint64_t cost = 0;  // held in budget_
  };

  // What an event has decided, to be carried out without the mutex.
  struct Todo {
    std::vector<std::pair<Pending, IoResult>> finished;
    std::shared_ptr<IoStream> cancel;
    std::shared_ptr<IoStream> open;
    uint64_t session = 0;  // of `open`
    std::shared_ptr<grpc::ClientContext> attach;
    absl::Duration delay = absl::ZeroDuration();  // of `timer`, if that is not 0
    uint64_t timer = 0;
  };

  RemoteVolume(std::shared_ptr<grpc::Channel> channel, const std::string& name,
               const ClientOptions& options);

  void Submit(v1::VolumeIo io, Payload data, Callback done);
  absl::Status AwaitFirstOpen();
  absl::Status CheckShape(const v1::VolumeIo& io, size_t data_bytes) const;
  void Finish(Pending pending, IoResult result);
  void Carry(Todo todo) ABSL_LOCKS_EXCLUDED(mutex_);

  // Events; each but Replied and Opened ends one of outstanding_.
  void Opened(IoStream& stream, const v1::VolumeOpened& opened) override;
  void Replied(IoStream& stream, v1::VolumeIoReply reply, Payload data) override;
  void Closed(std::shared_ptr<IoStream> stream, absl::Status status, bool malformed) override;
  void Attached(const grpc::Status& status);
  void TimerFired(uint64_t timer);
  void EventOver();
  void SendPending(IoStream& stream) ABSL_LOCKS_EXCLUDED(mutex_);
  void StartTimer(uint64_t timer, absl::Duration delay);

  // Nothing that this handle was told has been lost.
  bool MayGoOn(const v1::VolumeOpened& opened) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void StartOpening(Todo& todo) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void AttachFirst(Todo& todo) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void StreamLost(const absl::Status& status, Todo& todo) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Pause(const absl::Status& status, Todo& todo) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Refuse(absl::Status refusal, Todo& todo) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void FailAll(const absl::Status& status, Todo& todo) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void WantTimer(absl::Duration delay, Todo& todo) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status Interrupted(const absl::Status& status) const;

  const std::shared_ptr<grpc::Channel> channel_;
  const std::string name_;
  // By which the frontend knows the streams of this handle, so that it ends the
  // older one, and with it copies of requests that are on their way, first.
  const std::string client_id_;
  const ClientOptions options_;
  const std::unique_ptr<v1::VolumeService::Stub> stub_;
  InflightBudget budget_;

  mutable absl::Mutex mutex_;
  Phase phase_ ABSL_GUARDED_BY(mutex_) = Phase::kOpening;
  absl::Status refusal_ ABSL_GUARDED_BY(mutex_);
  // By id, so in the order of submission, which re-sending keeps. An id is
  // never used again, so a late reply can complete nothing else.
  std::map<uint64_t, Pending> pending_ ABSL_GUARDED_BY(mutex_);
  uint64_t last_id_ ABSL_GUARDED_BY(mutex_) = 0;

  // At most one at a time: the next is made after the last has closed.
  std::shared_ptr<IoStream> stream_ ABSL_GUARDED_BY(mutex_);
  uint64_t session_ ABSL_GUARDED_BY(mutex_) = 0;  // of stream_; rises
  bool reopen_ ABSL_GUARDED_BY(mutex_) = false;   // Reset came before stream_ had closed
  v1::VolumeOpened opened_ ABSL_GUARDED_BY(mutex_);
  Epoch accepted_epoch_ ABSL_GUARDED_BY(mutex_) = 0;  // 0: any
  bool ever_open_ ABSL_GUARDED_BY(mutex_) = false;
  bool attach_tried_ ABSL_GUARDED_BY(mutex_) = false;  // in this attempt to open
  // Consecutive streams that we ended as malformed, without a reply between.
  int malformed_streams_ ABSL_GUARDED_BY(mutex_) = 0;

  absl::Duration lost_since_ ABSL_GUARDED_BY(mutex_) = absl::InfiniteDuration();  // by SteadyNow()
  absl::Duration delay_ ABSL_GUARDED_BY(mutex_);
  // The newest timer and its number; older ones that still fire are ignored.
  std::unique_ptr<grpc::Alarm> alarm_ ABSL_GUARDED_BY(mutex_);
  uint64_t timer_ ABSL_GUARDED_BY(mutex_) = 0;

  // One Attach at a time, written by gRPC between its start and Attached().
  std::shared_ptr<grpc::ClientContext> attach_context_ ABSL_GUARDED_BY(mutex_);
  v1::AttachRequest attach_request_;
  v1::AttachResponse attach_response_;

  bool closing_ ABSL_GUARDED_BY(mutex_) = false;
  // Streams, timers and attaches that will still call, or run. What holds a
  // reference to channel_ is dropped before its share of this is.
  int outstanding_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace weir

#endif  // WEIR_CLIENT_WEIR_REMOTE_VOLUME_H_
