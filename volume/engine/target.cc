#include "volume/engine/target.h"

#include <algorithm>

namespace weir::engine {

void Streak::Note(Time start, Time now, absl::Duration gap, bool unbroken) {
  if (!since || now - last > gap) {
    since = unbroken_since = start;
    count = 0;
  } else if (!unbroken) {
    unbroken_since = start;
  }
  last = now;
  ++count;
}

void Streak::GoOn(Time start, Time now, absl::Duration gap) {
  if (since && start - last <= gap) last = now;
}

Patience& Target::PatienceFor(RequestKind kind) {
  switch (kind) {
    case RequestKind::kRead:
    case RequestKind::kExtents:
      return patience[0];
    case RequestKind::kFlush:
      return patience[1];
    case RequestKind::kWrite:
    case RequestKind::kWriteZeroes:
    case RequestKind::kDiscard:
    case RequestKind::kBarrier:
      break;
  }
  return patience[2];
}

void Target::ForgetRequeues() {
  for (Patience& p : patience) p.requeues.End();
}

std::optional<InflightClone> Target::Take(CloneId id) {
  auto it = inflight.find(id);
  if (it == inflight.end()) return std::nullopt;
  InflightClone clone = it->second;
  inflight.erase(it);
  inflight_bytes -= clone.bytes;
  while (!sent_order.empty() && !inflight.contains(sent_order.front().second)) {
    sent_order.pop_front();
  }
  return clone;
}

void Target::DropInflight() {
  inflight.clear();
  inflight_bytes = 0;
  sent_order.clear();
}

}  // namespace weir::engine
