#include "volume/engine/engine.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/base/check.h"
#include "volume/engine/state.h"

namespace weir::engine {

absl::Status Options::Validate() const {
  if (size_blocks == 0) return absl::InvalidArgumentError("size_blocks must be positive");
  if (lanes.lanes == 0 || lanes.stripe_blocks == 0) {
    return absl::InvalidArgumentError("lanes and stripe_blocks must be positive");
  }
  if (epoch == 0 || epoch > Position::kEpochMax) {
    return absl::InvalidArgumentError("epoch is out of range");
  }
  if (flush_bytes == 0 || replay_bytes_max < flush_bytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        "replay_bytes_max (", replay_bytes_max, ") must be at least flush_bytes (",
        flush_bytes, "), which must be positive"));
  }
  if (requests_max == 0) return absl::InvalidArgumentError("requests_max must be positive");
  if (slow_windows == 0 || slow_factor < 2) {
    return absl::InvalidArgumentError("slow_windows must be positive, slow_factor at least 2");
  }
  for (absl::Duration d : {leave_after, hold_deadline, commit_retry_delay, lease, reconnect_delay,
                           requeue_deadline, requeue_delay, clone_deadline, update_deadline, flush_interval,
                           slow_window, slow_pause, scrub_every, scrub_first_after}) {
    if (d <= absl::ZeroDuration()) {
      return absl::InvalidArgumentError("deadlines and delays must be positive");
    }
  }
  return absl::OkStatus();
}

Engine::State::State(Options options, Table table) : StateData(std::move(options)) {
  for (TargetConfig& config : table.targets) {
    Target target;
    target.id = TargetId{static_cast<uint32_t>(targets_.size())};
    target.health = config.state == TargetState::kInSync ? Target::Health::kConnecting
                                                         : Target::Health::kOut;
    target.config = std::move(config);
    targets_.push_back(std::move(target));
  }
  CHECK_LE(targets_.size(), 64u);  // ReadFragment::tried
  lanes_.assign(options_.lanes.lanes, Lane(targets_.size()));
}

void Engine::State::Begin(Time now, Effects& effects) {
  now_ = now;
  effects_ = &effects;
}

void Engine::State::ConnectAll() {
  last_auto_flush_ = window_begun_ = now_;
  run_not_before_ = change_not_before_ = held_since_ = now_;
  scrub_.due = options_.scrub_every == absl::InfiniteDuration()
                   ? absl::InfiniteDuration()
                   : now_ + options_.scrub_first_after;
  for (Target& target : targets_) {
    target.since = target.asked_to_connect = target.left = target.join_not_before = now_;
    target.backoff_until = now_;
    if (!target.counts()) continue;
    Emit(ConnectTarget{target.id, target.config, absl::ZeroDuration()});
  }
}

void Engine::State::Submit(Request request) {
  if (fenced_) {
    return Complete(request, Result(ESTALE), "the volume was taken over", {});
  }
  if (join_) join_->clients_came = true;
  scrub_.clients_came = true;
  bool read_like =
      request.kind == RequestKind::kRead || request.kind == RequestKind::kExtents;
  bool barrier_ahead = stopped() || queued_barriers_ > 0;
  if (!barrier_ahead && (read_like || request.kind == RequestKind::kFlush)) {
    return StartOp(std::move(request));
  }
  if (read_like) ++queued_reads_;
  if (request.kind == RequestKind::kBarrier) ++queued_barriers_;
  if (request.in_lock) {
    queue_.push_front(std::move(request));
  } else {
    queue_.push_back(std::move(request));
  }
}

void Engine::State::CloneCompleted(TargetId id, CloneId clone_id, CloneReply reply) {
  Target* target = Find(id);
  if (target == nullptr) return;
  std::optional<InflightClone> taken = target->Take(clone_id);
  if (!taken) return;  // of an older session
  const InflightClone& clone = *taken;
  target->answered_session = true;
  if (reply.result.kind() == Result::Kind::kFenced) {
    return Fence(absl::StrCat("replica ", target->config.replica, ": ", reply.message));
  }
  NoteLease(*target, clone.sent);
  // Counted once a clone, so that precedence can hide none of them.
  if (!reply.result.ok() && reply.result.kind() != Result::Kind::kRequeue) ++target->errors;
  if (reply.result.ok()) NoteAnswer(*target, clone);
  switch (clone.kind) {
    case RequestKind::kRead:
    case RequestKind::kExtents:
      return ReadCompleted(*target, clone, reply);
    case RequestKind::kFlush:
      return FlushCompleted(*target, clone, reply);
    default:
      return WriteCompleted(*target, clone, reply);
  }
}

