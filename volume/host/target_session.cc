#include "volume/host/target_session.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "proto/base/check.h"
#include "proto/base/errno.h"
#include "proto/base/log.h"
#include "proto/base/status_macros.h"
#include "proto/wire/frame.h"
#include "proto/wire/status.h"
#include "volume/host/clock.h"
#include "volume/host/clone_codec.h"
#include "volume/host/replica_channel.h"

namespace weir::host {
namespace {

constexpr char kIoMethod[] = "/weir.v1.ReplicaService/Io";

// The replay buffer bounds what can wait for one target; this only keeps a
// mistake there from eating all memory.
wire::FrameBatcher::Options BatcherOptions() {
  wire::FrameBatcher::Options options;
  options.queue_bytes_max = 256 << 20;
  return options;
}

// A plain write is answered once the replica has taken what was sent before it. A read or a sync may take long, and what
// waits for it must not wait for company first. Where answers do not come the clone deadline ends the session, and before
// that the engine's own flush takes with it what waits.
wire::FrameBatcher::Haste HasteOf(const engine::Clone& clone) {
  return clone.kind == engine::RequestKind::kWrite && !clone.fua ? wire::FrameBatcher::Haste::kMayWait
                                                                 : wire::FrameBatcher::Haste::kNow;
}

void AddPositions(const std::vector<std::pair<LaneId, Position>>& positions,
                  google::protobuf::RepeatedPtrField<v1::LanePosition>* field) {
  for (const auto& [lane, position] : positions) {
    v1::LanePosition* point = field->Add();
    point->set_lane(Index(lane));
    point->set_position(position.bits());
  }
}

}  // namespace

std::shared_ptr<TargetSession> TargetSession::Make(Config config, Events events,
                                                   Metrics* metrics) {
  return std::shared_ptr<TargetSession>(
      new TargetSession(std::move(config), std::move(events), metrics));
}

TargetSession::TargetSession(Config config, Events events, Metrics* metrics)
    : config_(std::move(config)),
      events_(std::move(events)),
      metrics_(metrics),
      target_metrics_(metrics->ForTarget(config_.volume, config_.replica)),
      batcher_(BatcherOptions()) {}

bool TargetSession::Start() {
  std::shared_ptr<TargetSession> self;
  {
    absl::MutexLock lock(&mu_);
    if (ended_ || started_) return false;
    started_ = true;
    self = shared_from_this();
    self_ = self;
  }
  stub_ = std::make_unique<grpc::GenericStub>(
      config_.channels->Make(config_.address));
  stub_->PrepareBidiStreamingCall(&context_, kIoMethod, grpc::StubOptions(),
                                  this);
  AddHold();  // for writes that start outside of reactions, until Carry's finish
  v1::IoFrame hello;
  *hello.mutable_hello() = config_.hello;
  CHECK(QueueOther(hello));  // an empty queue takes anything
  StartRead(&received_);
  StartCall();
  Carry(batcher_.Next());
  bool stop = false;
  {
    absl::MutexLock lock(&mu_);
    streaming_ = true;
    stop = ended_;
  }
  if (stop) Stop();
  return true;
}

void TargetSession::EndUnlessConnected() {
  {
    absl::MutexLock lock(&mu_);
    if (connected_) return;
  }
  End(engine::Result(ETIMEDOUT),
      absl::StrCat(config_.address, " did not answer in time"));
}

void TargetSession::End(engine::Result result, std::string reason) {
  {
    absl::MutexLock lock(&mu_);
    if (ended_) return;
    ended_ = true;
    end_result_ = result;
    end_reason_ = std::move(reason);
    if (!streaming_) return;  // never starts, or Start will see it
  }
  Stop();
}

// Cancelled first: a write that waits for a peer that does not read would
// otherwise never be done.
void TargetSession::Stop() {
  context_.TryCancel();
  Carry(batcher_.Close(wire::FrameBatcher::kDrop));
}

void TargetSession::Carry(wire::FrameBatcher::Step step) {
  if (step.write != nullptr) {
    // Before it can be answered.
    NoteHanded(step.parts);
    StartWrite(step.write);
  }
  if (step.finish) {
    context_.TryCancel();
    RemoveHold();
  }
}

void TargetSession::NoteHanded(size_t parts) {
  const engine::Time now = MonotonicNow();
  absl::MutexLock lock(&mu_);
  for (; parts > 0; --parts) {
    auto found = unanswered_.find(waiting_.front());
    waiting_.pop_front();
    if (found != unanswered_.end()) found->second.handed = now;
  }
}

bool TargetSession::QueueOther(const v1::IoFrame& part) {
  {
    // Before the batcher has it, since another thread may take it from there at once.
    absl::MutexLock lock(&mu_);
    waiting_.push_back(kNoClone);
  }
  if (batcher_.Queue(part, {})) return true;
  absl::MutexLock lock(&mu_);
  waiting_.pop_back();
  return false;
}

void TargetSession::Queue(const engine::Clone& clone) {
  part_.Clear();
  EncodeClone(clone, part_.add_ios());
  const auto id = static_cast<uint64_t>(clone.id);
  const wire::FrameBatcher::Haste haste = HasteOf(clone);
  const engine::Time now = MonotonicNow();
  {
    absl::MutexLock lock(&mu_);
    if (ended_) return;
    unanswered_[id] = {{clone.kind, clone.range.count}, clone.range.first, now, now, haste};
    waiting_.push_back(id);  // before the batcher has it; see QueueOther
    if (!std::exchange(busy_, true)) target_metrics_.times->Began(now);
  }
  if (config_.tracer->active()) config_.tracer->Queued(config_.replica, clone, now);
  if (!batcher_.Queue(part_, absl::MakeConstSpan(&clone.data, 1), haste)) {
    End(engine::Result(EIO),
        absl::StrCat(config_.replica, " does not read what it is sent"));
  }
}

void TargetSession::QueueDurablePoints(const engine::SendDurablePoints& news) {
  part_.Clear();
  AddPositions(news.points, part_.mutable_durable_points());
  const bool keeps_other = kept_after_ != news.keep_after;
  if (keeps_other) {
    AddPositions(news.keep_after, part_.mutable_keep_changes()->mutable_after());
  }
  // May be lost: the next one tells more.
  if (!QueueOther(part_)) return;
  if (keeps_other) kept_after_ = news.keep_after;
}

void TargetSession::QueuePing(uint64_t ping) {
  part_.Clear();
  part_.set_ping(ping);
  // Lost with a peer that does not read, whose session ends anyway.
  if (!QueueOther(part_)) return;
}

void TargetSession::Kick() { Carry(batcher_.Next()); }

void TargetSession::OnWriteDone(bool ok) { Carry(batcher_.WriteDone(ok)); }

void TargetSession::OnReadDone(bool ok) {
  if (!ok) {
    // The stream is over; OnDone will say why.
    Carry(batcher_.Close(wire::FrameBatcher::kDrop));
    return;
  }
  const absl::Status status = TakeFrame();
  if (!status.ok()) {
    End(engine::Result(EPROTO),
        absl::StrCat(config_.replica, " at ", config_.address,
                     " speaks nonsense: ", status.message()));
    return;
  }
  StartRead(&received_);
}

absl::Status TargetSession::TakeFrame() {
  Payload payload;
  RETURN_IF_ERROR(wire::DecodeFrame(received_, kReplicaMessageBytesMax, &frame_,
                                    &payload));
  received_.Clear();
  bool connected = false;
  {
    absl::MutexLock lock(&mu_);
    connected = connected_;
  }
  if (!connected) {
    if (!frame_.has_hello()) {
      return absl::InvalidArgumentError("its first frame has no hello");
    }
    RETURN_IF_ERROR(TakeHello(frame_.hello()));
  }
  // Before the replies: the engine must know before it numbers what a
  // completion lets in.
  if (frame_.has_space_exhausted()) {
    events_.space_changed(frame_.space_exhausted());
  }
  if (frame_.pong() != 0) events_.ponged(frame_.pong());
  return TakeReplies(frame_, payload);
}

absl::Status TargetSession::TakeHello(const v1::HelloReply& hello) {
  if (hello.store_id() != config_.hello.fence().store_id()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "it is store ", hello.store_id(), ", not ",
        config_.hello.fence().store_id(), "; is the address right?"));
  }
  ASSIGN_OR_RETURN(const engine::TargetHello decoded,
                   DecodeHello(hello, config_.lanes));
  {
    absl::MutexLock lock(&mu_);
    connected_ = true;
  }
  target_metrics_.sessions->Increment();
  events_.connected(decoded);
  return absl::OkStatus();
}

