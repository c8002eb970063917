#include "volume/engine/restoration.h"

#include <algorithm>
#include <utility>

namespace weir::engine {
namespace {

constexpr int kCopiesMax = 5;

}  // namespace

Restoration::Sessions Restoration::SessionsIn(const EngineView& view) {
  Sessions sessions;
  for (const TargetView& target : view.targets) {
    if (target.config.state == TargetState::kInSync) sessions[target.id] = target.since;
  }
  return sessions;
}

Restoration::Act Restoration::Next(const EngineView& view) {
  if (!std::exchange(shut_, true)) return Act::kShut;
  if (!std::exchange(marked_, true)) return Act::kMark;
  if (!std::exchange(told_, true)) return Act::kTell;
  if (!copied_) {
    Sessions now = SessionsIn(view);
    // A replica that starts again with an older copy of its disk cannot say what has changed, and does not know that. The
    // flush at the end was answered by each member's session of then, so any that has begun meanwhile is known by now.
    // Who has come in step meanwhile has all that was written.
    copied_ = copies_ > 0 && std::includes(now.begin(), now.end(), sessions_.begin(), sessions_.end());
    if (!copied_) {
      if (copies_++ == kCopiesMax) return Act::kGiveUp;
      sessions_ = std::move(now);
      return Act::kCopy;
    }
  }
  if (!std::exchange(unmarked_, true)) return Act::kUnmark;
  if (!std::exchange(told_of_the_end_, true)) return Act::kTell;
  if (!std::exchange(ended_, true)) return held_ == Held::kSuspended ? Act::kOpen : Act::kLetGo;
  return Act::kDone;
}

}  // namespace weir::engine