// After every event and not only when the timer fires: the timer is armed for what lies
// ahead, so a deadline that an event has overtaken would never come up again.
void Engine::State::CheckAllDeadlines() {
  if (fenced_) return;
  for (Target& target : targets_) CheckDeadlines(target);
  if (WindowIsOver()) EndWindow();
  if (HeldTooLong()) {
    FailHeldWrites();
    AdvanceAllLanes();
  }
  if (pins_waiting_ > 0) FailLatePins();
  if (phase_ == Phase::kSuspending && now_ >= suspend_deadline_) {
    UndoSuspend(Result(ETIMEDOUT),
                suspended_from_ == Phase::kRestoring
                    ? "what was restored could not be flushed in time, see explain"
                    : "the suspend did not finish in time and was undone; clones are still in "
                      "flight, see explain");
  }
}

Time Engine::State::NextTimer() const {
  if (fenced_) return absl::InfiniteDuration();
  Time next = absl::InfiniteDuration();
  // What was due by now has been done, or waits for something else, in Settle().
  auto at = [&](Time time) {
    if (time > now_) next = std::min(next, time);
  };
  if (phase_ == Phase::kSuspending || phase_ == Phase::kRestoring) at(suspend_deadline_);
  if (growth_) at(growth_->deadline);
  if (barrier_ && barrier_->stage == BarrierStage::kPin) at(barrier_->deadline);
  if (pins_waiting_ > 0) at(next_late_pin_);
  at(run_not_before_);
  if (run_) at(run_->NextTimer());
  at(change_not_before_);
  if (AwaitsEpochCheck()) at(check_not_before_);
  if (Held()) at(held_since_ + options_.hold_deadline);
  if (!damages_.empty()) at(repair_not_before_);
  at(scrub_.running ? scrub_.not_before : scrub_.due);
  if (join_) {
    at(join_->flushed + options_.flush_interval);
    at(join_->flushed + options_.requeue_delay);
  }
  if (HasTail()) at(last_auto_flush_ + options_.flush_interval);
  if (replay_bytes_ >= options_.flush_bytes) at(last_auto_flush_ + options_.requeue_delay);
  for (const Target& target : targets_) {
    if (target.health == Target::Health::kOut && !target.joining) {
      if (!target.config.stays_out) at(target.join_not_before);
      continue;
    }
    at(target.backoff_until);
    if (target.updated < updates_) at(target.update_not_before);
    if (target.joining && !target.connected()) {
      at(target.since + options_.clone_deadline);
      continue;
    }
    if (!target.connected()) {
      if (MayLeave(target)) at(target.since + options_.leave_after);
      if (!target.condemned()) at(target.since + options_.hold_deadline);
      continue;
    }
    at(target.lease_until);
    at(target.pinged + (target.pinging ? options_.clone_deadline : options_.lease / 3));
    if (std::optional<Time> sent = target.oldest_sent()) at(*sent + options_.clone_deadline);
  }
  return next;
}

void Engine::State::Settle() {
  CheckAllDeadlines();
  bool progressed = true;
  while (progressed && !fenced_) {
    progressed = false;
    for (Target& target : targets_) {
      if (target.connected()) progressed |= PumpWrites(target);
    }
    if (!unsent_reads_.empty()) progressed |= SendReads();
    progressed |= AdvanceEpochCheck();
    progressed |= AdvanceMembership();
    progressed |= AdvanceJoin();
    progressed |= AdvanceRepair();
    progressed |= AdvanceUpdates();
    progressed |= AdvanceGrow();
    progressed |= AdvanceLock();
    progressed |= AdvanceScrub();
    progressed |= AdvanceLeases();
    progressed |= AdvanceFlush();
    progressed |= AdvanceBarrier();
    progressed |= AdvanceSuspend();
    progressed |= AdvanceRestore();
    progressed |= Dispatch();
  }
}

