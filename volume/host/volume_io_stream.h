// One client's VolumeService.Io stream: frames in, requests to the volume,
// replies out in batches.
//
// Flow control: at most Options bytes and requests may be unanswered, replies that
// the client has not taken included; beyond that, or when the volume has no
// room, the rest of a frame waits and the stream is not read, so gRPC's own
// window holds the client back. Requests are submitted by one thread at a time,
// whoever has the turn:
//
//   gRPC, reading --a frame--> Advance --all submitted--> gRPC, reading
//                               |   ^
//             too much held     v   | Resume, or the volume's AwaitRoom
//                              nobody (paused)
//
// Thread-safety: reactions come from gRPC one at a time; answers from any thread.
//
// Life: holds itself until gRPC has no more use for it; every unanswered
// request holds it too.
#ifndef WEIR_VOLUME_HOST_VOLUME_IO_STREAM_H_
#define WEIR_VOLUME_HOST_VOLUME_IO_STREAM_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/server_callback.h"
#include "proto/base/payload.h"
#include "proto/wire/frame_batcher.h"
#include "volume/host/client_sessions.h"
#include "volume/host/host.h"
#include "volume/host/submit_gate.h"
#include "weir/v1/volume.pb.h"

namespace weir::host {

class VolumeIoStream final
    : public grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>,
      public std::enable_shared_from_this<VolumeIoStream> {
 public:
  struct Options {
    uint64_t unanswered_bytes_max = 16 << 20;
    uint64_t unanswered_requests_max = 1024;
    size_t frame_bytes_max = 8 << 20;
  };
  using FindVolume =
      std::function<absl::StatusOr<std::shared_ptr<HostedVolume>>(
          const std::string& name)>;

  // The reactor to give to gRPC. `find` must not block. `sessions` outlives it.
  static VolumeIoStream* Begin(const Options& options, FindVolume find,
                               ClientSessions* sessions);

  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

 private:
  VolumeIoStream(const Options& options, FindVolume find,
                 ClientSessions* sessions);

  absl::Status TakeFrame();
  absl::Status Open(const v1::VolumeOpen& open);
  // Submits what is left of the frame, then reads the next. REQUIRES: the turn.
  void Advance();
  void Resume();
  void SubmitNext();
  void Submit(const v1::VolumeIo& io, Payload data);
  // The answer to request `id` that was counted with `bytes`.
  void Answer(uint64_t id, uint64_t bytes, bool is_read, IoOutcome outcome);
  void Send(const v1::VolumeIoReplyFrame& part, absl::Span<const Payload> data);
  void Carry(wire::FrameBatcher::Step step);
  // A newer session of this client takes over: submits nothing any more once
  // this has returned.
  void CutOff(const absl::Status& status);
  // Ends the stream with `status` once what is queued is written.
  void End(absl::Status status);
  // REQUIRES: starting_reads_ has been raised.
  void StartCountedRead();
  bool MayReadLocked() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const Options options_;
  const FindVolume find_;
  ClientSessions* const sessions_;
  // Every request and piece of one passes it; CutOff closes it.
  const std::shared_ptr<SubmitGate> gate_ = std::make_shared<SubmitGate>();
  wire::FrameBatcher batcher_;
  std::shared_ptr<VolumeIoStream> self_;  // cleared by OnDone

  // Of whoever has the turn; handed on through mu_, gRPC or the volume.
  grpc::ByteBuffer received_;
  v1::VolumeIoFrame frame_;
  Payload payload_;           // of frame_
  int next_io_ = 0;           // of frame_, not yet submitted
  size_t payload_offset_ = 0;  // where its data begins
  std::function<void()> resume_;  // for AwaitRoom
  std::shared_ptr<HostedVolume> volume_;  // set by the first frame
  v1::VolumeOpen open_;                   // that frame's; empty if refused

  absl::Mutex mu_;
  uint64_t unanswered_bytes_ ABSL_GUARDED_BY(mu_) = 0;
  uint64_t unanswered_requests_ ABSL_GUARDED_BY(mu_) = 0;
  bool paused_ ABSL_GUARDED_BY(mu_) = false;  // nobody has the turn
  // A Finish may not overtake a StartRead that is being called.
  int starting_reads_ ABSL_GUARDED_BY(mu_) = 0;
  bool half_closed_ ABSL_GUARDED_BY(mu_) = false;  // the client sends no more
  bool ending_ ABSL_GUARDED_BY(mu_) = false;
  absl::Status end_status_ ABSL_GUARDED_BY(mu_);
};

}  // namespace weir::host

#endif  // WEIR_VOLUME_HOST_VOLUME_IO_STREAM_H_
