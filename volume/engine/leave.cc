// Members that leave by a catalog change, and the leases that reads need. See state.h.
//
// A leave is no suspend: until the catalog has answered, acknowledgements need the union of the
// members before and after, and reads use only the intersection, so nothing has to stop but what
// waits for the leaving member anyway.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/base/check.h"
#include "proto/base/errno.h"
#include "volume/engine/state.h"

namespace weir::engine {

// Enough others remain: as many as the volume asks for, each with all that was acknowledged.
// When a member has merely gone away the others must be there, else waiting is better than leaving.
bool Engine::State::MayLeave(const Target& target) const {
  if (options_.leave_after == absl::InfiniteDuration()) return false;
  const bool failed = target.health == Target::Health::kFailed;
  const auto remain = std::count_if(targets_.begin(), targets_.end(), [&](const Target& t) {
    // It fails when the run has all answers.
    const bool about_to_fail = run_ && run_->HasAnsweredError(t.id);
    return t.id != target.id && t.member() && !t.leaving && !t.overdue && !about_to_fail &&
           (failed ? t.counts() : t.connected());
  });
  return remain >= std::max<uint32_t>(options_.min_in_sync, 1);
}

void Engine::State::StayAfterAll(Target& target) {
  target.leaving = false;
  if (target.connected()) target.reason.clear();
}

// Whether everybody else that should have a copy has it, and is there.
bool Engine::State::OthersAreAllThere(const Target& target) const {
  return std::all_of(targets_.begin(), targets_.end(), [&](const Target& t) {
    return t.id == target.id || t.config.stays_out || (t.readable() && !t.overdue);
  });
}

bool Engine::State::IsSucceeded(const Target& target) const {
  return std::any_of(targets_.begin(), targets_.end(), [&](const Target& t) {
    return t.member() && !t.in_doubt && !t.leaving && t.config.succeeds == target.config.replica;
  });
}

// What it would be brought back for, its successor does.
void Engine::State::BreakOffJoinOfSucceeded() {
  if (!join_) return;
  const Target& joiner = *Find(join_->target);
  if (joiner.config.gone || IsSucceeded(joiner)) FailJoin("its successor is in sync");
}

void Engine::State::DecideWhoLeaves() {
  BreakOffJoinOfSucceeded();
  for (Target& target : targets_) {
    if (!target.member()) continue;
    if (!target.condemned()) target.told_condemned = false;
    // Whom the catalog has been asked to take out goes on leaving until it has answered.
    if (target.leaving && !target.asked_out && !MayLeave(target)) StayAfterAll(target);
    // One that is there, but for what the catalog says, is not away: that would need the catalog as well.
    const bool away = target.health == Target::Health::kConnecting && !target.unchecked &&
                      now_ - target.since >= options_.leave_after;
    const bool failed = target.health == Target::Health::kFailed;
    // It works, so it stays until there is a copy more than there was.
    const bool succeeded = IsSucceeded(target) && OthersAreAllThere(target);
    if ((away || failed || succeeded) && !target.leaving && MayLeave(target)) target.leaving = true;
    const bool waits = failed && !target.leaving;
    target.has_hope = waits && HasHope();
    if (waits && !target.has_hope && !target.told_condemned) Condemn(target);
  }
}

// One that is out may be brought back, from one that is good; then those that failed may leave.
bool Engine::State::HasHope() const {
  const bool somebody_out = std::any_of(targets_.begin(), targets_.end(), [](const Target& t) {
    return t.joining || (t.health == Target::Health::kOut && !t.config.stays_out);
  });
  const bool somebody_good = std::any_of(targets_.begin(), targets_.end(), [](const Target& t) {
    return t.member() && t.counts() && !t.overdue;
  });
  return options_.leave_after != absl::InfiniteDuration() && somebody_out && somebody_good;
}

bool Engine::State::AdvanceMembership() {
  if (phase_ == Phase::kSuspended || (phase_ == Phase::kSuspending && noflush_)) return false;
  if (phase_ != Phase::kCommitting) DecideWhoLeaves();
  if (change_) return false;
  if (phase_ == Phase::kCommitting) {
    CHECK(next_table_.has_value());
    Commit(*next_table_);
    change_->for_resume = true;
    return true;
  }
  const bool wanted = std::any_of(targets_.begin(), targets_.end(), [this](const Target& t) {
    return t.member() ? t.leaving || t.in_doubt
                      : !t.joining && !t.config.gone && IsSucceeded(t);
  });
  // What is asked for next takes the place of whatever the catalog has by then.
  if ((!wanted && !table_in_doubt_) || now_ < change_not_before_) return false;
  Commit(TableNow());
  return true;
}

// The table without those that leave.
Table Engine::State::TableNow() const {
  Table table;
  for (const Target& target : targets_) {
    TargetConfig config = target.config;
    config.state =
        target.member() && !target.leaving ? TargetState::kInSync : TargetState::kOut;
    if (target.member() && target.leaving) config.left_at = SyncedOn(target);
    if (config.state == TargetState::kOut && !target.joining && IsSucceeded(target)) {
      config.gone = config.stays_out = true;
    }
    table.targets.push_back(std::move(config));
  }
  // Who has come in for one that goes is a member like any other from then on; unless that one was itself to take the
  // place of another. Who has gone before may be here again, in another slot.
  for (size_t i = 0; i < table.targets.size(); ++i) {
    const TargetConfig& gone = table.targets[i];
    if (!gone.gone || targets_[i].config.gone) continue;
    for (TargetConfig& config : table.targets) {
      if (!config.gone && config.succeeds == gone.replica) config.succeeds = gone.succeeds;
    }
  }
  return table;
}

std::vector<Position> Engine::State::SyncedOn(const Target& target) const {
  std::vector<Position> synced;
  for (const Lane& lane : lanes_) {
    synced.emplace_back(options_.epoch, lane.cursor(target.id).durable);
  }
  return synced;
}

void Engine::State::Commit(Table table) {
  std::vector<Position> floor;
  for (const Lane& lane : lanes_) {
    uint64_t synced = lane.last();
    for (const Target& target : targets_) {
      if (table.targets[static_cast<size_t>(target.id)].state != TargetState::kInSync) continue;
      synced = std::min(synced, lane.cursor(target.id).durable);
    }
    floor.emplace_back(options_.epoch, synced);
  }
  std::vector<std::string> reasons;
  for (const Target& target : targets_) reasons.push_back(target.leaving ? target.reason : "");
  for (Target& target : targets_) {
    const bool stays =
        table.targets[static_cast<size_t>(target.id)].state == TargetState::kInSync;
    if (!target.member()) continue;
    target.asked_out = !stays;
    if (!stays) target.in_doubt = true;
  }
  change_ = MembersChange{table, /*for_resume=*/false};
  Emit(CommitMembers{std::move(table), std::move(floor), std::move(reasons)});
}

void Engine::State::MembersCommitted(const absl::Status& status) {
  if (!change_) return;
  const MembersChange change = *std::move(change_);
  change_.reset();
  if (absl::IsAborted(status)) return Fence(std::string(status.message()));
  if (!status.ok()) {
    change_not_before_ = now_ + options_.commit_retry_delay;
    // It is tried again, with what is wanted by then: who has come back may stay.
    for (Target& target : targets_) {
      if (target.connected()) StayAfterAll(target);
    }
    if (!change.for_resume) return;
    table_in_doubt_ = true;
    phase_ = Phase::kSuspended;
    next_table_.reset();
    return AnswerControl(Result(StatusToErrno(status)),
                         absl::StrCat("the catalog did not take the new table, the volume "
                                      "stays suspended on the old one: ",
                                      status.message()));
  }
  table_in_doubt_ = false;
  const bool was_held = Held();
  for (Target& target : targets_) {
    const TargetConfig& config = change.table.targets[static_cast<size_t>(target.id)];
    if (config.gone && !target.config.gone) target.config.gone = target.config.stays_out = true;
    target.config.succeeds = config.succeeds;
    if (!target.member()) continue;
    target.in_doubt = false;
    if (config.state == TargetState::kInSync) continue;
    TakeOut(target, change.for_resume ? "left the table"
                    : config.gone     ? "its successor is in sync"
                                      : target.reason);
  }
  if (Held() && !was_held) held_since_ = now_;
  FailWritesOfNobody();
  AdvanceAllLanes();
  TrimReplay();
  if (change.for_resume) FinishResume();
}

void Engine::State::TakeOut(Target& target, std::string reason) {
  const bool had_session = target.counts();
  DropSession(target);
  target.config.left_at = SyncedOn(target);
  target.left = now_;
  target.join_not_before = std::max(target.join_not_before, now_ + options_.join_delay);
  target.has_hope = target.told_condemned = false;
  target.patience = {};
  target.health = Target::Health::kOut;
  target.config.state = TargetState::kOut;
  target.leaving = target.in_doubt = target.asked_out = target.overdue = false;
  target.since = now_;
  target.reason = std::move(reason);
  if (run_) run_->TargetLeft(target.id);
  if (had_session) Emit(DisconnectTarget{target.id, target.reason});
}

// --- leases ---

// Any member that was sealed by a newer epoch would not have answered.
bool Engine::State::HasLeases() const {
  return options_.lease == absl::InfiniteDuration() ||
         std::all_of(targets_.begin(), targets_.end(), [&](const Target& t) {
           return !t.member() || now_ < t.lease_until;
         });
}

void Engine::State::NoteLease(Target& target, Time asked) {
  target.lease_until = std::max(target.lease_until, asked + options_.lease);
}

bool Engine::State::AdvanceLeases() {
  if (options_.lease == absl::InfiniteDuration() || !MayGoOnSending()) return false;
  bool progressed = false;
  for (Target& target : targets_) {
    if (!target.connected() || target.pinging || now_ - target.pinged < options_.lease / 3) {
      continue;
    }
    target.pinging = true;
    target.pinged = now_;
    Emit(PingTarget{target.id, ++target.ping});
    progressed = true;
  }
  return progressed;
}

void Engine::State::TargetPonged(Target& target, uint64_t ping) {
  if (!target.connected() || !target.pinging || ping != target.ping) return;
  target.pinging = false;
  target.answered_session = true;
  NoteLease(target, target.pinged);
}

}  // namespace weir::engine
