// Restoring a suspended volume: its clients wait as while it is suspended, and only what restores it is carried
// out. See state.h, and DESIGN.md, "Clones and restores".
#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "volume/engine/state.h"

namespace weir::engine {

void Engine::State::StartRestore(ControlId id, absl::Duration deadline) {
  auto refuse = [&](int error, const char* why) { Emit(CompleteControl{id, Result(error), why, {}}); };
  if (fenced_) return refuse(ESTALE, "the volume was taken over");
  const bool again = phase_ == Phase::kRestoring && !control_;
  if (phase_ != Phase::kSuspended && !again) {
    return refuse(EBUSY, "an attached volume is restored while it is suspended; suspend it first");
  }
  // Members come and go meanwhile, which the table knows nothing of.
  if (next_table_) {
    return refuse(EBUSY, "a table was loaded, which the resume is to swap in; resume the volume, suspend it "
                         "again, then restore it");
  }
  if (locked_) {
    return refuse(EBUSY, "blocks of it are being copied from its parent; resume the volume, and restore it "
                         "once that is done");
  }
  if (!again) GoOn(Phase::kRestoring);
  may_restore_ = again;
  control_ = id;
  suspend_deadline_ = now_ + deadline;
}

// What a noflush suspend has cut short comes first, failed writes that are yet to land too: else they would land
// among what restores, or after it, on blocks that nobody has seen change. And it is flushed, so that a member that
// crashes while it is asked what has changed forgets nothing of it.
bool Engine::State::AdvanceRestore() {
  if (phase_ != Phase::kRestoring || !control_) return false;
  if (const Target* failed = FirstCondemned()) {
    GiveUpRestore(failed->failure, absl::StrCat("replica ", failed->config.replica, " ", failed->reason));
    return true;
  }
  for (const Target& target : targets_) {
    if (!target.counts() || target.flush_supported) continue;
    GiveUpRestore(Result(EOPNOTSUPP), absl::StrCat("replica ", target.config.replica, " cannot flush what is restored"));
    return true;
  }
  if (now_ >= suspend_deadline_) {
    GiveUpRestore(Result(ETIMEDOUT), Held() ? kTooFewMembers
                                            : "what was under way before the suspend did not end in time, or a replica is away; see explain");
    return true;
  }
  // Nobody leaves while the volume is suspended, so who has forgotten what it had may be a member still; and any member
  // of the catalog's is asked what has changed. So each is there, or gone from the catalog.
  const bool amiss = change_ || std::any_of(targets_.begin(), targets_.end(), [](const Target& t) {
    return t.member() && (t.leaving || t.in_doubt || !t.connected());
  });
  if (amiss) return false;
  if (Held() || !ops_.empty() || barrier_ || !flushes_.empty() || !run_flushes_.empty()) return false;
  bool applied = true, durable = true;
  for (const Lane& lane : lanes_) {
    for (const Target& target : targets_) {
      if (!target.needed()) continue;
      applied &= lane.cursor(target.id).applied == lane.last();
      durable &= lane.cursor(target.id).durable == lane.last();
    }
  }
  if (!durable) {
    if (!applied || run_ || now_ < run_not_before_) return false;
    StartRun(FlushRun::Purpose::kAuto);
    return true;
  }
  may_restore_ = true;
  AnswerControl(Result::Ok(), "");
  return true;
}

// Before anything was restored: suspended, as it was. Else there is no way back.
void Engine::State::GiveUpRestore(Result result, std::string message) {
  if (may_restore_) return AnswerControl(result, std::move(message));
  BeginSuspend(*control_, /*noflush=*/true, absl::InfiniteDuration());
  suspend_answer_ = result;
  suspend_message_ = std::move(message);
}

void Engine::State::EndRestore(ControlId id, absl::Duration deadline) {
  if (fenced_) return Emit(CompleteControl{id, Result(ESTALE), "the volume was taken over", {}});
  if (phase_ != Phase::kRestoring || control_) {
    return Emit(CompleteControl{id, Result(EBUSY), "the volume is not being restored", {}});
  }
  BeginSuspend(id, /*noflush=*/false, deadline);
}

}  // namespace weir::engine
