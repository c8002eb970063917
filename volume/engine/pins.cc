// Pins and the volume's size: what members are told of the volume. See state.h, and DESIGN.md, "Pins".
//
// What members are told is the whole of it, under a number that rises, so that a step that comes late, or
// twice, or not at all leaves nothing behind: the next one says everything again. A pin is told
// while dispatch is stopped; all else may reach a member at any time.
#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/base/errno.h"
#include "volume/engine/state.h"

namespace weir::engine {

void Engine::State::SetPin(ControlId id, uint64_t pin, absl::Duration deadline) {
  if (fenced_) return Emit(CompleteControl{id, Result(ESTALE), "the volume was taken over", {}});
  if (pins_.size() >= kPinsMax) {
    return Emit(CompleteControl{
        id, Result(ENOSPC), absl::StrCat("the volume has ", pins_.size(), " snapshots already"), {}});
  }
  Request barrier;
  barrier.kind = RequestKind::kBarrier;
  barrier.pin = pin;
  barrier.pin_control = id;
  barrier.pin_deadline = now_ + deadline;
  ++pins_waiting_;
  next_late_pin_ = std::min(next_late_pin_, barrier.pin_deadline);
  Submit(std::move(barrier));
}

void Engine::State::FailLatePins() {
  next_late_pin_ = absl::InfiniteDuration();
  auto is_late = [this](const Request& request) {
    if (request.pin == 0) return false;
    if (now_ >= request.pin_deadline) return true;
    next_late_pin_ = std::min(next_late_pin_, request.pin_deadline);
    return false;
  };
  const char message[] = "its turn did not come in time: the volume is suspended, or requests before it wait";
  if (barrier_ && barrier_->stage < BarrierStage::kPin && is_late(barrier_->request)) {
    if (run_ && run_->purpose() == FlushRun::Purpose::kBarrier) run_->BecomeAuto();
    EndBarrier(Result(ETIMEDOUT), message);
  }
  for (auto at = queue_.begin(); at != queue_.end();) {
    if (!is_late(*at)) {
      ++at;
      continue;
    }
    Complete(*at, Result(ETIMEDOUT), message, {});
    --queued_barriers_;
    at = queue_.erase(at);
  }
}

// Nothing is in flight, and nothing more is begun until the barrier ends.
void Engine::State::StartPin(const std::vector<uint64_t>& positions) {
  EnterStage(BarrierStage::kPin);
  --pins_waiting_;
  barrier_->deadline = now_ + options_.update_deadline;
  for (uint64_t n : positions) barrier_->pinned.push_back(Position(options_.epoch, n));
  pins_.push_back({barrier_->request.pin, barrier_->pinned});
  Changed("a snapshot is taken");
}

bool Engine::State::AdvancePin() {
  // Who joins must have the pin before any write that comes after it; who is not there in time begins anew.
  const bool late = now_ >= barrier_->deadline;
  if (join_) {
    const Target& joiner = *Find(join_->target);
    const bool gone = join_->stage >= Join::Stage::kCopying && !joiner.connected();
    if (gone || (late && joiner.updated < updates_)) {
      FailJoin("it was not there when a snapshot was taken");
      return true;
    }
  }
  const Target* missing = FirstNotUpdated();
  const Target* condemned = FirstCondemned();
  if (missing == nullptr) {
    EndBarrier(Result::Ok(), "");
    return true;
  }
  if (condemned == nullptr && !late && !HeldTooLong()) return false;
  const std::string message = absl::StrCat("replica ", missing->config.replica,
                                           " could not be told of it; nothing was kept");
  DropPin(barrier_->request.pin);
  EndBarrier(Result(condemned != nullptr || HeldTooLong() ? EIO : ETIMEDOUT), message);
  return true;
}

void Engine::State::DropPin(uint64_t pin) {
  if (std::erase_if(pins_, [pin](const Pin& known) { return known.id == pin; }) == 0) return;
  Changed("a snapshot goes");
}

void Engine::State::Grow(ControlId id, uint64_t size_blocks) {
  if (fenced_) return Emit(CompleteControl{id, Result(ESTALE), "the volume was taken over", {}});
  if (growth_) return Emit(CompleteControl{id, Result(EBUSY), "the volume is growing already", {}});
  if (size_blocks < size_blocks_) {
    return Emit(CompleteControl{id, Result(EINVAL),
                                absl::StrCat("a volume does not shrink: it has ", size_blocks_,
                                             " blocks, ", size_blocks, " are fewer"), {}});
  }
  // Also if it has that size: an earlier attempt may not have reached everybody.
  size_blocks_ = size_blocks;
  growth_ = Growth{id, now_ + options_.update_deadline};
  Changed("the volume grows");
}

bool Engine::State::AdvanceGrow() {
  if (!growth_) return false;
  const Target* missing = FirstNotUpdated();
  if (missing != nullptr && now_ < growth_->deadline) return false;
  const ControlId id = growth_->control;
  growth_.reset();
  if (missing == nullptr) {
    Emit(CompleteControl{id, Result::Ok(), "", {}});
  } else {
    Emit(CompleteControl{id, Result(ETIMEDOUT),
                         absl::StrCat("replica ", missing->config.replica,
                                      " could not be told of the new size; try again"), {}});
  }
  return true;
}

void Engine::State::Changed(const char* what) {
  ++updates_;
  for (Target& target : targets_) target.update_not_before = now_;
  // It is being told what was so before.
  if (join_ && join_->stage >= Join::Stage::kBeginning && join_->stage < Join::Stage::kCopying) {
    FailJoin(what);
  }
}

const Target* Engine::State::FirstNotUpdated() const {
  for (const Target& target : targets_) {
    const bool counts = target.member() || (target.joining && target.connected());
    if (counts && target.updated < updates_) return &target;
  }
  return nullptr;
}

void Engine::State::FillUpdate(RunJoinStep& step) const {
  step.version = uint64_t{options_.epoch} << 32 | updates_;
  step.size_blocks = size_blocks_;
  step.pins = pins_;
}

bool Engine::State::AdvanceUpdates() {
  bool progressed = false;
  for (Target& target : targets_) {
    if (target.updated >= updates_ || target.update_step != 0 || !target.connected()) continue;
    if ((!target.member() && !target.joining) || now_ < target.update_not_before) continue;
    RunJoinStep update;
    update.kind = RunJoinStep::Kind::kUpdate;
    update.step = target.update_step = next_step_++;
    update.target = target.id;
    update.target_config = target.config;
    update.incarnation = target.hello.incarnation;
    FillUpdate(update);
    target.updating_to = updates_;
    Emit(std::move(update));
    progressed = true;
  }
  return progressed;
}

void Engine::State::UpdateDone(Target& target, const JoinStepResult& result) {
  target.update_step = 0;
  if (result.status.ok()) {
    target.updated = std::max(target.updated, target.updating_to);
    return;
  }
  if (StatusToErrno(result.status) == ESTALE) return Fence(std::string(result.status.message()));
  StepFailed(target, result.status);
  target.update_not_before = now_ + options_.reconnect_delay;
}

}  // namespace weir::engine
