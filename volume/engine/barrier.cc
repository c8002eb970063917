// Flushes, barriers and the engine's own flushing. See state.h.
#include <algorithm>
#include <cerrno>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/base/check.h"
#include "volume/engine/state.h"

namespace weir::engine {
namespace {

void Append(std::vector<TargetError>& to, std::vector<TargetError> from) {
  to.insert(to.end(), std::make_move_iterator(from.begin()),
            std::make_move_iterator(from.end()));
}

// The first of those that have decided the folded result. REQUIRES: there is one.
std::string Deciding(const std::vector<TargetError>& errors, Result folded) {
  auto it = std::find_if(errors.begin(), errors.end(),
                         [&](const TargetError& e) { return e.result == folded; });
  CHECK(it != errors.end());
  return absl::StrCat("replica ", it->replica, ": ", it->message);
}

}  // namespace

// Carries the flush worker on: the run under way, else the next that is due.
bool Engine::State::AdvanceFlush() {
  if (run_) {
    bool progressed = false;
    for (Target& target : targets_) progressed |= SendFlushClones(target);
    if (!run_->done()) return progressed;
    FinishRun();
    return true;
  }
  bool barrier_flush = barrier_ && (barrier_->stage == BarrierStage::kPreFlush ||
                                    barrier_->stage == BarrierStage::kPostFlush);
  bool active = IsRunning();
  bool draining = phase_ == Phase::kSuspending && !noflush_;
  if ((!active && !draining) || now_ < run_not_before_) return false;
  if (Held()) return HeldTooLong() && FailHeldFlushes();
  if (barrier_flush) {
    StartRun(FlushRun::Purpose::kBarrier);
  } else if (!flushes_.empty() && (active || barrier_)) {
    StartRun(FlushRun::Purpose::kRequests);
  } else if (AutoFlushDue() && (active || !ops_.empty())) {
    // Also while a barrier or a suspend drains: a FUA write may wait for just this.
    StartRun(FlushRun::Purpose::kAuto);
  } else {
    return false;
  }
  return true;
}

bool Engine::State::FailHeldFlushes() {
  if (barrier_ && barrier_->stage == BarrierStage::kPostFlush) {
    EndBarrier(Result(EIO), kTooFewMembers);
    return true;
  }
  if (barrier_ && barrier_->stage == BarrierStage::kPreFlush) {
    EndBarrier(Result(EIO), absl::StrCat(kTooFewMembers, "; nothing was written"));
    return true;
  }
  if (flushes_.empty()) return false;
  for (FlushWaiter& waiter : std::exchange(flushes_, {})) {
    Complete(waiter.request, Result(EIO), kTooFewMembers, std::move(waiter.errors));
  }
  return true;
}

void Engine::State::StartRun(FlushRun::Purpose purpose) {
  std::vector<uint64_t> positions;
  // A snapshot is a read of everything, so it has the writes that failed and are yet to land, as any read has.
  const bool for_pin = purpose == FlushRun::Purpose::kBarrier && barrier_->request.pin != 0;
  for (const Lane& lane : lanes_) positions.push_back(for_pin ? lane.read_floor() : lane.completed);
  run_.emplace(purpose, ++runs_, now_, std::move(positions));
  if (purpose == FlushRun::Purpose::kRequests) {
    std::move(flushes_.begin(), flushes_.end(), std::back_inserter(run_flushes_));
    flushes_.clear();
  }
  last_auto_flush_ = now_;
  for (Target& target : targets_) {
    if (!target.needed()) continue;
    run_->AddTarget(target.id, target.config.replica);
    if (target.condemned()) {
      run_->TargetFailed(target.id, target.failure, target.reason);
    } else if (target.connected()) {
      run_->TargetConnected(target.id, target.hello.num_flush_requests, true);
    }
  }
}

bool Engine::State::SendFlushClones(Target& target) {
  // The run counts what NextToSend gives as sent, so nothing is asked for while it may not go.
  if (!MayGoOnSending() || !target.connected() || now_ < target.backoff_until) {
    return false;
  }
  bool progressed = false;
  while (std::optional<uint32_t> flush_nr = run_->NextToSend(target.id, now_)) {
    SendFlush(target, *flush_nr, run_->number());
    progressed = true;
  }
  return progressed;
}

void Engine::State::SendFlush(Target& target, uint32_t flush_nr, uint64_t run) {
  Clone clone;
  clone.kind = RequestKind::kFlush;
  clone.flush_nr = flush_nr;
  InflightClone inflight;
  inflight.kind = RequestKind::kFlush;
  inflight.flush_nr = flush_nr;
  inflight.run = run;
  Send(target, std::move(clone), inflight);
}

void Engine::State::FlushCompleted(Target& target, const InflightClone& clone,
                                   CloneReply& reply) {
  const uint32_t nr = clone.flush_nr;
  // What a joiner is asked beside a run, or an earlier run was not answered in time, says nothing about this one.
  const bool of_run = run_ && clone.run == run_->number();
  if (target.joining && !JoinerFlushed(target, nr, reply)) return;
  switch (reply.result.kind()) {
    case Result::Kind::kOk:
      NoteDurable(target, reply);
      AdvanceAllLanes();
      if (of_run && !CoversFlush(target, nr)) {
        // It has lost and not yet regained what the flush must cover.
        Requeued(target, RequestKind::kFlush);
        run_->AskAgain(target.id, nr, now_ + options_.requeue_delay);
        return;
      }
      break;
    case Result::Kind::kRequeue:
      Requeued(target, RequestKind::kFlush);
      break;
    default:
      break;
  }
  if (of_run && run_->Completed(target.id, nr, reply.result, reply.message)) return;
  // But who has failed a flush has failed, also where nobody waits for it.
  if (reply.result.kind() == Result::Kind::kError) {
    ++target.hidden_errors;
    FailTarget(target, reply.result, absl::StrCat("failed a flush: ", reply.message));
  }
}

void Engine::State::NoteDurable(Target& target, const CloneReply& reply) {
  for (const auto& [lane_id, position] : reply.durable) {
    if (Index(lane_id) >= lanes_.size() || position.epoch() != options_.epoch) continue;
    Lane& lane = lanes_[Index(lane_id)];
    Cursor& cursor = lane.cursor(target.id);
    // It cannot have more than it was sent on this session.
    cursor.durable = std::max(cursor.durable, std::min(position.n(), cursor.sent));
    cursor.applied = std::max(cursor.applied, cursor.durable);
  }
}

bool Engine::State::CoversFlush(const Target& target, uint32_t flush_nr) const {
  for (size_t i = 0; i < lanes_.size(); ++i) {
    if (target.hello.lanes[i].domain == flush_nr &&
        lanes_[i].cursor(target.id).durable < run_->positions()[i]) {
      return false;
    }
  }
  return true;
}

void Engine::State::FinishRun() {
  FlushRun run = *std::move(run_);
  run_.reset();
  const std::vector<TargetId> requeued = run.TargetsWith(Result::Kind::kRequeue);
  for (TargetId id : run.TargetsWith(Result::Kind::kOk)) {
    Find(id)->flush_supported = true;
    // One domain's success must not hide that another never gets through.
    if (std::find(requeued.begin(), requeued.end(), id) == requeued.end()) {
      Find(id)->NoteProgress(RequestKind::kFlush);
    }
  }
  for (TargetId id : run.TargetsWith(Result::Kind::kNotSupported)) {
    SetCannotFlush(*Find(id), "cannot flush");
  }
  // Held against the target also where precedence hides it from the caller.
  for (const FlushRun::Answer& error : run.answered_errors()) {
    FailTarget(*Find(error.target), error.result,
               absl::StrCat("failed a flush: ", error.message));
  }
  TrimReplay();
  NoteDurablePoint(&run);
  std::vector<TargetError> errors = run.errors();
  Result result = run.folded();
  const bool awaited = run.purpose() != FlushRun::Purpose::kAuto;
  if (awaited && result.kind() == Result::Kind::kError && FirstCondemned() == nullptr && !HeldTooLong()) {
    result = Result(EAGAIN);  // once those that have failed have left, it runs again on the rest
  }
  CountRun(run, result);
  if (!awaited) return;
  if (result.kind() == Result::Kind::kRequeue) {
    run_not_before_ = now_ + options_.requeue_delay;
    // Requeues are no error and may be many; what they hid is kept.
    std::erase_if(errors, [](const TargetError& e) {
      return e.result.kind() == Result::Kind::kRequeue;
    });
  }
  switch (run.purpose()) {
    case FlushRun::Purpose::kRequests:
      return RunEnded(result, std::move(errors));
    case FlushRun::Purpose::kBarrier:
      if (result.ok() && barrier_->request.pin != 0) return StartPin(run.positions());
      return BarrierFlushed(result, std::move(errors));
    case FlushRun::Purpose::kSuspend:
      if (result.kind() == Result::Kind::kRequeue) return;  // AdvanceSuspend runs it again
      return SuspendFlushed(result, result.ok() ? "" : Deciding(errors, result));
    case FlushRun::Purpose::kAuto:
      return;
  }
}

void Engine::State::RunEnded(Result result, std::vector<TargetError> errors) {
  std::vector<FlushWaiter> waiters = std::move(run_flushes_);
  run_flushes_.clear();
  for (FlushWaiter& waiter : waiters) Append(waiter.errors, errors);
  if (result.kind() == Result::Kind::kRequeue) {
    return RequeueRun(std::move(waiters));
  }
  for (FlushWaiter& waiter : waiters) {
    std::string message = result.ok() ? "" : absl::StrCat("flush: ", Deciding(errors, result));
    Complete(waiter.request, result, std::move(message), std::move(waiter.errors));
  }
}

// Back to the head of the queue: they run again before any later flush.
void Engine::State::RequeueRun(std::vector<FlushWaiter> waiters) {
  flushes_.insert(flushes_.begin(), std::make_move_iterator(waiters.begin()),
                  std::make_move_iterator(waiters.end()));
}

void Engine::State::TrimReplay() {
  bool news = false;
  for (Lane& lane : lanes_) {
    uint64_t needed = lane.last();  // by targets that may have to be refilled
    for (const Target& target : targets_) {
      const Cursor& cursor = lane.cursor(target.id);
      if (!target.counts() && !target.joining) continue;
      // A target that cannot flush could never be trimmed for otherwise; what it
      // loses it has lost, and its next hello says so. One that says it can may
      // yet do so, as long as there is room to wait for that.
      const bool may_flush = target.flush_supported || (target.hello.flush_supported &&
                                                        replay_bytes_ < options_.flush_bytes);
      needed = std::min(needed, may_flush ? cursor.durable : cursor.applied);
    }
    uint64_t closed = lane.trimmed();
    while (closed < needed && !lane.At(closed + 1).open) ++closed;
    replay_bytes_ -= lane.Trim(closed);
    const uint64_t durable = SyncedByMembers(lane);
    news |= durable > lane.told;
    lane.told = std::max(lane.told, durable);
  }
  NoteDurablePoint(nullptr);
  if (!news) return;
  for (const Target& target : targets_) {
    if (target.connected()) TellDurablePoints(target);
  }
}

uint64_t Engine::State::SyncedByMembers(const Lane& lane) const {
  uint64_t durable = lane.last();
  for (const Target& target : targets_) {
    if (target.member()) durable = std::min(durable, lane.cursor(target.id).durable);
  }
  return durable;
}

// Never above what it has synced itself, which a replica refuses: a joiner, whose flushes are its own, is behind
// the members at most times, and would reclaim nothing as long as it joins. What is behind is a durable point too.
void Engine::State::TellDurablePoints(const Target& target) {
  std::vector<std::pair<LaneId, Position>> points;
  for (uint32_t i = 0; i < lanes_.size(); ++i) {
    const uint64_t durable = std::min(SyncedByMembers(lanes_[i]), lanes_[i].cursor(target.id).durable);
    points.emplace_back(LaneId{i}, Position(options_.epoch, durable));
  }
  Emit(SendDurablePoints{target.id, std::move(points), KeepAfter()});
}

// By the replay buffer and not by Lane::synced, which goes by who is waited for: a target
// that comes back late must be flushed too, or what is kept for it would never go.
bool Engine::State::HasTail() const {
  return std::any_of(lanes_.begin(), lanes_.end(), [](const Lane& lane) {
    return lane.trimmed() < lane.completed;
  });
}

bool Engine::State::AutoFlushDue() const {
  if (!HasTail()) return false;
  return now_ - last_auto_flush_ >= options_.flush_interval ||
         (replay_bytes_ >= options_.flush_bytes && FirstCondemned() == nullptr &&
          now_ - last_auto_flush_ >= options_.requeue_delay);
}

// Drain-flush: stop dispatch, wait for what is in flight, pre-flush, the
// write, post-flush, start dispatch again.
bool Engine::State::AdvanceBarrier() {
  if (!barrier_) return false;
  switch (barrier_->stage) {
    case BarrierStage::kDrain: {
      // Flushes that came before it are still to run.
      if (!ops_.empty() || run_ || !flushes_.empty()) return false;
      EnterStage(BarrierStage::kPreFlush);
      return true;
    }
    case BarrierStage::kWrite: {
      if (ops_.contains(barrier_->request.id) || !CanStartWrite() || !MayGoOnSending()) {
        return false;
      }
      auto op = std::make_unique<Op>();
      op->request = barrier_->request;
      Op& ref = *op;
      ops_.emplace(ref.request.id, std::move(op));
      StartWrite(ref);
      return true;
    }
    case BarrierStage::kPin:
      return AdvancePin();
    case BarrierStage::kPreFlush:
    case BarrierStage::kPostFlush:
      return false;  // AdvanceFlush runs them
  }
  return false;
}

void Engine::State::BarrierFlushed(Result result, std::vector<TargetError> errors) {
  Append(barrier_->errors, errors);
  if (result.kind() == Result::Kind::kRequeue) return;  // the stage runs again
  if (!result.ok()) {
    const char* when = barrier_->stage == BarrierStage::kPreFlush
                           ? "pre-flush failed, nothing was written: "
                           : "post-flush failed: ";
    return EndBarrier(result, absl::StrCat(when, Deciding(errors, result)));
  }
  if (barrier_->stage == BarrierStage::kPreFlush) {
    EnterStage(BarrierStage::kWrite);
  } else {
    EndBarrier(Result::Ok(), "");
  }
}

void Engine::State::EndBarrier(Result result, std::string message) {
  LeaveStage();
  Complete(barrier_->request, result, std::move(message), std::move(barrier_->errors));
  barrier_.reset();
}

}  // namespace weir::engine
