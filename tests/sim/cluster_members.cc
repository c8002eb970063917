// A simulated cluster whose members' places are given to other replicas, for good, and where what others than members have is deleted. L1 to L4
// of the simulator's README.
#include <algorithm>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/sim/cluster.h"

namespace weir::sim {

using engine::TargetState;

void Cluster::ReplaceSome() {
  agenda_.After(dice_.Micros(30000, 400000), [this] { ReplaceSome(); });
  // A store that has failed deletes nothing; an operator puts in another disk.
  if (healed_) ReplaceFailedDisks();
  for (uint32_t f = 0; f < frontends_.size(); ++f) {
    if (!frontends_[f]->healthy() || IsRestoring(f)) continue;
    // Who has failed in this session, or has an older copy of its disk, and may not leave, is well only in the next one. And where somebody
    // has begun to take over, and never ended, the record is not this one's to change any more.
    const std::vector<engine::TargetView> targets = frontends_[f]->engine().View().targets;
    const bool some_away = std::any_of(targets.begin(), targets.end(), [](const engine::TargetView& target) {
      return target.config.state == TargetState::kInSync && target.health != engine::TargetView::Health::kConnected;
    });
    const bool is_taken = catalog_->record().volume.epoch != frontends_[f]->epoch();
    if (healed_ && (some_away || is_taken) && dice_.Percent(3)) {
      frontends_[f]->Crash();
    } else {
      ReplaceAt(f);
    }
  }
}

void Cluster::ReplaceAt(uint32_t f) {
  const engine::EngineView view = frontends_[f]->engine().View();
  std::string member = frontends_[f]->LostMember(replace_after_);
  bool make_before_break = false;
  if (member.empty()) std::tie(member, make_before_break) = MemberToReplace(view);
  const std::optional<uint32_t> with = member.empty() ? std::nullopt : SpareFor(view, member);
  if (with) frontends_[f]->Replace(member, *with, make_before_break);
}

std::pair<std::string, bool> Cluster::MemberToReplace(const engine::EngineView& view) {
  for (const engine::TargetView& target : view.targets) {
    const store::Store& store = replicas_[IndexOf(target.config.replica)]->store();
    const bool is_there = store.health().ok() && store.identity().store_id == target.config.store_id;
    if (!target.config.gone && !is_there && dice_.Percent(healed_ ? 50 : 5)) return {target.config.replica, false};
  }
  if (healed_ || !dice_.Percent(5) || view.targets.empty()) return {};
  const engine::TargetConfig& config = view.targets[dice_.Below(view.targets.size())].config;
  const bool make_before_break = dice_.Percent(70);
  // It gives up a copy that is good.
  if (config.gone || (!make_before_break && !MayLose(IndexOf(config.replica)))) return {};
  store_failed_ = store_failed_ || !make_before_break;
  return {config.replica, make_before_break};
}

// The same one, if it has another store; else any that is none.
std::optional<uint32_t> Cluster::SpareFor(const engine::EngineView& view, const std::string& member) {
  std::vector<uint32_t> spares;
  for (uint32_t r = 0; r < replicas_.size(); ++r) {
    const auto slot = std::find_if(view.targets.begin(), view.targets.end(), [&](const engine::TargetView& target) {
      return !target.config.gone && IndexOf(target.config.replica) == r;
    });
    const bool is_well = replicas_[r]->up() && replicas_[r]->store().health().ok();
    if (slot == view.targets.end()) {
      if (is_well) spares.push_back(r);
    } else if (slot->config.replica == member && is_well && slot->config.store_id != replicas_[r]->store().identity().store_id) {
      return r;
    }
  }
  if (spares.empty()) return std::nullopt;
  return spares[dice_.Below(spares.size())];
}

// L2: when it is decided. Who was out may be so by an operator's hand.
void Cluster::CheckWhole(uint32_t f) {
  const engine::TakeoverRecord& volume = catalog_->record().volume;
  if (volume.epoch != frontends_[f]->epoch()) return;
  for (const engine::TakeoverMember& member : volume.members) {
    if (!member.in_sync && !member.stays_out) Violated(absl::StrCat("L2: a copy is to be deleted, and member ", member.replica, " is out"));
  }
}

// L1, L2: at the instant at which it counts.
void Cluster::LeftoverDeleted(uint32_t r) {
  ++result_.leftovers;
  Trace(absl::StrCat("replica ", replicas_[r]->name(), " has deleted its copy"));
  const std::string store_id = replicas_[r]->store().identity().store_id;
  promised_.erase(store_id);
  if (MemberOf(r) != nullptr && !HasOtherStore(r)) {
    Violated(absl::StrCat("L1: member ", replicas_[r]->name(), " deletes its copy"));
  }
  bool is_left = false;
  for (uint32_t other = 0; other < replicas_.size(); ++other) {
    is_left |= other != r && IsMember(other) && HasCopy(other);
  }
  if (options_.survivable && !is_left) Violated(absl::StrCat("L2: replica ", replicas_[r]->name(), " deletes the last good copy"));
}

bool Cluster::IsNamed(const std::string& store_id) const {
  const auto is_it = [&store_id](const auto& one) { return one.store_id == store_id; };
  const CatalogRecord& record = catalog_->record();
  return std::any_of(record.volume.members.begin(), record.volume.members.end(), is_it) ||
         std::any_of(record.former.begin(), record.former.end(), is_it);
}

// L3: no store is both. And what is forgotten has nothing.
void Cluster::CheckFormer(const CatalogRecord& before) {
  const CatalogRecord& record = catalog_->record();
  const auto is_member = [&record](const std::string& store_id) {
    return std::any_of(record.volume.members.begin(), record.volume.members.end(),
                       [&](const engine::TakeoverMember& member) { return member.store_id == store_id; });
  };
  for (const FormerMember& former : record.former) {
    if (is_member(former.store_id)) Violated(absl::StrCat("L3: store ", former.store_id, " is a member, and is to be deleted"));
  }
  for (const engine::TakeoverMember& member : before.volume.members) {
    const bool is_former = std::find(record.former.begin(), record.former.end(), FormerMember{member.replica, member.store_id}) !=
                           record.former.end();
    if (is_member(member.store_id)) continue;
    ++result_.replaced;
    // A place was given up that had a copy: there is who was to succeed, and is in sync.
    const bool is_succeeded = std::any_of(before.volume.members.begin(), before.volume.members.end(), [&](const engine::TakeoverMember& other) {
      const auto now = std::find_if(record.volume.members.begin(), record.volume.members.end(),
                                    [&](const engine::TakeoverMember& one) { return one.store_id == other.store_id; });
      return other.succeeds == member.replica && now != record.volume.members.end() && now->in_sync;
    });
    if (member.in_sync && record.volume.members.size() < before.volume.members.size() && !is_succeeded) {
      Violated(absl::StrCat("L4: replica ", member.replica, " has left for nobody"));
    }
    if (!is_former) Violated(absl::StrCat("L3: store ", member.store_id, " was a member, and what it has is not to be deleted"));
  }
  for (const FormerMember& former : before.former) {
    const uint32_t r = IndexOf(former.replica);
    const bool is_former = std::find(record.former.begin(), record.former.end(), former) != record.former.end();
    if (is_former || is_member(former.store_id) || put_back_[r]) continue;
    if (replicas_[r]->store().identity().store_id != former.store_id || !HasCopy(r)) continue;
    Violated(absl::StrCat("L3: replica ", former.replica, " has a copy, which is forgotten"));
  }
}

// L4. A store that is to be noted may come into the record late: then nothing was made there, and the next change tells of it.
bool Cluster::ReplacedWell(const Frontend& serving) {
  const CatalogRecord& record = catalog_->record();
  if (!serving.former().empty()) return NotYet("has what is to be deleted replica", IndexOf(serving.former().front().replica));
  if (record.volume.members.size() != members_at_first_) return NotYet("there are too many members, or too few", record.volume.members.size());
  for (const engine::TakeoverMember& member : record.volume.members) {
    if (!member.in_sync || !member.succeeds.empty()) return NotYet("is not settled the place of replica", IndexOf(member.replica));
  }
  for (uint32_t r = 0; r < replicas_.size(); ++r) {
    if (MemberOf(r) == nullptr && HasCopy(r) && !put_back_[r]) return NotYet("has a copy, and is no member, replica", r);
  }
  return true;
}

}  // namespace weir::sim
