#include "volume/engine/leftovers.h"

#include <algorithm>
#include <cstdint>

namespace weir::engine {
namespace {

// And so far as the engine knows they are well.
bool AllAreThere(const EngineView& view) {
  return view.state != EngineView::State::kFenced &&
         std::all_of(view.targets.begin(), view.targets.end(), [](const TargetView& target) {
           return target.config.state != TargetState::kInSync || target.health == TargetView::Health::kConnected;
         });
}

bool NamesStore(const TakeoverRecord& record, const EngineView& view, const std::string& store_id) {
  return std::any_of(record.members.begin(), record.members.end(),
                     [&](const TakeoverMember& member) { return member.store_id == store_id; }) ||
         std::any_of(view.targets.begin(), view.targets.end(), [&](const TargetView& target) {
           return !target.config.gone && target.config.store_id == store_id;
         });
}

}  // namespace

bool IsWhole(const TakeoverRecord& record, bool active) {
  uint32_t in_sync = 0;
  for (const TakeoverMember& member : record.members) {
    if (!member.in_sync && !member.stays_out) return false;
    if (member.in_sync) ++in_sync;
  }
  return active && in_sync >= record.min_in_sync;
}

Leftovers::Step Leftovers::Next() {
  if (store_ == stores_.size()) return {.act = Act::kDone};
  const Step step{.act = act_, .store = store_};
  switch (act_) {
    case Act::kAsk:
      act_ = Act::kConfirm;
      break;
    case Act::kConfirm:
      break;  // see Confirmed
    case Act::kDeleteCopy:
      act_ = Act::kForget;
      break;
    case Act::kForget:
    case Act::kDone:
      ++store_;
      act_ = Act::kAsk;
      break;
  }
  return step;
}

void Leftovers::Asked(Deletion::Left left) {
  if (left == Deletion::Left::kUnknown) return Failed();
  has_copy_ = left == Deletion::Left::kCopy;
}

void Leftovers::Confirmed(const TakeoverRecord& record, bool active, const EngineView& view) {
  // Of the others neither.
  if (!IsWhole(record, active) || !AllAreThere(view)) {
    store_ = stores_.size();
    left_some_ = true;
  } else if (NamesStore(record, view, stores_[store_])) {
    Failed();
  } else {
    act_ = has_copy_ ? Act::kDeleteCopy : Act::kForget;
  }
}

void Leftovers::Failed() {
  left_some_ = true;
  if (act_ == Act::kAsk) return;  // that was its last step
  ++store_;
  act_ = Act::kAsk;
}

}  // namespace weir::engine
