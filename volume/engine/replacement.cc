#include "volume/engine/replacement.h"

#include <algorithm>

namespace weir::engine {
namespace {

// Somebody else is on the way to take its place.
bool IsLeaving(const EngineView& view, const TargetView& target) {
  return std::any_of(view.targets.begin(), view.targets.end(), [&](const TargetView& other) {
    return !other.config.gone && other.config.succeeds == target.config.replica;
  });
}

}  // namespace

std::string LostMember(const EngineView& view, absl::Duration replace_after, Time now) {
  if (view.state != EngineView::State::kActive) return "";
  for (const TargetView& target : view.targets) {
    const bool out = target.config.state == TargetState::kOut && !target.config.stays_out && !target.joining &&
                     !IsLeaving(view, target);
    if (out && now - target.left >= replace_after) return target.config.replica;
  }
  return "";
}

Table TableWith(const EngineView& view, const std::string& replica, const TargetConfig& with, bool make_before_break) {
  TargetConfig next;
  next.replica = with.replica;
  next.address = with.address;
  next.store_id = with.store_id;
  next.state = TargetState::kOut;
  (make_before_break ? next.succeeds : next.replaces) = replica;
  Table table;
  for (const TargetView& target : view.targets) {
    if (target.config.gone) continue;
    const bool goes = target.config.replica == replica && !make_before_break;
    table.targets.push_back(goes ? next : target.config);
  }
  if (make_before_break) table.targets.push_back(next);
  return table;
}

}  // namespace weir::engine
