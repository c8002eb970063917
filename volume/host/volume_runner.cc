#include "volume/host/volume_runner.h"

#include <cerrno>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "proto/base/check.h"
#include "proto/base/errno.h"
#include "proto/base/log.h"
#include "proto/base/position.h"
#include "proto/base/status_macros.h"
#include "volume/host/clock.h"
#include "volume/host/request_codec.h"

namespace weir::host {
namespace {

// A dispatcher's rounds before it passes the work on: some 10 ms under load.
constexpr int kRoundsMax = 256;

// By how much a timer may be late while events come. The engine's shortest
// delay is that of a requeue, 20 ms.
constexpr absl::Duration kTimerSlack = absl::Milliseconds(5);

// Beyond what the engine takes; then EBUSY. Every source of requests has a
// smaller bound of its own (a stream 1024, nbdkit its threads).
constexpr size_t kHeldRequestsMax = 16384;

// What the frontend holds in memory for an unanswered request.
uint64_t HeldBytes(engine::RequestKind kind, uint64_t length_bytes) {
  return HasData(kind) || kind == engine::RequestKind::kRead ? length_bytes : 0;
}

JoinRunner::Config JoinConfig(const VolumeRunner::Config& of) {
  JoinRunner::Config config;
  config.cluster_id = of.cluster_id;
  config.volume_id = of.id;
  config.epoch = of.engine.epoch;
  config.lanes = of.engine.lanes;
  config.timer = of.timer;
  config.queue = of.joins;
  return config;
}

IoOutcome Refusal(int error, std::string message) {
  IoOutcome outcome;
  outcome.result = engine::Result(error);
  outcome.message = std::move(message);
  return outcome;
}

IoOutcome ShapeRefusal(int error, const IoRequest& request,
                       uint64_t size_bytes) {
  return Refusal(
      error,
      absl::StrCat(KindName(request.kind), " of ", request.length_bytes,
                   " bytes at ", request.offset_bytes,
                   request.data.empty() ? "" : absl::StrCat(" with data of ", request.data.size()),
                   ": offset and length must be multiples of 4096 within the volume's ",
                   size_bytes, " bytes, the length above 0 and at most ", kRequestBytesMax));
}

}  // namespace

std::shared_ptr<VolumeRunner> VolumeRunner::Start(Config config) {
  std::shared_ptr<VolumeRunner> runner(new VolumeRunner(std::move(config)));
  bool dispatch = false;
  {
    absl::MutexLock lock(&runner->mu_);
    const engine::Time now = MonotonicNow();
    runner->engine_ = std::make_unique<engine::Engine>(
        runner->config_.engine, runner->config_.table, now, runner->effects_);
    runner->AfterEventLocked(0, now);
    dispatch = runner->BecomeDispatcherLocked();
  }
  if (dispatch) runner->Dispatch();
  return runner;
}

VolumeRunner::VolumeRunner(Config config)
    : config_(std::move(config)),
      volume_metrics_(config_.metrics->ForVolume(config_.name)),
      joins_(std::make_shared<JoinRunner>(JoinConfig(config_))),
      slow_log_(std::make_shared<SlowLog>(
          config_.slow_request_log,
          [about = absl::StrCat("volume=", config_.name, " epoch=", config_.engine.epoch, " ")](
              const std::string& line) { LOG(WARNING) << about << line; })),
      size_bytes_(config_.engine.size_blocks * kBlockBytes),
      parent_(config_.parent),
      parent_reads_(std::make_shared<ParentReads>(config_.name, config_.parents, config_.timer, config_.engine.hold_deadline)) {}

VolumeRunner::~VolumeRunner() {
  absl::MutexLock lock(&mu_);
  CHECK(engine_ == nullptr);  // Stop was called
}

// --- events ---

template <typename Event>
bool VolumeRunner::Run(Event event) {
  bool dispatch = false;
  {
    absl::MutexLock lock(&mu_);
    if (engine_ == nullptr) return false;
    const size_t before = effects_.size();
    const engine::Time now = MonotonicNow();
    event(*engine_, now, effects_);
    AfterEventLocked(before, now);
    dispatch = BecomeDispatcherLocked();
  }
  if (dispatch) Dispatch();
  return true;
}

void VolumeRunner::Submit(IoRequest request, IoCallback done) {
  const int wrong = CheckShape(request, size_bytes());
  if (wrong != 0) return done(ShapeRefusal(wrong, request, size_bytes()));

  engine::Request submitted = RequestInBlocks(request);
  PendingRequest pending{std::move(done),    request.kind,
                         request.length_bytes, MonotonicNow(),
                         submitted.range.first, FallsThroughTo(request)};
  if (tracer_->active()) {
    pending.sample = tracer_->Submitted(pending.kind, submitted.range, pending.submitted);
  }
  const uint64_t held_bytes = HeldBytes(pending.kind, pending.bytes);
  bool dispatch = false;
  IoOutcome refusal;
  {
    absl::MutexLock lock(&mu_);
    unanswered_bytes_ += held_bytes;
    ArmLookLocked(pending.submitted);
    if (engine_ == nullptr) {
      refusal = Refusal(ESTALE, stop_reason_);
    } else if (request.in_lock || (held_.empty() && !engine_->full())) {  // what is held may wait for just this
      SubmitLocked(std::move(submitted), std::move(pending), pending.submitted);
      dispatch = BecomeDispatcherLocked();
    } else if (held_.size() < kHeldRequestsMax) {
      held_.emplace_back(std::move(submitted), std::move(pending));
    } else {
      refusal = Refusal(EBUSY, "too many requests wait; send fewer at a time");
    }
    if (!refusal.result.ok()) unanswered_bytes_ -= held_bytes;
  }
  if (!refusal.result.ok()) {
    pending.admitted = MonotonicNow();
    Observe(pending, refusal.result, pending.admitted);
    return pending.done(std::move(refusal));
  }
  if (dispatch) Dispatch();
}

bool VolumeRunner::AwaitRoom(const std::function<void()>& resume) {
  // Mostly so, and then without the mutex.
  if (unanswered_bytes_ < config_.unanswered_bytes_max) return false;
  absl::MutexLock lock(&mu_);
  // A request is unanswered, so a round that completes it is still to come, or what its parent has.
  if (engine_ == nullptr || unanswered_bytes_ < config_.unanswered_bytes_max) {
    return false;
  }
  awaiting_room_.push_back(resume);
  return true;
}

void VolumeRunner::SubmitLocked(engine::Request request, PendingRequest pending,
                                engine::Time now) {
  pending.admitted = now;
  uint32_t slot = 0;
  if (free_requests_.empty()) {
    slot = static_cast<uint32_t>(requests_.size());
    requests_.push_back(std::move(pending));
  } else {
    slot = free_requests_.back();
    free_requests_.pop_back();
    requests_[slot] = std::move(pending);
  }
  request.id = engine::RequestId{slot};
  const size_t before = effects_.size();
  engine_->Submit(std::move(request), now, effects_);
  NoteEffectsLocked(before);
  ArmTimerLocked(now);
}

void VolumeRunner::AfterEventLocked(size_t before, engine::Time now) {
  NoteEffectsLocked(before);
  AdmitHeldLocked(now);
  ArmTimerLocked(now);
}

void VolumeRunner::AdmitHeldLocked(engine::Time now) {
  while (!held_.empty() && !engine_->full()) {
    auto [request, pending] = std::move(held_.front());
    held_.pop_front();
    SubmitLocked(std::move(request), std::move(pending), now);
  }
}

void VolumeRunner::NoteEffectsLocked(size_t before) {
  for (size_t i = before; i < effects_.size(); ++i) {
    const engine::TargetId* target = nullptr;
    if (const auto* connect = std::get_if<engine::ConnectTarget>(&effects_[i])) {
      target = &connect->target;
    } else if (const auto* disconnect =
                   std::get_if<engine::DisconnectTarget>(&effects_[i])) {
      target = &disconnect->target;
    }
    if (target == nullptr) continue;
    TargetSlot& slot = slots_[*target];
    ++slot.session;
    slot.lost = false;
  }
}

void VolumeRunner::ArmTimerLocked(engine::Time now) {
  // The engine looks at all that is in flight to say when its timer is due, so
  // it is asked when a timer fires, not at each event; an event only sees to
  // it that one fires soon.
  if (armed_ - now > kTimerSlack) ArmLocked(now + kTimerSlack);
}

void VolumeRunner::ArmLocked(engine::Time when) {
  if (when >= armed_) return;
  armed_ = when;
  config_.timer->At(when, [weak = weak_from_this(), when] {
    if (auto self = weak.lock()) self->TimerFired(when);
  });
}

void VolumeRunner::TimerFired(engine::Time armed) {
  bool dispatch = false;
  {
    absl::MutexLock lock(&mu_);
    if (engine_ == nullptr) return;
    if (armed_ != armed) return;  // an earlier one took its place
    armed_ = absl::InfiniteDuration();
    const engine::Time now = MonotonicNow();
    if (now >= engine_->next_timer()) {
      const size_t before = effects_.size();
      engine_->TimerFired(now, effects_);
      NoteEffectsLocked(before);
      AdmitHeldLocked(now);
    }
    ArmLocked(engine_->next_timer());
    dispatch = BecomeDispatcherLocked();
  }
  if (dispatch) Dispatch();
}

// --- control ---

absl::Status VolumeRunner::WhyNotNow(Caller caller) const {
  if (detaching_ && caller != Caller::kDetach) {
    return absl::FailedPreconditionError(absl::StrCat("volume ", config_.name, " is being detached"));
  }
  if (replacing_ && caller == Caller::kOperator) {
    return absl::UnavailableError(
        absl::StrCat("volume ", config_.name, ": a member's place is being given away; try again in a moment"));
  }
  return absl::OkStatus();
}

absl::Status VolumeRunner::RunControl(
    Caller caller,
    const std::function<void(engine::Engine&, engine::ControlId, engine::Time,
                             engine::Effects&)>& start,
    std::vector<Position>* pinned) {
  auto control = std::make_shared<PendingControl>();
  absl::Status refused;
  const bool started = Run([&](engine::Engine& engine, engine::Time now,
                               engine::Effects& effects) {
    mu_.AssertHeld();
    refused = WhyNotNow(caller);
    if (!refused.ok()) return;
    const uint64_t id = next_control_++;
    controls_[id] = control;
    start(engine, engine::ControlId{id}, now, effects);
  });
  RETURN_IF_ERROR(refused);
  absl::MutexLock lock(&mu_);
  if (!started) return absl::FailedPreconditionError(stop_reason_);
  mu_.Await(absl::Condition(&control->done));
  if (pinned != nullptr) *pinned = std::move(control->pinned);
  return control->status;
}

absl::Status VolumeRunner::LockRange(BlockRange range) {
  return RunControl(Caller::kHost, [range](auto& engine, auto id, auto now, auto& effects) {
    engine.LockRange(id, range, now, effects);
  });
}

void VolumeRunner::UnlockRange() {
  Run([](auto& engine, auto now, auto& effects) { engine.UnlockRange(now, effects); });
}

absl::Status VolumeRunner::Grow(uint64_t size_blocks) {
  return RunControl(Caller::kHost, [size_blocks](auto& engine, auto id, auto now,
                                                     auto& effects) {
    engine.Grow(id, size_blocks, now, effects);
  });
}

absl::StatusOr<Pin> VolumeRunner::SetPin(uint64_t pin, absl::Duration deadline) {
  Pin set{.id = pin, .positions = {}};
  RETURN_IF_ERROR(RunControl(
      Caller::kHost,
      [pin, deadline](auto& engine, auto id, auto now, auto& effects) {
        engine.SetPin(id, pin, deadline, now, effects);
      },
      &set.positions));
  return set;
}

void VolumeRunner::DropPin(uint64_t pin) {
  Run([pin](auto& engine, auto now, auto& effects) { engine.DropPin(pin, now, effects); });
}

absl::Status VolumeRunner::Suspend(bool noflush, absl::Duration deadline,
                                   Caller caller) {
  return RunControl(caller, [noflush, deadline](auto& engine, auto id, auto now,
                                                auto& effects) {
    engine.Suspend(id, noflush, deadline, now, effects);
  });
}

absl::Status VolumeRunner::Resume(Caller caller) {
  return RunControl(caller, [](auto& engine, auto id, auto now, auto& effects) {
    engine.Resume(id, now, effects);
  });
}

absl::Status VolumeRunner::StartRestore(absl::Duration deadline) {
  return RunControl(Caller::kHost, [deadline](auto& engine, auto id, auto now, auto& effects) {
    engine.StartRestore(id, deadline, now, effects);
  });
}

absl::Status VolumeRunner::EndRestore(absl::Duration deadline, Caller caller) {
  return RunControl(caller, [deadline](auto& engine, auto id, auto now, auto& effects) {
    engine.EndRestore(id, deadline, now, effects);
  });
}

absl::Status VolumeRunner::LoadTable(engine::Table table, Caller caller) {
  return RunControl(caller, [&table](auto& engine, auto id, auto now, auto& effects) {
    engine.LoadTable(id, std::move(table), now, effects);
  });
}

absl::Status VolumeRunner::Scrub(bool stop) {
  const bool ran = Run([stop](auto& engine, auto now, auto& effects) {
    stop ? engine.StopScrub(now, effects) : engine.StartScrub(now, effects);
  });
  if (ran) return absl::OkStatus();
  absl::MutexLock lock(&mu_);
  return absl::FailedPreconditionError(stop_reason_);
}

void VolumeRunner::set_detaching(bool detaching) {
  absl::MutexLock lock(&mu_);
  detaching_ = detaching;
}

absl::Status VolumeRunner::BeginReplace() {
  absl::MutexLock lock(&mu_);
  if (engine_ == nullptr) return absl::FailedPreconditionError(stop_reason_);
  if (engine_->View().state != engine::EngineView::State::kActive) {
    return absl::FailedPreconditionError(
        absl::StrCat("volume ", config_.name, " is suspended, or about to be; resume it first"));
  }
  replacing_ = true;
  return absl::OkStatus();
}

void VolumeRunner::EndReplace() {
  absl::MutexLock lock(&mu_);
  replacing_ = false;
}

engine::EngineView VolumeRunner::View() const {
  absl::MutexLock lock(&mu_);
  engine::EngineView view;
  view.state = engine::EngineView::State::kFenced;
  if (engine_ == nullptr) return view;
  view = engine_->View();
  view.queued_requests += held_.size();
  return view;
}

std::optional<engine::Stats> VolumeRunner::Stats() const {
  absl::MutexLock lock(&mu_);
  if (engine_ == nullptr) return std::nullopt;
  engine::Stats stats = engine_->GetStats();
  stats.held[static_cast<size_t>(engine::HoldReason::kBacklog)] += held_.size();
  stats.held[static_cast<size_t>(engine::HoldReason::kParentAway)] = parent_reads_->held();
  return stats;
}

bool VolumeRunner::fenced() const {
  absl::MutexLock lock(&mu_);
  return engine_ == nullptr || engine_->fenced();
}

bool VolumeRunner::HasWaited(absl::Duration wait) const {
  absl::MutexLock lock(&mu_);
  const engine::Time since = MonotonicNow() - wait;
  if (parent_reads_->HasHeldSince(since)) return true;
  if (!held_.empty() && held_.front().second.submitted <= since) return true;
  std::vector<bool> unanswered(requests_.size(), true);
  for (uint32_t id : free_requests_) unanswered[id] = false;
  for (size_t i = 0; i < unanswered.size(); ++i) {
    if (unanswered[i] && requests_[i].submitted <= since) return true;
  }
  return false;
}

void VolumeRunner::Stop(const std::string& reason) {
  std::unique_ptr<engine::Engine> ended;
  std::deque<std::pair<engine::Request, PendingRequest>> held;
  std::vector<std::function<void()>> resumed;
  bool dispatch = false;
  {
    absl::MutexLock lock(&mu_);
    if (engine_ != nullptr) {
      ended = std::move(engine_);
      stop_reason_ = reason;
      held.swap(held_);
      resumed.swap(awaiting_room_);
      AppendLastEffectsLocked();
      dispatch = BecomeDispatcherLocked();
    }
  }
  joins_->Cancel();
  tracer_->Stop(reason);
  if (dispatch) Dispatch();
  for (auto& [request, pending] : held) pending.done(Refusal(ESTALE, reason));
  parent_reads_->Stop(ErrnoToStatus(ESTALE, reason));
  for (const auto& resume : resumed) resume();
  absl::MutexLock lock(&mu_);
  mu_.Await(absl::Condition(
      +[](VolumeRunner* self) {
        self->mu_.AssertHeld();
        return self->live_sessions_ == 0 && !self->dispatching_;
      },
      this));
}

// What the engine still had to say stands before these in the queue.
void VolumeRunner::AppendLastEffectsLocked() {
  const size_t before = effects_.size();
  std::vector<bool> unanswered(requests_.size(), true);
  for (uint32_t id : free_requests_) unanswered[id] = false;
  for (const engine::Effect& effect : effects_) {
    if (auto* done = std::get_if<engine::CompleteRequest>(&effect)) {
      unanswered[static_cast<size_t>(done->id)] = false;
    }
  }
  for (size_t i = 0; i < unanswered.size(); ++i) {
    if (!unanswered[i]) continue;
    engine::CompleteRequest done;
    done.id = engine::RequestId{i};
    done.result = engine::Result(ESTALE);
    done.message = stop_reason_;
    effects_.push_back(std::move(done));
  }
  for (const auto& [id, control] : controls_) {
    effects_.push_back(engine::CompleteControl{
        engine::ControlId{id}, engine::Result(ESTALE), stop_reason_, {}});
  }
  for (const auto& [target, slot] : slots_) {
    effects_.push_back(engine::DisconnectTarget{target, stop_reason_});
  }
  NoteEffectsLocked(before);
}

// --- the dispatcher ---

bool VolumeRunner::BecomeDispatcherLocked() {
  if (dispatching_ || effects_.empty()) return false;
  dispatching_ = true;
  return true;
}

void VolumeRunner::Dispatch() {
  const std::shared_ptr<VolumeRunner> self = shared_from_this();
  Round round;
  for (int rounds = 1; TakeRound(&round); ++rounds) {
    for (engine::Effect& effect : round.effects) CarryOut(round, effect);
    KickSessions();
    for (const auto& resume : round.resumed) resume();
    if (rounds == kRoundsMax &&
        config_.background->Run([self] { self->Dispatch(); })) {
      return;  // still the dispatcher, on another thread
    }
  }
}

bool VolumeRunner::TakeRound(Round* round) {
  round->effects.clear();
  round->completed.clear();
  round->next_completed = 0;
  round->resumed.clear();
  absl::MutexLock lock(&mu_);
  if (effects_.empty()) {
    dispatching_ = false;
    return false;
  }
  round->effects.swap(effects_);
  for (const engine::Effect& effect : round->effects) {
    const auto* done = std::get_if<engine::CompleteRequest>(&effect);
    if (done == nullptr) continue;
    const auto slot = static_cast<uint32_t>(done->id);
    unanswered_bytes_ -= HeldBytes(requests_[slot].kind, requests_[slot].bytes);
    round->completed.push_back(std::move(requests_[slot]));
    free_requests_.push_back(slot);
  }
  if (unanswered_bytes_ < config_.unanswered_bytes_max) {
    round->resumed.swap(awaiting_room_);
  }
  return true;
}

void VolumeRunner::CarryOut(Round& round, engine::Effect& effect) {
  if (auto* send = std::get_if<engine::SendClone>(&effect)) {
    DispatchedTarget& target = dispatched_[send->target];
    if (target.stream == nullptr) return;
    target.stream->Queue(send->clone);
    target.kick = true;
  } else if (auto* done = std::get_if<engine::CompleteRequest>(&effect)) {
    Complete(*done, std::move(round.completed[round.next_completed++]));
  } else if (auto* points = std::get_if<engine::SendDurablePoints>(&effect)) {
    DispatchedTarget& target = dispatched_[points->target];
    if (target.stream == nullptr) return;
    target.stream->QueueDurablePoints(*points);
    target.kick = true;
  } else if (auto* ping = std::get_if<engine::PingTarget>(&effect)) {
    DispatchedTarget& target = dispatched_[ping->target];
    if (target.stream == nullptr) return;
    target.stream->QueuePing(ping->ping);
    target.kick = true;
  } else if (auto* connect = std::get_if<engine::ConnectTarget>(&effect)) {
    Connect(*connect);
  } else if (auto* end = std::get_if<engine::DisconnectTarget>(&effect)) {
    Disconnect(*end);
  } else if (auto* control = std::get_if<engine::CompleteControl>(&effect)) {
    FinishControl(*control);
  } else if (auto* commit = std::get_if<engine::CommitMembers>(&effect)) {
    AskCatalog([change = config_.commit_members, commit = std::move(*commit)] { return change(commit); },
               &engine::Engine::MembersCommitted);
  } else if (std::holds_alternative<engine::CheckEpoch>(effect)) {
    AskCatalog(config_.check_epoch, &engine::Engine::EpochChecked);
  } else if (auto* step = std::get_if<engine::RunJoinStep>(&effect)) {
    joins_->Run(*step, [weak = weak_from_this()](uint64_t number, engine::JoinStepResult result) {
      auto self = weak.lock();
      if (self == nullptr) return;
      self->Run([&](auto& engine, auto now, auto& effects) {
        engine.JoinStepDone(number, std::move(result), now, effects);
      });
    });
  } else if (auto* report = std::get_if<engine::ReportScrub>(&effect)) {
    LogScrub(*report);
  }
}

void VolumeRunner::LogScrub(const engine::ReportScrub& report) const {
  const std::string said =
      absl::StrCat("volume=", config_.name, " epoch=", config_.engine.epoch, " ", report.what);
  if (report.good) {
    LOG(INFO) << said;
  } else {
    LOG(WARNING) << said;
  }
}

void VolumeRunner::Observe(const PendingRequest& request, const engine::Result& result, engine::Time now) {
  if (tracer_->active()) {
    tracer_->Completed(request.sample, request.kind, result.error(), request.admitted, now);
  }
  if (!slow_log_->IsSlow(now - request.submitted)) return;
  slow_log_->Log({.kind = request.kind,
                  .range = {request.first_block, request.bytes / kBlockBytes},
                  .error = result.error(),
                  .submitted = request.submitted,
                  .admitted = request.admitted,
                  .completed = now});
}

void VolumeRunner::ArmLookLocked(engine::Time now) {
  if (looking_ || !slow_log_->enabled()) return;
  looking_ = true;
  config_.timer->At(now + slow_log_->look_every(), [weak = weak_from_this()] {
    if (auto self = weak.lock()) self->LookForSlowLog();
  });
}

void VolumeRunner::LookForSlowLog() {
  const std::optional<engine::Stats> stats = Stats();
  if (!stats) return;
  const engine::Time now = MonotonicNow();
  slow_log_->Look(stats->held, now);
  absl::MutexLock lock(&mu_);
  looking_ = false;
  if (requests_.size() > free_requests_.size() || !held_.empty()) ArmLookLocked(now);
}

void VolumeRunner::Complete(engine::CompleteRequest& done,
                            PendingRequest request) {
  // Clones that were sent before must not wait for a callback.
  KickSessions();
  const auto kind = static_cast<size_t>(request.kind);
  volume_metrics_.requests[kind]->Increment();
  volume_metrics_.bytes[kind]->Increment(static_cast<double>(request.bytes));
  const engine::Time now = MonotonicNow();
  volume_metrics_.seconds[kind]->Observe(absl::ToDoubleSeconds(now - request.submitted));
  Observe(request, done.result, now);
  if (!done.result.ok()) {
    config_.metrics->CountRequestError(config_.name, request.kind, done.result.error());
  }
  IoOutcome outcome;
  outcome.result = done.result;
  outcome.message = std::move(done.message);
  outcome.targets = std::move(done.targets);
  outcome.parts = std::move(done.parts);
  outcome.extents = std::move(done.extents);
  outcome.absent = std::move(done.absent);
  if (config_.engine.overlay && CompleteFromParent(outcome, request)) return;
  request.done(std::move(outcome));
}

void VolumeRunner::AskCatalog(std::function<absl::Status()> ask, CatalogAnswer answer) {
  auto work = [self = shared_from_this(), ask = std::move(ask), answer] {
    const absl::Status status = ask();
    self->Run([&](auto& engine, auto now, auto& effects) { (engine.*answer)(status, now, effects); });
  };
  // One of each kind at a time and volume, so the queue has room for all.
  CHECK(config_.catalog->Run(std::move(work)));
}

void VolumeRunner::FinishControl(const engine::CompleteControl& done) {
  absl::MutexLock lock(&mu_);
  auto found = controls_.find(static_cast<uint64_t>(done.id));
  if (found == controls_.end()) return;
  found->second->status =
      done.result.ok() ? absl::OkStatus()
                       : ErrnoToStatus(done.result.error(), done.message);
  found->second->pinned = done.pinned;
  found->second->done = true;
  controls_.erase(found);
}

}  // namespace weir::host
