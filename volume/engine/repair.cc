// Blocks that a member has damaged: DESIGN.md, "Damaged blocks". See state.h.
//
// Whoever reads finds them, and asks another member; or a scrub finds them. From that one they are then written anew, at the
// versions that they have; the member that had them damaged stays one all the time. A repair that does not
// come to its end changes nothing: the next read finds the damage again.
#include <algorithm>
#include <cerrno>
#include <utility>

#include "proto/base/errno.h"
#include "volume/engine/state.h"

namespace weir::engine {
namespace {

// Then it is left to a later read too: perhaps the others have it damaged as well.
constexpr uint32_t kAttemptsMax = 3;

}  // namespace

void Engine::State::NoteDamage(const ReadFragment& fragment) {
  if (fragment.damaged_on == 0 || options_.leave_after == absl::InfiniteDuration()) return;
  for (const Target& target : targets_) {
    if ((fragment.damaged_on & Bit(target.id)) == 0) continue;
    const bool known = std::any_of(damages_.begin(), damages_.end(), [&](const Damage& damage) {
      return damage.target == target.id && damage.range.Overlaps(fragment.range);
    });
    if (!known && damages_.size() < kDamagesMax) {
      damages_.push_back({.target = target.id, .lane = fragment.lane, .range = fragment.range});
    }
  }
}

bool Engine::State::AdvanceRepair() {
  if (repair_step_ != 0 || damages_.empty() || phase_ != Phase::kActive) return false;
  if (now_ < repair_not_before_) return false;
  const Damage damage = damages_.front();
  const Target& target = *Find(damage.target);
  if (!target.member() || target.condemned()) {
    // What it lacks by now is copied to it when it is brought back; the rest is found again. One that has failed and may not leave must not
    // keep others' blocks waiting.
    damages_.pop_front();
    return true;
  }
  const Target* source = nullptr;
  bool may_come = false;
  for (const Target& other : targets_) {
    if (other.id == target.id || (damage.sources & Bit(other.id)) == 0) continue;
    may_come = may_come || (other.member() && other.counts() && !other.condemned());
    if (!other.readable()) continue;
    if (source == nullptr || other.inflight.size() < source->inflight.size()) source = &other;
  }
  if (!may_come) {
    damages_.pop_front();
    if (damage.by_scrub) ScrubRepaired(damage, absl::NotFoundError("no other replica is left"));
    return true;
  }
  if (!target.readable() || source == nullptr) return false;
  RunJoinStep repair;
  repair.step = repair_step_ = next_step_++;
  repair.kind = RunJoinStep::Kind::kRepair;
  repair.target = target.id;
  repair.target_config = target.config;
  repair.incarnation = target.hello.incarnation;
  repair.source = repair_source_ = source->id;
  repair.source_config = source->config;
  repair.source_incarnation = source->hello.incarnation;
  repair.lane = damage.lane;
  repair.changes = {damage.range};
  // Every member has come this far, and it is on the history for good.
  repair.to = Position(options_.epoch, lanes_[Index(damage.lane)].completed);
  repair.bytes_max = options_.join_step_bytes;
  // What it has of them well is worth having, whatever older versions it has damaged.
  repair.lost_too = true;
  Emit(std::move(repair));
  return true;
}

void Engine::State::RepairDone(const JoinStepResult& result) {
  repair_step_ = 0;
  Damage damage = damages_.front();
  damages_.pop_front();
  if (result.status.ok() && result.versions_lost == 0) {
    Find(damage.target)->repaired_blocks += damage.range.count;
    if (damage.by_scrub) ScrubRepaired(damage, result.status);
    return;
  }
  if (StatusToErrno(result.status) == ESTALE) return Fence(std::string(result.status.message()));
  // It has them damaged itself, be it in older versions.
  const absl::Status status = result.status.ok() ? ErrnoToStatus(EBADMSG, "some of it is damaged there too") : result.status;
  if (StatusToErrno(status) == EBADMSG) damage.sources &= ~Bit(repair_source_);
  repair_not_before_ = now_ + options_.join_delay;
  if (++damage.attempts < kAttemptsMax) {
    damages_.push_back(damage);
  } else if (damage.by_scrub) {
    ScrubRepaired(damage, status);
  }
}

}  // namespace weir::engine
