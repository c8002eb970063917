// Suspend, resume, table load and swap. See state.h.
#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "volume/engine/state.h"

namespace weir::engine {
namespace {

// A slot stays with who has left for a successor. ReadFragment::tried has a bit for each.
constexpr size_t kTargetsMax = 64;

}  // namespace

// Whether clones may go out: not once a suspend has stopped the targets.
bool Engine::State::MayGoOnSending() const {
  if (fenced_) return false;
  return IsRunning() || (phase_ == Phase::kSuspending && !noflush_);
}

void Engine::State::Suspend(ControlId id, bool noflush, absl::Duration deadline) {
  if (fenced_) return Emit(CompleteControl{id, Result(ESTALE), "the volume was taken over"});
  if (phase_ == Phase::kSuspended && (noflush || suspend_flushed_)) {
    return Emit(CompleteControl{id, Result::Ok(), ""});
  }
  if (phase_ == Phase::kSuspended) {
    return Emit(CompleteControl{id, Result(EBUSY),
                                "the volume is suspended without a flush; resume it first"});
  }
  if (phase_ != Phase::kActive) return RefuseNow(id);
  BeginSuspend(id, noflush, deadline);
}

void Engine::State::RefuseNow(ControlId id) {
  const bool restoring = phase_ == Phase::kRestoring ||
                         (phase_ == Phase::kSuspending && suspended_from_ == Phase::kRestoring);
  Emit(CompleteControl{id, Result(EBUSY), restoring ? "the volume is being restored"
                                                    : "another suspend or resume is under way"});
}

void Engine::State::BeginSuspend(ControlId id, bool noflush, absl::Duration deadline) {
  suspended_from_ = phase_;
  phase_ = Phase::kSuspending;  // (1) from here on new requests wait
  phase_since_ = now_;
  control_ = id;
  noflush_ = noflush;
  suspend_flushed_ = false;
  suspend_answer_ = Result::Ok();
  suspend_message_.clear();
  suspend_deadline_ = now_ + deadline;
  // (2) The flush worker finishes what it runs, and begins nothing more:
  // see AdvanceFlush. In this order, or a flush could start after the suspend.
}

bool Engine::State::AdvanceSuspend() {
  if (phase_ != Phase::kSuspending) return false;
  if (noflush_) {
    if (inflight_clones() > 0) return false;
    // Clones that could not finish come back as REQUEUE; what others have answered counts.
    if (run_) {
      run_->RequeueRest();
      FinishRun();
      return true;
    }
  } else {
    // (3) Nothing is in flight.
    bool drained = ops_.empty() && !run_ && !barrier_ && inflight_clones() == 0;
    if (!drained) return false;
    if (!suspend_flushed_) {  // (4)
      if (now_ < run_not_before_) return false;
      StartRun(FlushRun::Purpose::kSuspend);
      return true;
    }
  }
  phase_ = Phase::kSuspended;
  counters_.suspending.Add(now_ - phase_since_);
  phase_since_ = now_;
  AnswerControl(suspend_answer_, std::move(suspend_message_));  // (5)
  return true;
}

void Engine::State::SuspendFlushed(Result result, std::string why) {
  if (phase_ != Phase::kSuspending) return;
  if (result.ok()) {
    suspend_flushed_ = true;
    return;
  }
  if (suspended_from_ == Phase::kRestoring) {
    return UndoSuspend(result, absl::StrCat("the flush of what was restored failed: ", why));
  }
  UndoSuspend(result, absl::StrCat("the suspend's flush failed, the volume goes on: ", why,
                                   "; to suspend without a flush use noflush"));
}

void Engine::State::UndoSuspend(Result result, std::string message) {
  phase_ = suspended_from_;
  counters_.suspending.Add(now_ - phase_since_);
  noflush_ = false;
  suspend_flushed_ = false;
  for (Target& target : targets_) target.ForgetRequeues();
  // Its flush is nobody's now; above all not that of a later suspend.
  if (run_ && run_->purpose() == FlushRun::Purpose::kSuspend) run_->BecomeAuto();
  AnswerControl(result, std::move(message));
}

void Engine::State::AnswerControl(Result result, std::string message) {
  if (!control_) return;
  Emit(CompleteControl{*control_, result, std::move(message)});
  control_.reset();
}

void Engine::State::LoadTable(ControlId id, Table table) {
  auto refuse = [&](int error, std::string why) {
    Emit(CompleteControl{id, Result(error), std::move(why)});
  };
  if (phase_ == Phase::kRestoring) return RefuseNow(id);
  if (phase_ != Phase::kSuspended) {
    return refuse(EBUSY, "a table is loaded while the volume is suspended; suspend it first");
  }
  // It may be about to give up a member's place, which the table would take up again.
  if (change_) {
    return refuse(EBUSY, "the catalog has not answered yet who is a member; try again");
  }
  for (size_t i = 0; i < table.targets.size(); ++i) {
    const TargetConfig& config = table.targets[i];
    if (std::any_of(table.targets.begin(), table.targets.begin() + i, [&](const TargetConfig& t) {
          return t.replica == config.replica || t.place() == config.place();
        })) {
      return refuse(EINVAL, absl::StrCat("replica ", config.replica, " is in the table twice"));
    }
    auto same = std::find_if(targets_.begin(), targets_.end(), [&](const Target& t) {
      return !t.config.gone && t.config.replica == config.place();
    });
    if (same == targets_.end() && !config.succeeds.empty()) {
      if (std::string why = WhyNotAdd(config); !why.empty()) {
        return refuse(EINVAL, absl::StrCat("replica ", config.replica, " cannot be added: ", why));
      }
      continue;
    }
    const bool other_store = same != targets_.end() && !config.store_id.empty() &&
                             config.store_id != same->config.store_id;
    if (same == targets_.end() || other_store == config.replaces.empty()) {
      return refuse(EINVAL, absl::StrCat("replica ", config.replica,
                                         " is not a member of the volume; members may leave a "
                                         "table, and others take their place"));
    }
    if (!config.replaces.empty()) {
      const bool another = std::any_of(targets_.begin(), targets_.end(), [&](const Target& t) {
        return t.id != same->id && !t.config.gone && t.config.replica == config.replica;
      });
      if (another || config.state != TargetState::kOut || config.stays_out) {
        return refuse(EINVAL, absl::StrCat("replica ", config.replica,
                                           " can take another one's place only as joining, and "
                                           "only if it is no member itself"));
      }
    }
    if (config.state != TargetState::kInSync) continue;
    if (!same->member()) {
      return refuse(EINVAL, absl::StrCat("replica ", config.replica,
                                         " has left the volume and has missed writes since; "
                                         "give it the state joining to bring it back"));
    }
    // The catalog may have it out already, and it misses what is acknowledged from then on.
    if (same->in_doubt) {
      return refuse(EBUSY, absl::StrCat("replica ", config.replica,
                                        " is leaving or coming back, and the catalog has not "
                                        "answered yet; try again"));
    }
  }
  if (std::string why = WhyTooFew(table); !why.empty()) return refuse(EINVAL, std::move(why));
  next_table_ = std::move(table);
  Emit(CompleteControl{id, Result::Ok(), ""});
}

// One that has failed or stays away may have lost what the others hold: it does not
// count as one that remains when others leave. Whose place is taken is gone already; if too few
// are left then, I/O is held until the new one is in sync.
std::string Engine::State::WhyTooFew(const Table& table) const {
  uint32_t in_sync = 0;
  uint32_t good = 0;
  uint32_t needed = 0;
  for (const Target& target : targets_) {
    if (!target.member()) continue;
    const auto next = std::find_if(
        table.targets.begin(), table.targets.end(),
        [&](const TargetConfig& t) { return t.place() == target.config.replica; });
    const bool is_replaced = next != table.targets.end() && !next->replaces.empty();
    if (next != table.targets.end() && next->state == TargetState::kInSync) {
      ++in_sync;
      if (target.waited_for() && target.health != Target::Health::kFailed) ++good;
      continue;
    }
    needed = std::max<uint32_t>(needed, is_replaced ? 1 : std::max<uint32_t>(options_.min_in_sync, 1));
  }
  if (std::min(in_sync, good) >= needed) return "";
  return absl::StrCat("the table has ", in_sync, " members in sync, ", good,
                      " of them good, the volume needs at least ", needed);
}

std::string Engine::State::WhyNotAdd(const TargetConfig& config) const {
  if (config.state != TargetState::kOut || config.stays_out || !config.replaces.empty() ||
      config.store_id.empty()) {
    return "it can come only as joining, with a store of its own";
  }
  bool known = false;
  for (const Target& target : targets_) {
    if (target.config.gone) continue;
    known = known || target.config.replica == config.succeeds;
    if (target.config.store_id == config.store_id) {
      return absl::StrCat("it has the store of ", target.config.replica);
    }
    if (target.config.succeeds == config.succeeds) {
      return absl::StrCat(target.config.replica, " takes the place of ", config.succeeds, " already");
    }
  }
  if (!known) return absl::StrCat(config.succeeds, " is no member of the volume");
  return targets_.size() < kTargetsMax ? "" : "too many have come and gone; attach the volume anew";
}

void Engine::State::Resume(ControlId id) {
  if (fenced_) return Emit(CompleteControl{id, Result(ESTALE), "the volume was taken over"});
  if (phase_ == Phase::kActive) {
    return Emit(CompleteControl{id, Result::Ok(), ""});
  }
  if (phase_ != Phase::kSuspended) return RefuseNow(id);
  if (next_table_) {
    // One that was to stay may have failed since.
    if (std::string why = WhyTooFew(*next_table_); !why.empty()) {
      next_table_.reset();
      return Emit(CompleteControl{id, Result(EINVAL), absl::StrCat(
          "the loaded table is dropped, the volume stays suspended on the old one: ", why)});
    }
  }
  control_ = id;
  if (next_table_) {
    if (join_) FailJoin("another table was loaded");
    // The catalog first: nothing that a leaving member has missed may be
    // acknowledged before everybody can know that it has left.
    phase_ = Phase::kCommitting;
    Table full;
    for (const Target& target : targets_) {
      TargetConfig config = target.config;
      config.state = TargetState::kOut;
      config.stays_out = true;
      for (const TargetConfig& next : next_table_->targets) {
        if (config.gone || next.place() != config.replica) continue;  // it may have come back, to another slot
        if (!next.replaces.empty()) {
          const std::string succeeds = config.succeeds;
          config = next;
          config.succeeds = succeeds;
          config.replaces.clear();
          config.left_at.clear();
          break;
        }
        config.state = next.state;
        config.stays_out = next.stays_out;
        if (!next.address.empty()) config.address = next.address;
      }
      full.targets.push_back(std::move(config));
    }
    for (const TargetConfig& next : next_table_->targets) {
      const bool added = std::none_of(targets_.begin(), targets_.end(), [&](const Target& t) {
        return !t.config.gone && t.config.replica == next.place();
      });
      if (added) full.targets.push_back(next);
    }
    // Who is to succeed a member whose place is given away succeeds who has got that: else it would be the wrong one that
    // leaves, once another has the old one's name.
    for (const TargetConfig& next : next_table_->targets) {
      for (TargetConfig& config : full.targets) {
        if (!next.replaces.empty() && config.succeeds == next.replaces) config.succeeds = next.replica;
      }
    }
    next_table_ = full;
    return;  // AdvanceMembership asks the catalog
  }
  Reactivate();
}

// The catalog has the table, and who had to leave has left.
void Engine::State::FinishResume() {
  const Table table = *std::exchange(next_table_, std::nullopt);
  while (targets_.size() < table.targets.size()) {
    const TargetConfig& added = table.targets[targets_.size()];
    targets_.push_back(Target{.id = TargetId{static_cast<uint32_t>(targets_.size())},
                              .config = added, .health = Target::Health::kOut, .since = now_,
                              .left = now_, .join_not_before = now_,
                              .reason = absl::StrCat("is to take the place of ", added.succeeds)});
    for (Lane& lane : lanes_) lane.AddTarget();
  }
  for (Target& target : targets_) {
    const TargetConfig& next = table.targets[static_cast<size_t>(target.id)];
    if (next.store_id != target.config.store_id) {
      const std::string before = target.config.replica;
      target = Target{.id = target.id, .config = next, .health = Target::Health::kOut,
                      .since = now_, .left = now_, .join_not_before = now_,
                      .reason = absl::StrCat("takes the place of ", before)};
      continue;
    }
    const bool moved = next.address != target.config.address;
    target.config.address = next.address;
    target.config.stays_out = next.stays_out;
    if (moved && target.counts()) {
      Reconnect(target, "its address has changed", absl::ZeroDuration());
    }
  }
  Reactivate();
}

void Engine::State::Reactivate() {
  GoOn(Phase::kActive);
  AnswerControl(Result::Ok(), "");
}

void Engine::State::GoOn(Phase phase) {
  phase_ = phase;
  counters_.suspended.Add(now_ - phase_since_);
  noflush_ = false;
  suspend_flushed_ = false;
  run_not_before_ = now_;
  for (Target& target : targets_) {
    // Time spent suspended is not held against anybody.
    target.patience = {};
    target.backoff_until = now_;
    if (target.member() && !target.connected() && !target.condemned()) target.since = now_;
  }
  AdvanceAllLanes();
  TrimReplay();
}

}  // namespace weir::engine