absl::Status TargetSession::TakeReplies(const v1::IoReplyFrame& frame,
                                        const Payload& payload) {
  if (frame.replies_size() == 0) return absl::OkStatus();
  std::vector<Unanswered> answered;
  std::vector<uint64_t> store_us;  // by answered clone
  answered.reserve(static_cast<size_t>(frame.replies_size()));
  store_us.reserve(answered.capacity());
  ASSIGN_OR_RETURN(std::vector<CompletedClone> completed,
                   DecodeReplies(frame, payload, [&](const v1::IoReply& reply) -> std::optional<AskedFor> {
                     absl::MutexLock lock(&mu_);
                     auto found = unanswered_.find(reply.id());
                     if (found == unanswered_.end()) return std::nullopt;
                     answered.push_back(found->second);
                     store_us.push_back(reply.store_us());
                     unanswered_.erase(found);
                     return answered.back().asked;
                   }));
  if (completed.empty()) return absl::OkStatus();
  const auto gathered = std::count_if(answered.begin(), answered.end(), [](const Unanswered& clone) {
    return clone.haste == wire::FrameBatcher::Haste::kMayWait;
  });
  // Before the replies, so that the replica has work again while they are handled.
  Carry(batcher_.Answered(static_cast<size_t>(gathered)));
  CountReplies(completed, answered, store_us);
  events_.replied(std::move(completed));
  return absl::OkStatus();
}