bool Engine::State::full() const {
  return queue_.size() + ops_.size() + flushes_.size() >= options_.requests_max;
}

uint64_t Engine::State::inflight_clones() const {
  uint64_t clones = 0;
  for (const Target& target : targets_) clones += target.inflight.size();
  return clones;
}

EngineView Engine::State::View() const {
  EngineView view;
  const bool ends_restore = phase_ == Phase::kSuspending && suspended_from_ == Phase::kRestoring;
  view.state = ends_restore ? Phase::kRestoring : phase_;
  view.held = Held();
  view.barrier_running = barrier_.has_value();
  view.flush_running = run_.has_value();
  view.queued_requests = queue_.size() + flushes_.size();
  view.inflight_requests = ops_.size() + run_flushes_.size();
  view.replay_bytes = replay_bytes_;
  for (const Target& target : targets_) {
    TargetView seen;
    seen.id = target.id;
    seen.config = target.config;
    seen.health = target.health;
    seen.leaving = target.leaving;
    seen.joining = target.joining;
    if (join_ && join_->target == target.id) {
      seen.join_bytes_copied = join_->bytes_copied;
      for (const Join::LanePlan& plan : join_->lanes) {
        seen.join_blocks_left += plan.blocks_left.value_or(plan.blocks_expected);
      }
      if (join_->blocks_per_second > 0) {
        seen.join_time_left = absl::Seconds(static_cast<double>(seen.join_blocks_left) /
                                            join_->blocks_per_second);
      }
    }
    seen.next_join = target.join_not_before;
    seen.left = target.left;
    seen.overdue = target.overdue;
    seen.reason = target.reason;
    seen.since = target.since;
    seen.slow = target.slow_windows > 0;
    seen.answer_p99 = target.answer_p99;
    seen.others_p99 = target.others_p99;
    seen.num_flush_requests = target.hello.num_flush_requests;
    seen.flush_supported = target.flush_supported;
    seen.space_exhausted = target.space_exhausted;
    seen.inflight_clones = target.inflight.size();
    seen.errors = target.errors;
    seen.repaired_blocks = target.repaired_blocks;
    seen.lost_versions = target.lost_versions;
    for (const Damage& damage : damages_) {
      if (damage.target == target.id) seen.damaged_blocks += damage.range.count;
    }
    seen.requeues = target.requeues;
    if (target.counts() && !target.flush_supported) view.flush_supported = false;
    view.targets.push_back(std::move(seen));
  }
  view.scrub = scrub_.view;
  view.scrub.next = scrub_.due;
  for (const Damage& damage : damages_) {
    if (damage.by_scrub) view.scrub.waiting_blocks += damage.range.count;
  }
  if (scrub_.running && scrub_.view.blocks_done > 0) {
    view.scrub.time_left =
        (now_ - scrub_.view.started) *
        (static_cast<double>(scrub_.view.blocks_total - scrub_.view.blocks_done) /
         static_cast<double>(scrub_.view.blocks_done));
  }
  for (const Lane& lane : lanes_) {
    view.completed.push_back(Position(options_.epoch, lane.completed));
    view.durable.push_back(Position(options_.epoch, lane.told));
  }
  return view;
}

// --- Engine: each event is one change, then whatever follows from it ---

Engine::Engine(Options options, Table table, Time now, Effects& effects)
    : state_(std::make_unique<State>(std::move(options), std::move(table))) {
  state_->Begin(now, effects);
  state_->ConnectAll();
}

Engine::~Engine() = default;

void Engine::Submit(Request request, Time now, Effects& effects) {
  state_->Begin(now, effects);
  state_->Submit(std::move(request));
  state_->Settle();
}

void Engine::CloneCompleted(TargetId target, CloneId clone, CloneReply reply, Time now,
                            Effects& effects) {
  state_->Begin(now, effects);
  state_->CloneCompleted(target, clone, std::move(reply));
  state_->Settle();
}

void Engine::TargetConnected(TargetId target, const TargetHello& hello, Time now,
                             Effects& effects) {
  state_->Begin(now, effects);
  if (Target* known = state_->Find(target)) state_->TargetConnected(*known, hello);
  state_->Settle();
}

