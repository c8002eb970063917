// One I/O stream: a frontend's session on one volume.
//
//            hello admitted            too much unanswered
//   HELLO ------------------> RUNNING <-------------------> PAUSED (reads no frame)
//     |                         |  half-closed, all answered    |
//     +---------- End ----------+------------- End -------------+--> the batcher drains, Finish
//
// A frame is read, run and answered on the gRPC thread that received it; only hellos and what
// waits for a sync or an injected delay goes through other threads. gRPC's rules (one read
// and one write at a time, nothing after Finish) are kept by FrameBatcher for writes
// and by StartNextRead for reads.
//
// Thread-safety: gRPC's reactions and End may come from any thread. Owned by
// itself until OnDone; whoever may outlast that holds a shared_ptr.
#ifndef WEIR_REPLICA_SERVER_IO_STREAM_H_
#define WEIR_REPLICA_SERVER_IO_STREAM_H_

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/server_callback.h"
#include "proto/wire/access.h"
#include "proto/wire/frame_batcher.h"
#include "replica/server/admission.h"
#include "replica/server/frame_run.h"
#include "replica/server/replica.h"
#include "replica/server/sessions.h"
#include "weir/v1/replica.pb.h"

namespace weir::replica {

class IoStream final : public grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>,
                       public SessionOwner,
                       public std::enable_shared_from_this<IoStream> {
 public:
  // `replica` outlives all streams. `grant`: for which volumes it may be.
  // `peer`: its address, for the log.
  static grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* Start(
      Replica& replica, const wire::VolumeGrant& grant, std::string peer);

  IoStream(Replica& replica, const wire::VolumeGrant& grant, std::string peer);

  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

  // Ends the stream with the first such status, after what is queued has been written.
  void End(const absl::Status& status) override;
  void SpaceChanged() override;

 private:
  enum class State { kHello, kRunning, kPaused };

  void EndMalformed(const absl::Status& status);
  void EndTooSlow();
  void Carry(wire::FrameBatcher::Step step);
  void FinishOnce();
  void CloseSession(const std::shared_ptr<Session>& session);

  // On a control thread: what the first frame asks for.
  void OpenSession(v1::IoFrame frame, Payload payload);
  absl::Status AdmitHello(const v1::Hello& hello);
  absl::Status Opened(std::shared_ptr<Session> session);
  void SendHello();

  void RunFrame(v1::IoFrame frame, Payload payload);
  // Runs what is left of the frame, then reads the next; stops when too much is unanswered.
  void NoteGrowth(const v1::IoFrame& frame);
  void Advance();
  bool RunSome(std::vector<Answer>* answers);
  bool TooMuchUnanswered() const;
  // From kPaused to kRunning, if there is room again: the caller then has to Advance.
  bool TakePaused();
  void Resume();
  void StartNextRead();

  void Dispatch(std::vector<Answer> answers, uint64_t pong);
  void AwaitSync(Answer answer);
  void AwaitDelay(Answer answer);
  // Later answers of an io: they were counted as pending.
  void SendLate(Answer answer);
  void BeginPending(size_t bytes);
  void EndPending(size_t bytes);
  void Append(Answer& answer, v1::IoReplyFrame* part, std::vector<Payload>* payload);
  void Send(const v1::IoReplyFrame& part, const std::vector<Payload>& payload);

  Replica& replica_;
  const wire::VolumeGrant grant_;
  const std::string peer_;
  const FrameRun::OnInjected on_injected_;
  std::shared_ptr<IoStream> self_;  // until OnDone
  wire::FrameBatcher batcher_;

  // Set by the hello; not changed afterwards. `session_` under mutex_ while OnDone may look.
  std::shared_ptr<Session> session_;
  VolumeId volume_{};
  StreamScope scope_;
  store::VolumeState opened_as_;

  // Belong to the thread that runs the frame; handed on through `state_`.
  grpc::ByteBuffer received_;
  absl::optional<FrameRun> run_;
  bool writes_applied_ = false;
  uint64_t ping_ = 0;            // of the frame that runs, until it has been echoed
  absl::Time received_at_;

  mutable absl::Mutex mutex_;
  State state_ ABSL_GUARDED_BY(mutex_) = State::kHello;
  bool space_exhausted_ ABSL_GUARDED_BY(mutex_) = false;  // as the frontend knows it
  bool half_closed_ ABSL_GUARDED_BY(mutex_) = false;
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status end_status_ ABSL_GUARDED_BY(mutex_);
  // A Finish may not overtake a StartRead that is being called.
  int starting_reads_ ABSL_GUARDED_BY(mutex_) = 0;
  bool may_finish_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  bool done_ ABSL_GUARDED_BY(mutex_) = false;
  // Waiting for a sync or a delay.
  size_t pending_ios_ ABSL_GUARDED_BY(mutex_) = 0;
  size_t pending_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace weir::replica

#endif  // WEIR_REPLICA_SERVER_IO_STREAM_H_
