#include "replica/server/io_stream.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "proto/base/log.h"
#include "proto/base/status_macros.h"
#include "proto/wire/frame.h"
#include "proto/wire/status.h"

namespace weir::replica {
namespace {

// Answers are handed to the batcher in parts of about this size, so that the
// first blocks of a long read frame are on their way while the next are read.
constexpr size_t kPartBytes = 1 << 20;

wire::FrameBatcher::Options BatcherOptions(const ServerOptions& options) {
  wire::FrameBatcher::Options result;
  // Frames are not run above `unanswered_bytes_max`; beyond it come only the answers of
  // what is pending then, and one part.
  result.queue_bytes_max = 2 * options.unanswered_bytes_max + options.frame_bytes_max;
  return result;
}

}  // namespace

grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* IoStream::Start(
    Replica& replica, const wire::VolumeGrant& grant, std::string peer) {
  auto stream = std::make_shared<IoStream>(replica, grant, std::move(peer));
  stream->self_ = stream;
  replica.delays().After(
      replica.options().hello_deadline, [weak = std::weak_ptr<IoStream>(stream)] {
        const std::shared_ptr<IoStream> late = weak.lock();
        if (late == nullptr) return;
        {
          absl::MutexLock lock(&late->mutex_);
          if (late->state_ != State::kHello) return;
        }
        late->End(absl::DeadlineExceededError("no hello came in time"));
      });
  stream->StartNextRead();
  return stream.get();
}

IoStream::IoStream(Replica& replica, const wire::VolumeGrant& grant, std::string peer)
    : replica_(replica),
      grant_(grant),
      peer_(std::move(peer)),
      on_injected_([&replica](v1::FaultOp op) { replica.metrics().Injected(op); }),
      batcher_(BatcherOptions(replica.options())) {}

// --- the end ---

void IoStream::End(const absl::Status& status) {
  {
    absl::MutexLock lock(&mutex_);
    if (!ending_) {
      ending_ = true;
      end_status_ = status;
    }
  }
  Carry(batcher_.Close(wire::FrameBatcher::kDrain));
}

void IoStream::EndMalformed(const absl::Status& status) {
  replica_.metrics().streams_ended_malformed.Increment();
  LOG(WARNING) << "replica=" << replica_.options().name
               << " volume=" << static_cast<uint64_t>(volume_) << " peer=" << peer_
               << " stream ended: " << status.message();
  End(status);
}

void IoStream::EndTooSlow() {
  End(absl::ResourceExhaustedError("the frontend reads its answers too slowly"));
}

void IoStream::Carry(wire::FrameBatcher::Step step) {
  if (step.write != nullptr) StartWrite(step.write);
  if (!step.finish) return;
  {
    absl::MutexLock lock(&mutex_);
    may_finish_ = true;
  }
  FinishOnce();
}

void IoStream::FinishOnce() {
  absl::Status status;
  {
    absl::MutexLock lock(&mutex_);
    if (!may_finish_ || finished_ || starting_reads_ > 0) return;
    finished_ = true;
    status = end_status_;
  }
  Finish(wire::ToGrpc(status));
}

void IoStream::OnCancel() {
  End(absl::CancelledError("the frontend went away"));
  Carry(batcher_.Close(wire::FrameBatcher::kDrop));
}

void IoStream::OnDone() {
  std::shared_ptr<Session> session;
  {
    absl::MutexLock lock(&mutex_);
    done_ = true;
    session = session_;
  }
  if (session != nullptr) CloseSession(session);
  self_.reset();  // may delete this
}

void IoStream::CloseSession(const std::shared_ptr<Session>& session) {
  replica_.sessions().Close(session);
  replica_.metrics().streams.Decrement();
}

// --- reading ---

void IoStream::StartNextRead() {
  {
    absl::MutexLock lock(&mutex_);
    if (may_finish_) return;
    ++starting_reads_;
  }
  StartRead(&received_);
  {
    absl::MutexLock lock(&mutex_);
    --starting_reads_;
  }
  FinishOnce();
}

void IoStream::OnReadDone(bool ok) {
  if (!ok) {
    // Half-closed: what is pending is still answered.
    bool idle = false;
    {
      absl::MutexLock lock(&mutex_);
      half_closed_ = true;
      idle = pending_ios_ == 0;
    }
    if (idle) End(absl::OkStatus());
    return;
  }
  received_at_ = absl::Now();
  v1::IoFrame frame;
  Payload payload;
  const absl::Status status =
      wire::DecodeFrame(received_, replica_.options().frame_bytes_max, &frame, &payload);
  received_.Clear();
  if (!status.ok()) return EndMalformed(status);
  if (session_ != nullptr) return RunFrame(std::move(frame), std::move(payload));
  if (!frame.has_hello()) {
    return EndMalformed(absl::InvalidArgumentError("the first frame must carry hello"));
  }
  const bool taken = replica_.control().Run(
      [self = shared_from_this(), frame = std::move(frame), payload = std::move(payload)] {
        self->OpenSession(frame, payload);
      });
  if (!taken) End(absl::UnavailableError("the replica is busy or shutting down; try again"));
}

void IoStream::OpenSession(v1::IoFrame frame, Payload payload) {
  if (absl::Status status = AdmitHello(frame.hello()); !status.ok()) return End(status);
  LOG(INFO) << "replica=" << replica_.options().name
            << " volume=" << static_cast<uint64_t>(volume_) << " epoch=" << scope_.epoch
            << " session=" << frame.hello().session()
            << " opened by frontend=" << frame.hello().frontend().substr(0, 100);
  SendHello();
  {
    absl::MutexLock lock(&mutex_);
    state_ = State::kRunning;
  }
  // It may have changed while the hello was on its way to the batcher.
  SpaceChanged();
  frame.clear_hello();
  RunFrame(std::move(frame), std::move(payload));
}

absl::Status IoStream::AdmitHello(const v1::Hello& hello) {
  const v1::Fence& fence = hello.fence();
  RETURN_IF_ERROR(grant_.Check(fence.volume_id()));
  volume_ = VolumeIdOf(fence);
  ASSIGN_OR_RETURN(opened_as_,
                   replica_.gate().Open(fence, hello.session(), weak_from_this(),
                                        [this](std::shared_ptr<Session> session) { return Opened(std::move(session)); }));
  scope_.geometry = opened_as_.geometry;
  scope_.domains = replica_.store().num_domains();
  scope_.num_flush_requests = NumFlushRequests(scope_.domains, opened_as_.geometry.lanes);
  scope_.epoch = fence.epoch();
  return absl::OkStatus();
}

absl::Status IoStream::Opened(std::shared_ptr<Session> session) {
  replica_.metrics().streams.Increment();
  bool done = false;
  {
    absl::MutexLock lock(&mutex_);
    session_ = session;
    done = done_;
  }
  if (!done) return absl::OkStatus();
  // The stream went away while its hello waited: OnDone has not seen the session.
  CloseSession(session);
  return absl::CancelledError("the frontend went away");
}

void IoStream::SendHello() {
  v1::IoReplyFrame part;
  v1::HelloReply* hello = part.mutable_hello();
  const store::Identity identity = replica_.store().identity();
  hello->set_store_id(identity.store_id);
  hello->set_incarnation(identity.incarnation);
  hello->set_num_flush_requests(scope_.num_flush_requests);
  LaneStatesToProto(opened_as_.lanes, hello->mutable_lanes());
  hello->set_inflight_bytes_max(replica_.options().inflight_bytes_max);
  hello->set_flush_supported(replica_.FlushSupported());
  {
    absl::MutexLock lock(&mutex_);
    space_exhausted_ = replica_.space_exhausted();
    hello->set_space_exhausted(space_exhausted_);
  }
  Send(part, {});
}

void IoStream::SpaceChanged() {
  bool queued = true;
  {
    // Looked at and queued under one lock, so that the last news is the truth.
    absl::MutexLock lock(&mutex_);
    const bool exhausted = replica_.space_exhausted();
    // Nothing goes before the hello.
    if (state_ == State::kHello || space_exhausted_ == exhausted) return;
    space_exhausted_ = exhausted;
    v1::IoReplyFrame part;
    part.set_space_exhausted(exhausted);
    queued = batcher_.Queue(part, {});
  }
  if (!queued) return EndTooSlow();
  Carry(batcher_.Next());
}

// --- running ---

void IoStream::RunFrame(v1::IoFrame frame, Payload payload) {
  const absl::Status status =
      CheckFrame(frame, payload.size(), replica_.options().unanswered_ios_max);
  if (!status.ok()) return EndMalformed(status);
  ping_ = frame.ping();
  NoteGrowth(frame);
  run_.emplace(replica_.store(), replica_.faults(), on_injected_, volume_, scope_,
               std::move(frame), std::move(payload));
  writes_applied_ = false;
  Advance();
}

// A volume that grows does so under its streams.
void IoStream::NoteGrowth(const v1::IoFrame& frame) {
  const uint64_t size = scope_.geometry.size_blocks;
  const bool past = std::any_of(frame.ios().begin(), frame.ios().end(), [size](const v1::Io& io) {
    return io.first_block() >= size || io.block_count() > size - io.first_block();
  });
  if (!past) return;
  const absl::StatusOr<store::VolumeState> volume = replica_.store().GetVolume(volume_);
  if (volume.ok()) scope_.geometry = volume->geometry;  // else each io finds out
}

void IoStream::Advance() {
  while (run_.has_value()) {
    if (!session_->Enter()) return;  // whoever ended the session has ended the stream
    std::vector<Answer> answers;
    const bool more = RunSome(&answers);
    const uint64_t pong = std::exchange(ping_, 0);
    session_->Leave();
    const bool store_error = run_->store_error();
    if (!more) run_.reset();
    Dispatch(std::move(answers), pong);
    if (store_error) replica_.CheckHealth();
    if (TooMuchUnanswered()) {
      {
        absl::MutexLock lock(&mutex_);
        state_ = State::kPaused;
      }
      // From here another thread may resume; this one does, if the others had
      // made room before they could see the pause.
      if (!TakePaused()) return;
    }
  }
  StartNextRead();
}

bool IoStream::RunSome(std::vector<Answer>* answers) {
  if (!std::exchange(writes_applied_, true)) run_->ApplyWrites(answers);
  size_t bytes = 0;
  while (bytes < kPartBytes) {
    const size_t before = answers->size();
    if (!run_->ReadNext(answers)) return false;
    if (answers->size() > before) bytes += answers->back().held_bytes();
  }
  return true;
}

bool IoStream::TooMuchUnanswered() const {
  const ServerOptions& options = replica_.options();
  absl::MutexLock lock(&mutex_);
  return pending_ios_ > options.unanswered_ios_max ||
         pending_bytes_ + batcher_.queued_bytes() > options.unanswered_bytes_max;
}

bool IoStream::TakePaused() {
  if (TooMuchUnanswered()) return false;
  absl::MutexLock lock(&mutex_);
  if (state_ != State::kPaused) return false;
  state_ = State::kRunning;
  return true;
}

void IoStream::Resume() {
  if (TakePaused()) Advance();
}

// --- answering ---

void IoStream::Dispatch(std::vector<Answer> answers, uint64_t pong) {
  v1::IoReplyFrame part;
  if (pong != 0) part.set_pong(pong);
  std::vector<Payload> payload;
  for (Answer& answer : answers) {
    answer.received_at = received_at_;
    if (answer.sync_domain.has_value()) {
      AwaitSync(std::move(answer));
    } else if (answer.delay > absl::ZeroDuration()) {
      BeginPending(answer.held_bytes());
      AwaitDelay(std::move(answer));
    } else {
      Append(answer, &part, &payload);
    }
  }
  if (part.replies_size() > 0 || pong != 0) Send(part, payload);
}

void IoStream::AwaitSync(Answer answer) {
  const size_t bytes = answer.held_bytes();
  SyncWorker& worker = replica_.sync_worker(*answer.sync_domain);
  BeginPending(bytes);
  auto shared = std::make_shared<Answer>(std::move(answer));
  const bool taken = worker.Wait(
      volume_, [self = shared_from_this(), shared](const SyncWorker::Synced& synced) {
        CompleteSync(synced, shared.get());
        self->SendLate(std::move(*shared));
      });
  if (taken) return;
  CompleteSync(absl::UnavailableError("too many syncs are waiting; try again"), shared.get());
  SendLate(std::move(*shared));
}

void IoStream::AwaitDelay(Answer answer) {
  const absl::Duration delay = std::exchange(answer.delay, absl::ZeroDuration());
  replica_.delays().After(delay, [self = shared_from_this(),
                                  shared = std::make_shared<Answer>(std::move(answer))] {
    self->SendLate(std::move(*shared));
  });
}

void IoStream::SendLate(Answer answer) {
  if (answer.delay > absl::ZeroDuration()) return AwaitDelay(std::move(answer));
  const size_t bytes = answer.held_bytes();
  v1::IoReplyFrame part;
  std::vector<Payload> payload;
  Append(answer, &part, &payload);
  Send(part, payload);
  EndPending(bytes);
}

void IoStream::BeginPending(size_t bytes) {
  absl::MutexLock lock(&mutex_);
  ++pending_ios_;
  pending_bytes_ += bytes;
}

void IoStream::EndPending(size_t bytes) {
  bool last_answer = false;
  {
    absl::MutexLock lock(&mutex_);
    --pending_ios_;
    pending_bytes_ -= bytes;
    last_answer = half_closed_ && pending_ios_ == 0;
  }
  if (last_answer) End(absl::OkStatus());
  Resume();
}

void IoStream::Append(Answer& answer, v1::IoReplyFrame* part, std::vector<Payload>* payload) {
  const absl::Duration took = absl::Now() - answer.received_at;
  replica_.metrics().Answered(answer.kind, answer.bytes, answer.reply.error(), took);
  // At least 1, since 0 says that it is not told; the wall clock may have been set back.
  answer.reply.set_store_us(static_cast<uint32_t>(
      std::clamp<int64_t>(absl::ToInt64Microseconds(took), 1, std::numeric_limits<uint32_t>::max())));
  *part->add_replies() = std::move(answer.reply);
  if (!answer.data.empty()) payload->push_back(std::move(answer.data));
}

void IoStream::Send(const v1::IoReplyFrame& part, const std::vector<Payload>& payload) {
  if (!batcher_.Queue(part, payload)) return EndTooSlow();
  Carry(batcher_.Next());
}

void IoStream::OnWriteDone(bool ok) {
  Carry(batcher_.WriteDone(ok));
  if (!ok) return End(absl::UnavailableError("the stream broke"));
  Resume();
}

}  // namespace weir::replica