void Engine::TargetLost(TargetId target, Result result, std::string reason, Time now,
                        Effects& effects) {
  state_->Begin(now, effects);
  if (Target* known = state_->Find(target)) {
    state_->TargetLost(*known, result, std::move(reason));
  }
  state_->Settle();
}

void Engine::TargetSpaceChanged(TargetId target, bool exhausted, Time now, Effects& effects) {
  state_->Begin(now, effects);
  if (Target* known = state_->Find(target)) state_->TargetSpaceChanged(*known, exhausted);
  state_->Settle();
}

void Engine::TargetPonged(TargetId target, uint64_t ping, Time now, Effects& effects) {
  state_->Begin(now, effects);
  if (Target* known = state_->Find(target)) state_->TargetPonged(*known, ping);
  state_->Settle();
}

void Engine::JoinStepDone(uint64_t step, JoinStepResult result, Time now, Effects& effects) {
  state_->Begin(now, effects);
  state_->JoinStepDone(step, std::move(result));
  state_->Settle();
}

void Engine::StartScrub(Time now, Effects& effects) {
  state_->Begin(now, effects);
  state_->StartScrub();
  state_->Settle();
}

void Engine::StopScrub(Time now, Effects& effects) {
  state_->Begin(now, effects);
  state_->StopScrub("it was told to stop");
  state_->Settle();
}

void Engine::TimerFired(Time now, Effects& effects) {
  state_->Begin(now, effects);
  state_->Settle();
}

void Engine::Suspend(ControlId id, bool noflush, absl::Duration deadline, Time now,
                     Effects& effects) {
  state_->Begin(now, effects);
  state_->Suspend(id, noflush, deadline);
  state_->Settle();
}

void Engine::Resume(ControlId id, Time now, Effects& effects) {
  state_->Begin(now, effects);
  state_->Resume(id);
  state_->Settle();
}

void Engine::LoadTable(ControlId id, Table table, Time now, Effects& effects) {
  state_->Begin(now, effects);
  state_->LoadTable(id, std::move(table));
  state_->Settle();
}

void Engine::StartRestore(ControlId id, absl::Duration deadline, Time now, Effects& effects) {
  state_->Begin(now, effects);
  state_->StartRestore(id, deadline);
  state_->Settle();
}

void Engine::EndRestore(ControlId id, absl::Duration deadline, Time now, Effects& effects) {
  state_->Begin(now, effects);
  state_->EndRestore(id, deadline);
  state_->Settle();
}

void Engine::SetPin(ControlId id, uint64_t pin, absl::Duration deadline, Time now,
                    Effects& effects) {
  state_->Begin(now, effects);
  state_->SetPin(id, pin, deadline);
  state_->Settle();
}

void Engine::DropPin(uint64_t pin, Time now, Effects& effects) {
  state_->Begin(now, effects);
  state_->DropPin(pin);
  state_->Settle();
}

void Engine::LockRange(ControlId id, BlockRange range, Time now, Effects& effects) {
  state_->Begin(now, effects);
  state_->LockRange(id, range);
  state_->Settle();
}

void Engine::UnlockRange(Time now, Effects& effects) {
  state_->Begin(now, effects);
  state_->UnlockRange();
  state_->Settle();
}

void Engine::Grow(ControlId id, uint64_t size_blocks, Time now, Effects& effects) {
  state_->Begin(now, effects);
  state_->Grow(id, size_blocks);
  state_->Settle();
}

void Engine::MembersCommitted(absl::Status status, Time now, Effects& effects) {
  state_->Begin(now, effects);
  state_->MembersCommitted(status);
  state_->Settle();
}

void Engine::EpochChecked(absl::Status status, Time now, Effects& effects) {
  state_->Begin(now, effects);
  state_->EpochChecked(status);
  state_->Settle();
}

Time Engine::next_timer() const { return state_->NextTimer(); }
bool Engine::fenced() const { return state_->fenced(); }
bool Engine::full() const { return state_->full(); }
EngineView Engine::View() const { return state_->View(); }
Stats Engine::GetStats() const { return state_->GetStats(); }

}  // namespace weir::engine
