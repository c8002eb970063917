// Targets that connect, are lost, requeue, fail; fencing. See state.h.
#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/base/check.h"
#include "proto/base/errno.h"
#include "volume/engine/state.h"

namespace weir::engine {

namespace {

// So many sessions that pass in vain make a target one that is away.
constexpr uint32_t kSessionsInVainMin = 2;
// More flush domains than anybody has disks.
constexpr uint32_t kFlushRequestsMax = 1024;

// What is wrong with the hello itself; empty: nothing. A lane outside of every flush
// domain would be flushed by nobody, and nobody would notice.
std::string Malformed(const TargetHello& hello, size_t lanes) {
  if (hello.lanes.size() != lanes) {
    return absl::StrCat("announced ", hello.lanes.size(), " lanes of ", lanes);
  }
  if (hello.num_flush_requests == 0 || hello.num_flush_requests > kFlushRequestsMax) {
    return absl::StrCat("announced ", hello.num_flush_requests, " flush domains, 1 to ",
                        kFlushRequestsMax, " are possible");
  }
  for (const TargetHello::Lane& lane : hello.lanes) {
    if (lane.domain >= hello.num_flush_requests) {
      return absl::StrCat("announced a lane in flush domain ", lane.domain, " of ",
                          hello.num_flush_requests);
    }
  }
  if (hello.inflight_bytes_max == 0) return "announced that it takes no requests at all";
  return "";
}

bool SameDomains(const TargetHello& a, const TargetHello& b) {
  return a.num_flush_requests == b.num_flush_requests &&
         std::equal(a.lanes.begin(), a.lanes.end(), b.lanes.begin(), b.lanes.end(),
                    [](const auto& x, const auto& y) { return x.domain == y.domain; });
}

}  // namespace

void Engine::State::TargetConnected(Target& target, const TargetHello& hello) {
  if (target.health != Target::Health::kConnecting) return;
  // A process that is not the one that we knew may run on a disk that was put back from an older copy, and have
  // forgotten what it promised to somebody who has taken over. Then the catalog has a higher epoch by now, since
  // that comes before the promise; and if it has not, a later promise ends this very session. Whoever joins is no
  // member before the catalog has agreed anyway.
  if (!target.joining && hello.incarnation != target.hello.incarnation) {
    target.unchecked = hello;
    target.check = epoch_checks_ + 1;
    target.reason = "its process is another one: the catalog is asked whether the volume is still ours";
    return;
  }
  TakeHello(target, hello);
}

bool Engine::State::AwaitsEpochCheck() const {
  return std::any_of(targets_.begin(), targets_.end(), [](const Target& t) { return t.unchecked.has_value(); });
}

bool Engine::State::AdvanceEpochCheck() {
  if (checking_epoch_ || now_ < check_not_before_ || !AwaitsEpochCheck()) return false;
  checking_epoch_ = true;
  ++epoch_checks_;
  Emit(CheckEpoch{});
  return true;
}

void Engine::State::EpochChecked(const absl::Status& status) {
  if (!std::exchange(checking_epoch_, false)) return;
  if (absl::IsAborted(status)) return Fence(std::string(status.message()));
  if (!status.ok()) {
    check_not_before_ = now_ + options_.commit_retry_delay;
    return;
  }
  for (Target& target : targets_) {
    // What was said after the catalog was asked needs another look.
    if (!target.unchecked || target.check > epoch_checks_) continue;
    TakeHello(target, *std::exchange(target.unchecked, std::nullopt));
  }
}

void Engine::State::TakeHello(Target& target, const TargetHello& hello) {
  if (target.joining && (!hello.flush_supported)) return FailJoin("it cannot flush");
  std::string wrong = Malformed(hello, lanes_.size());
  if (!wrong.empty()) return FailTarget(target, Result(EIO), std::move(wrong));
  for (size_t i = 0; i < lanes_.size(); ++i) {
    Position position = hello.lanes[i].position;
    uint64_t known = std::max(lanes_[i].cursor(target.id).durable, lanes_[i].trimmed());
    if (position.epoch() > options_.epoch) return Fence("a replica is in a newer epoch");
    if (position < Position(options_.epoch, known) ||
        position.n() > lanes_[i].last()) {
      // What it had reported as synced is gone, or it has what nobody wrote.
      return FailTarget(target, Result(EIO),
                        absl::StrCat("came back with lane ", i, " at ", position.ToString(),
                                     ", expected ", Position(options_.epoch, known).ToString(),
                                     " to ", Position(options_.epoch, lanes_[i].last()).ToString()));
    }
  }
  ApplyHello(target, hello);
  if (target.joining) JoinerConnected(hello);
}

void Engine::State::ApplyHello(Target& target, const TargetHello& hello) {
  const bool same_domains = SameDomains(target.hello, hello);
  target.hello = hello;
  target.answered_session = false;
  if (!target.asked_out) target.leaving = false;
  target.pinging = false;
  NoteLease(target, target.asked_to_connect);
  target.space_exhausted = hello.space_exhausted;
  // To be away goes on with silence, and silence with being away.
  for (RequestKind kind : {RequestKind::kWrite, RequestKind::kFlush}) {
    target.PatienceFor(kind).stalls.GoOn(target.since, now_, TroubleGap());
  }
  target.away_since = target.since;
  target.health = Target::Health::kConnected;
  target.since = now_;
  target.overdue = false;
  if (!target.leaving) target.reason.clear();  // it is why it leaves, whatever happens meanwhile
  for (size_t i = 0; i < lanes_.size(); ++i) {
    Cursor& cursor = lanes_[i].cursor(target.id);
    // That only the answer was missing is progress, too.
    if (hello.lanes[i].position.n() > cursor.applied) target.NoteProgress(RequestKind::kWrite);
    // May be below what it had applied: an unsynced tail went with the power.
    // It is refilled from here.
    cursor.applied = hello.lanes[i].position.n();
    cursor.sent = cursor.applied;
    if (hello.lanes[i].durable.epoch() == options_.epoch) {
      if (hello.lanes[i].durable.n() > cursor.durable) target.NoteProgress(RequestKind::kFlush);
      cursor.durable = std::max(cursor.durable,
                                std::min(hello.lanes[i].durable.n(), cursor.applied));
    }
  }
  target.flush_supported = true;
  if (!hello.flush_supported) SetCannotFlush(target, "has no flush");
  if (run_) run_->TargetConnected(target.id, hello.num_flush_requests, same_domains);
  AdvanceAllLanes();
}

// What was promised to be durable on it never will be.
void Engine::State::SetCannotFlush(Target& target, const std::string& reason) {
  target.flush_supported = false;
  if (target.joining) return FailJoin(reason);
  FailOpenWrites(target, Which::kLackingFua, Result(EOPNOTSUPP), reason);
}

void Engine::State::TargetLost(Target& target, Result result, std::string reason) {
  if (result.kind() == Result::Kind::kFenced) return Fence(std::move(reason));
  if (!target.counts()) return;
  if (target.joining) return FailJoin(absl::StrCat("its session was lost: ", reason));
  // At once after a working session, else after a pause.
  absl::Duration delay = target.connected() && target.answered_session
                             ? absl::ZeroDuration()
                             : options_.reconnect_delay;
  Reconnect(target, std::move(reason), delay);
}

void Engine::State::TargetSpaceChanged(Target& target, bool exhausted) {
  target.space_exhausted = exhausted;
}

void Engine::State::Reconnect(Target& target, std::string reason, absl::Duration delay) {
  if (target.joining) return FailJoin(std::move(reason));
  if (target.connected()) {
    NoteUnanswered(target);
    if (const absl::Duration silent = SilentFor(target); silent > absl::ZeroDuration()) {
      reason = absl::StrCat("left clones unanswered for ", absl::FormatDuration(silent), "; last: ", reason);
      if (HeldFor(target) >= options_.hold_deadline) return FailSilent(target, std::move(reason));
      target.leaving |= silent >= options_.leave_after && LeavesAreDecided() && OthersAnswer(target) && MayLeave(target);
    }
    target.since = now_;
  }
  target.health = Target::Health::kConnecting;
  target.reason = std::move(reason);
  target.asked_to_connect = now_;
  DropSession(target);
  Emit(ConnectTarget{target.id, target.config, delay});
}

// Of a session that is over: which kinds of clones it has left unanswered. A target that takes clones and then always
// goes away, or never answers, is as good as away: it leaves if it may, else what needs it is held.
void Engine::State::NoteUnanswered(Target& target) {
  std::array<std::optional<Time>, 3> oldest{};
  for (const auto& [id, clone] : target.inflight) {
    std::optional<Time>& of_kind = oldest[&target.PatienceFor(clone.kind) - target.patience.data()];
    of_kind = std::min(of_kind.value_or(clone.sent), clone.sent);
  }
  for (size_t i = 0; i < oldest.size(); ++i) {
    if (!oldest[i]) continue;
    // Writes and flushes are sent again until they are answered. A read goes elsewhere, so one that was lost with its
    // session says nothing of the next, nor does that the target was away.
    const bool is_read = &target.patience[i] == &target.PatienceFor(RequestKind::kRead);
    if (is_read && now_ - *oldest[i] < options_.clone_deadline) continue;
    // Not from when it was sent: this process itself may have been stopped for long. But from when the target went away, if
    // it was asked at once when it was back, and has done nothing.
    Time start = std::max(*oldest[i], now_ - options_.clone_deadline);
    const bool asked_at_once = *oldest[i] - target.since < options_.clone_deadline;
    if (!is_read && asked_at_once && !target.answered_session) start = std::min(start, target.away_since);
    target.patience[i].stalls.Note(start, now_, TroubleGap(), /*unbroken=*/asked_at_once);
  }
}

// Zero, unless the session that has just been noted was not the first in vain: one alone may be this process's own doing,
// if it was stopped.
absl::Duration Engine::State::SilentFor(const Target& target) const {
  absl::Duration longest;
  for (const Patience& patience : target.patience) {
    const Streak& stalls = patience.stalls;
    if (stalls.count < kSessionsInVainMin || stalls.last != now_) continue;
    longest = std::max(longest, stalls.length(now_));
  }
  return longest;
}

// For how long something that nobody else can do has been waiting for it.
absl::Duration Engine::State::HeldFor(Target& target) {
  const bool reads_need_it = ChooseSource(/*but=*/Bit(target.id)) == nullptr;
  absl::Duration longest;
  for (const Patience& patience : target.patience) {
    const bool is_read = &patience == &target.PatienceFor(RequestKind::kRead);
    const Streak& stalls = patience.stalls;
    if (stalls.count < kSessionsInVainMin || stalls.last != now_ || (is_read && !reads_need_it)) continue;
    const Time begun = is_read ? std::max(stalls.unbroken_since, OthersReadableUntil(target)) : stalls.unbroken_since;
    longest = std::max(longest, now_ - begun);
  }
  return longest;
}

// None is now. Reads went to another one for as long as any may have been readable, so they wait for `target` since then.
Time Engine::State::OthersReadableUntil(const Target& target) {
  Time until = -absl::InfiniteDuration();
  for (Target& other : targets_) {
    if (other.id == target.id) continue;
    if (!other.member()) {
      until = std::max(until, other.left);
      continue;
    }
    const Streak& stalls = other.PatienceFor(RequestKind::kRead).stalls;
    const bool silent = stalls.since && now_ - stalls.last <= TroubleGap();
    until = std::max(until, silent ? std::min(stalls.unbroken_since, other.since) : other.since);
  }
  return until;
}

// What needs it was held for long enough, whatever hope there is, and it would be connected to for ever.
void Engine::State::FailSilent(Target& target, std::string reason) {
  FailTarget(target, Result(EIO), std::move(reason));
  if (target.member() && !target.leaving && !target.condemned()) SetOverdue(target);
}

// If they do not either it may be this process's network.
bool Engine::State::OthersAnswer(const Target& target) const {
  return std::none_of(targets_.begin(), targets_.end(), [&](const Target& t) {
    const std::optional<Time> oldest = t.oldest_sent();
    return t.id != target.id && t.member() && oldest && now_ - *oldest >= options_.clone_deadline / 2;
  });
}

// Nothing more will be answered on this session: reads go elsewhere, flush
// clones and writes go again on the next one.
void Engine::State::DropSession(Target& target) {
  for (const auto& [id, clone] : target.inflight) {
    if (clone.kind != RequestKind::kRead && clone.kind != RequestKind::kExtents) continue;
    auto op = ops_.find(clone.request);
    if (op == ops_.end() || op->second->fragments[clone.fragment].answered) continue;
    unsent_reads_.emplace_back(clone.request, clone.fragment);
  }
  // The map's order is no order: a run must be the same each time.
  std::sort(unsent_reads_.begin(), unsent_reads_.end());
  target.DropInflight();
  target.pinging = false;
  target.unchecked.reset();
  for (Lane& lane : lanes_) lane.cursor(target.id).sent = lane.cursor(target.id).applied;
  if (run_) run_->TargetLost(target.id);
}

void Engine::State::Requeued(Target& target, RequestKind kind) {
  ++target.requeues;
  ++target.requeue_round;
  target.backoff_until = now_ + options_.requeue_delay;
  if (phase_ != Phase::kActive && noflush_) return;
  Streak& requeues = target.PatienceFor(kind).requeues;
  requeues.Note(now_, now_, options_.requeue_deadline);
  if (requeues.length(now_) < options_.requeue_deadline) return;
  ++target.errors;
  FailTarget(target, Result(EIO),
             absl::StrCat("answered nothing but REQUEUE for ",
                          absl::FormatDuration(options_.requeue_deadline)));
}

// An I/O error, or no answer where one was due: requests that need the target
// get the errno, now and until the next attach or a table without it.
void Engine::State::FailTarget(Target& target, Result result, std::string reason) {
  if (result.kind() == Result::Kind::kFenced) return Fence(std::move(reason));
  if (!target.counts()) return;
  if (target.joining) return FailJoin(std::move(reason));
  target.health = Target::Health::kFailed;
  target.overdue = false;
  target.since = now_;
  target.failure = result == Result(EBADMSG) ? Result(EIO) : result;
  target.reason = std::move(reason);
  DropSession(target);
  Emit(DisconnectTarget{target.id, target.reason});
  target.leaving = target.asked_out || MayLeave(target);
  target.has_hope = !target.leaving && HasHope();
  if (target.condemned()) Condemn(target);
}

// A member, or who is to become one, that answers a step with an I/O error has failed as if it were a
// clone: while nobody writes it would be asked the same for ever.
void Engine::State::StepFailed(Target& target, const absl::Status& status) {
  if (!target.member() && !target.joining) return;
  if (!absl::IsDataLoss(status) || StatusToErrno(status) != EIO) return;
  ++target.errors;
  FailTarget(target, Result(EIO), std::string(status.message()));
}

// It may not leave, so what needs it gets its errno.
void Engine::State::Condemn(Target& target) {
  target.told_condemned = true;
  if (run_) run_->TargetFailed(target.id, target.failure, target.reason);
  FailOpenWrites(target, Which::kLacking, target.failure, target.reason);
  FailWritesOfNobody();
  AdvanceAllLanes();
}

// It has not come back, or could not leave, in time. It may still: what it lacks is kept for one
// that is away.
void Engine::State::SetOverdue(Target& target) {
  target.overdue = true;
  if (target.health == Target::Health::kConnecting) {
    ++target.errors;
    target.failure = Result(EIO);
    target.reason = absl::StrCat("has not come back within ",
                                 absl::FormatDuration(options_.hold_deadline), ": ",
                                 target.reason);
  }
  Condemn(target);
}

// Their numbers stay, and other targets go on to apply them: a read must find
// what one of them may already have shown.
void Engine::State::FailOpenWrites(const Target& target, Which which, Result result,
                                   const std::string& reason) {
  const std::string message = absl::StrCat("replica ", target.config.replica, " ", reason);
  for (Lane& lane : lanes_) {
    const Cursor cursor = lane.cursor(target.id);
    for (uint64_t n = lane.trimmed() + 1; n <= lane.last(); ++n) {
      WriteEntry& entry = lane.At(n);
      if (!entry.open || (which == Which::kLackingFua && !entry.fua)) continue;
      const bool has = n <= (entry.fua ? cursor.durable : cursor.applied);
      if (has && which != Which::kAll) continue;
      lane.failed = std::max(lane.failed, n);
      ops_.at(entry.request)->errors.push_back(
          TargetError{target.config.replica, 0, result, reason});
      EntryDone(entry, result, message);
    }
  }
}

void Engine::State::FailHeldWrites() {
  for (Lane& lane : lanes_) {
    for (uint64_t n = lane.trimmed() + 1; n <= lane.last(); ++n) {
      if (!lane.At(n).open) continue;
      lane.failed = std::max(lane.failed, n);
      EntryDone(lane.At(n), Result(EIO), kTooFewMembers);
    }
  }
}

void Engine::State::FailWritesOfNobody() {
  const Target* condemned = FirstCondemned();
  const bool somebody = std::any_of(targets_.begin(), targets_.end(),
                                    [](const Target& t) { return t.waited_for(); });
  if (condemned == nullptr || somebody) return;
  FailOpenWrites(*condemned, Which::kAll, condemned->failure, condemned->reason);
}

const Target* Engine::State::FirstCondemned() const {
  for (const Target& target : targets_) {
    if (target.condemned()) return &target;
  }
  return nullptr;
}

bool Engine::State::Held() const {
  const auto members = std::count_if(targets_.begin(), targets_.end(),
                                     [](const Target& t) { return t.member(); });
  return members < options_.min_in_sync;
}

void Engine::State::CheckDeadlines(Target& target) {
  if (!target.member() && !target.joining) return;
  if (!target.connected()) {
    if (target.joining) {
      const bool late = target.health == Target::Health::kConnecting &&
                        now_ - target.since >= options_.clone_deadline;
      if (late) FailJoin("it could not be connected to");
      return;
    }
    if (!target.condemned() && phase_ != Phase::kSuspended &&
        now_ - target.since >= options_.hold_deadline) {
      SetOverdue(target);
    }
    return;
  }
  const std::optional<Time> oldest = target.oldest_sent();
  const bool unanswered = oldest && now_ - *oldest >= options_.clone_deadline;
  const bool unponged = target.pinging && now_ - target.pinged >= options_.clone_deadline;
  if (!unanswered && !unponged) return;
  ++target.errors;
  Reconnect(target, absl::StrCat("left a clone unanswered for ",
                                 absl::FormatDuration(options_.clone_deadline)),
            absl::ZeroDuration());
}

// A newer epoch exists: nothing this frontend says counts any more.
void Engine::State::Fence(std::string reason) {
  if (fenced_) return;
  fenced_ = true;
  phase_ = Phase::kFenced;
  checking_epoch_ = false;
  const Result fenced(ESTALE);
  const std::string message = absl::StrCat("the volume was taken over: ", reason);
  for (Target& target : targets_) {
    target.DropInflight();
    target.unchecked.reset();
    if (target.counts()) Emit(DisconnectTarget{target.id, message});
    if (target.counts()) target.health = Target::Health::kFailed;
    target.failure = fenced;
  }
  std::vector<RequestId> ids;
  for (auto& [id, op] : ops_) ids.push_back(id);
  std::sort(ids.begin(), ids.end());
  for (RequestId id : ids) {
    Complete(ops_.at(id)->request, fenced, message, std::move(ops_.at(id)->errors));
  }
  if (barrier_ && (barrier_->request.pin != 0 || !ops_.contains(barrier_->request.id))) {
    Complete(barrier_->request, fenced, message, std::move(barrier_->errors));
  }
  for (FlushWaiter& w : run_flushes_) Complete(w.request, fenced, message, std::move(w.errors));
  for (FlushWaiter& w : flushes_) Complete(w.request, fenced, message, std::move(w.errors));
  for (Request& request : queue_) Complete(request, fenced, message, {});
  ops_.clear();
  barrier_.reset();
  run_.reset();
  run_flushes_.clear();
  flushes_.clear();
  queue_.clear();
  unsent_reads_.clear();
  commit_waits_.clear();
  change_.reset();
  join_.reset();
  if (growth_) Emit(CompleteControl{growth_->control, fenced, message, {}});
  growth_.reset();
  if (lock_awaited_) Emit(CompleteControl{*lock_awaited_, fenced, message, {}});
  lock_awaited_.reset();
  AnswerControl(fenced, message);
}

}  // namespace weir::engine
