// Which blocks of a simulated cluster may be damaged, and what may be given up for it: where a block is damaged on every member
// nothing is left to be judged.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "tests/sim/cluster.h"

namespace weir::sim {

// Never the last good copy of a block, which no power cut can take any more.
void Cluster::Damage(uint32_t r, uint64_t block) {
  // Who has it well may be replaced.
  if (options_.replaces && options_.survivable) return;
  const bool elsewhere = std::any_of(replicas_.begin(), replicas_.end(), [&](const auto& other) {
    return other->disk().damaged(block);
  });
  if (elsewhere || (options_.survivable && !IsWellBeside(r, block))) return;
  replicas_[r]->disk().Damage(block);
}

// Some other replica has on stable storage what members in sync have newest of it.
bool Cluster::IsWellBeside(uint32_t r, uint64_t block) const {
  Position newest;
  for (uint32_t i = 0; i < replicas_.size(); ++i) {
    const std::vector<Version>* versions = replicas_[i]->disk().versions(block);
    if (IsInSync(i) && versions != nullptr && !versions->empty()) newest = std::max(newest, versions->back().position);
  }
  const uint32_t lane = Index(geometry_.lanes.LaneOf(block));
  for (uint32_t i = 0; i < replicas_.size(); ++i) {
    if (!HasCopy(i) || i == failing_ || i == drained_) continue;
    const ReplicaStore& disk = replicas_[i]->disk();
    const std::vector<Version>* versions = disk.versions(block);
    const bool has = newest == Position() || (versions != nullptr && !versions->empty() && versions->back().position == newest);
    if (i != r && has && !disk.damaged(block) && !disk.invalid(block) && disk.durable(lane) >= newest && disk.store().health().ok()) {
      return true;
    }
  }
  return false;
}

void Cluster::DamageSome(uint32_t r) {
  for (int i = 0; i < 4; ++i) Damage(r, dice_.Below(geometry_.size_blocks));
}

// Of a block that is damaged elsewhere.
bool Cluster::IsOnlyGoodCopy(uint32_t r) const {
  for (uint64_t b = 0; b < geometry_.size_blocks; ++b) {
    const bool damaged = std::any_of(replicas_.begin(), replicas_.end(), [b](const auto& one) { return one->disk().damaged(b); });
    if (damaged && !IsWellBeside(r, b)) return true;
  }
  return false;
}

// When this is decided; who comes back later has its copy still, and others are repaired from it.
void Cluster::CheckLost(uint32_t frontend, const engine::RunJoinStep& step) {
  if (!step.newest_too) return;
  const uint64_t block = step.changes.front().first;
  const std::vector<Version>* source = replicas_[IndexOf(step.source_config.replica)]->disk().versions(block);
  // Written to since the join began: the joiner has that too.
  if (source == nullptr || source->empty() || source->back().position > step.to) return;
  for (const engine::TargetView& target : frontends_[frontend]->engine().View().targets) {
    if (target.config.state != engine::TargetState::kInSync || target.health != engine::TargetView::Health::kConnected) continue;
    const ReplicaNode& replica = *replicas_[IndexOf(target.config.replica)];
    const std::vector<Version>* versions = replica.disk().versions(block);
    const bool has = versions != nullptr && !versions->empty() && versions->back().position == source->back().position;
    if (!has || replica.disk().damaged(block)) continue;
    Violated(absl::StrCat("block ", block, " is brought back as lost, and ", replica.name(), " has it well"));
  }
}

}  // namespace weir::sim
