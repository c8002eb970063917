#include "tests/sim/snapshot_judge.h"

#include "absl/strings/str_cat.h"

namespace weir::sim {

std::optional<std::vector<uint64_t>> SnapshotJudge::Taken(uint64_t pin, uint64_t blocks) {
  for (const SnapshotHolder* holder : holders_) {
    if (!holder->member() || taken_.contains(pin)) continue;
    if (const auto content = holder->ContentAt(pin, blocks)) taken_[pin] = *content;
  }
  const auto found = taken_.find(pin);
  if (found == taken_.end()) return std::nullopt;
  return found->second;
}

std::string SnapshotJudge::Check(const SnapshotRecord& record) const {
  for (const SnapshotHolder* holder : holders_) {
    if (record.recovering || !holder->member() || !holder->healthy()) continue;
    if (holder->size_blocks() >= record.size_blocks) continue;
    return absl::StrCat("S4: the volume has ", record.size_blocks, " blocks, member ", holder->name(),
                        " has room for ", holder->size_blocks());
  }
  for (const Pin& pin : record.pins) {
    for (const SnapshotHolder* holder : holders_) {
      if (!holder->healthy()) continue;
      if (std::string wrong = CheckHolder(*holder, record, pin); !wrong.empty()) return wrong;
    }
  }
  return "";
}

std::string SnapshotJudge::CheckHolder(const SnapshotHolder& holder, const SnapshotRecord& record,
                                       const Pin& pin) const {
  if (holder.member() && !holder.has_pin(pin)) {
    return absl::StrCat("S1: the catalog has snapshot ", pin.id, ", member ", holder.name(), " has not");
  }
  for (uint32_t lane = 0; !record.recovering && holder.member() && lane < pin.positions.size(); ++lane) {
    if (holder.durable(lane) >= pin.positions[lane]) continue;
    return absl::StrCat("S2: snapshot ", pin.id, " is at ", pin.positions[lane].ToString(), ", member ",
                        holder.name(), " has synced ", holder.durable(lane).ToString());
  }
  // Also who is no member any more, or not yet, answers right or not at all.
  const auto taken = taken_.find(pin.id);
  if (taken == taken_.end()) return "";
  const auto content = holder.ContentAt(pin.id, taken->second.size());
  if (!content || *content == taken->second) return "";
  return absl::StrCat("S3: snapshot ", pin.id, " has changed on replica ", holder.name());
}

}  // namespace weir::sim
