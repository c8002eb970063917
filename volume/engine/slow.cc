// Members that are slow for long, seen against the others. See state.h.
//
// A deadline finds a member that does not answer; one that answers every write after a second
// slows the volume down as much as that and misses no deadline. What is slow is a question of
// comparison: the same writes and flushes go to all members.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "volume/engine/state.h"

namespace weir::engine {
namespace {

// With fewer answers in a window nothing is said about it.
constexpr uint64_t kAnswersMin = 8;

bool GoesToAll(RequestKind kind) {
  return kind != RequestKind::kRead && kind != RequestKind::kExtents;
}

}  // namespace

void Engine::State::NoteAnswer(Target& target, const InflightClone& clone) {
  if (GoesToAll(clone.kind)) target.answer_times.Add(now_ - clone.sent);
}

void Engine::State::EndWindow() {
  window_begun_ = now_;
  for (Target& target : targets_) {
    // What has not been answered counts with what it has waited until now.
    for (const auto& [id, clone] : target.inflight) NoteAnswer(target, clone);
  }
  for (Target& target : targets_) JudgeWindow(target);
  for (Target& target : targets_) target.answer_times = AnswerTimes();
  if (phase_ != Phase::kActive) return;
  for (Target& target : targets_) {
    if (target.slow_windows < options_.slow_windows || !MayLeave(target)) continue;
    TakeOutSlow(target);
    return;  // one at a time
  }
}

void Engine::State::JudgeWindow(Target& target) {
  if (!target.connected() || !target.member()) {
    target.slow_windows = 0;
    return;
  }
  if (target.answer_times.count() < kAnswersMin) return;
  absl::Duration others = absl::ZeroDuration();
  for (const Target& other : targets_) {
    if (other.id == target.id || !other.connected() || !other.member()) continue;
    if (other.answer_times.count() < kAnswersMin) return;
    others = std::max(others, other.answer_times.P99());
  }
  target.answer_p99 = target.answer_times.P99();
  target.others_p99 = others;
  const bool slow = others > absl::ZeroDuration() && target.answer_p99 >= options_.slow_floor &&
                    target.answer_p99 >= options_.slow_factor * others;
  target.slow_windows = slow ? target.slow_windows + 1 : 0;
}

// Each time again it stays away for longer, unless it has done well for long in between.
void Engine::State::TakeOutSlow(Target& target) {
  const bool again = now_ - target.since < 4 * target.slow_pause;
  target.slow_pause = again ? std::min(2 * target.slow_pause, options_.slow_pause_max)
                            : options_.slow_pause;
  target.slow_windows = 0;
  FailTarget(target, Result(EIO),
             absl::StrCat("was slow for ",
                          absl::FormatDuration(options_.slow_windows * options_.slow_window),
                          ": it answered in up to ", absl::FormatDuration(target.answer_p99),
                          ", the others in ", absl::FormatDuration(target.others_p99)));
  target.join_not_before = now_ + target.slow_pause;
}

}  // namespace weir::engine