void TargetSession::CountReplies(const std::vector<CompletedClone>& replies,
                                 const std::vector<Unanswered>& clones, const std::vector<uint64_t>& store_us) {
  const engine::Time now = MonotonicNow();
  {
    absl::MutexLock lock(&mu_);
    EndBusyIfIdleLocked(now);
  }
  std::vector<CloneTimes> times;
  times.reserve(replies.size());
  for (size_t i = 0; i < replies.size(); ++i) {
    const Unanswered& clone = clones[i];
    times.push_back(CloneTimes::Of(clone.queued, clone.handed, now, store_us[i]));
    target_metrics_.clone_seconds[static_cast<size_t>(clone.asked.kind)]->Observe(
        absl::ToDoubleSeconds(now - clone.queued));
    CountError(replies[i].second);
    NoteIfSlow(clone, &times.back(), now);
    if (config_.tracer->active()) config_.tracer->Answered(replies[i].first, times.back(), now);
  }
  target_metrics_.times->Add(times);
}

// `times`: null if it was not answered.
void TargetSession::NoteIfSlow(const Unanswered& clone, const CloneTimes* times, engine::Time now) {
  if (!config_.slow_log->CloneIsSlow(now - clone.queued)) return;
  config_.slow_log->NoteClone({.replica = config_.replica,
                               .kind = clone.asked.kind,
                               .range = {clone.first_block, clone.asked.blocks},
                               .queued = clone.queued,
                               .ended = now,
                               .answered = times != nullptr,
                               .times = times != nullptr ? *times : CloneTimes()});
}

void TargetSession::EndBusyIfIdleLocked(engine::Time now) {
  if (unanswered_.empty() && std::exchange(busy_, false)) target_metrics_.times->Ended(now);
}

void TargetSession::CountError(const engine::CloneReply& reply) {
  if (reply.result.ok()) return;
  if (reply.result.error() == EAGAIN) {
    target_metrics_.requeues->Increment();
    return;
  }
  if (reply.result.error() == EBADMSG) {
    target_metrics_.checksum_errors->Increment();
  }
  metrics_->CountTargetError(config_.volume, config_.replica,
                             reply.result.error());
}

void TargetSession::OnDone(const grpc::Status& status) {
  std::shared_ptr<TargetSession> self;
  engine::Result result;
  std::string reason;
  bool asked = false;
  {
    absl::MutexLock lock(&mu_);
    self = std::move(self_);
    asked = ended_;
    ended_ = true;
    result = end_result_;
    reason = end_reason_;
    const engine::Time now = MonotonicNow();
    for (const auto& [id, clone] : unanswered_) NoteIfSlow(clone, nullptr, now);
    unanswered_.clear();
    EndBusyIfIdleLocked(now);
  }
  // Before anybody hears that it is over: who does may end the host, and then
  // this channel must not be the last; see ReplicaChannels.
  stub_.reset();
  if (!asked) {
    const absl::Status why = wire::FromGrpc(status);
    const int error = why.ok() ? ECONNRESET : StatusToErrno(why);
    result = engine::Result(error);
    reason = why.ok() ? std::string("the replica ended the stream")
                      : std::string(why.message());
    target_metrics_.sessions_lost->Increment();
  }
  events_.ended(result, std::move(reason));
}

}  // namespace weir::host
