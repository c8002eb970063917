#include "volume/engine/flush_run.h"

#include <algorithm>
#include <cerrno>

#include "proto/base/check.h"

namespace weir::engine {

FlushRun::Member* FlushRun::Find(TargetId target) {
  for (Member& member : members_) {
    if (member.target == target && !member.left) return &member;
  }
  return nullptr;
}

void FlushRun::AddTarget(TargetId target, std::string replica) {
  Member member;
  member.target = target;
  member.replica = std::move(replica);
  members_.push_back(std::move(member));
}

void FlushRun::TargetConnected(TargetId target, uint32_t num_flush_requests,
                               bool same_domains) {
  Member* member = Find(target);
  if (member == nullptr || member->failed) return;
  // What was answered stays answered: durable is durable. But a domain that
  // holds other lanes now has answered for others.
  if (!same_domains) member->parts.clear();
  member->connected = true;
  member->connected_once = true;
  member->parts.resize(num_flush_requests);
}

void FlushRun::TargetLost(TargetId target) {
  Member* member = Find(target);
  if (member == nullptr) return;
  member->connected = false;
  for (Part& part : member->parts) {
    if (part.phase == ClonePhase::kSent) part.phase = ClonePhase::kToSend;
  }
}

void FlushRun::TargetFailed(TargetId target, Result result,
                            const std::string& reason) {
  Member* member = Find(target);
  if (member == nullptr || member->failed) return;
  member->failed = true;
  if (member->parts.empty()) member->parts.resize(1);
  for (uint32_t nr = 0; nr < member->parts.size(); ++nr) {
    Part& part = member->parts[nr];
    if (part.phase == ClonePhase::kDone) continue;
    part.phase = ClonePhase::kDone;
    part.result = result;
    Fold(*member, nr, result, reason);
  }
}

void FlushRun::RequeueRest() {
  for (Member& member : members_) {
    if (member.left || member.failed) continue;
    if (member.parts.empty()) member.parts.resize(1);
    for (uint32_t nr = 0; nr < member.parts.size(); ++nr) {
      Part& part = member.parts[nr];
      if (part.phase == ClonePhase::kDone) continue;
      part.phase = ClonePhase::kDone;
      part.result = Result(EAGAIN);
      Fold(member, nr, part.result, "not answered before the suspend");
    }
  }
}

void FlushRun::TargetLeft(TargetId target) {
  if (Member* member = Find(target)) member->left = true;
}

std::optional<uint32_t> FlushRun::NextToSend(TargetId target, Time now) {
  Member* member = Find(target);
  if (member == nullptr || !member->connected || member->failed) {
    return std::nullopt;
  }
  for (uint32_t nr = 0; nr < member->parts.size(); ++nr) {
    Part& part = member->parts[nr];
    if (part.phase == ClonePhase::kToSend && part.not_before <= now) {
      part.phase = ClonePhase::kSent;
      return nr;
    }
  }
  return std::nullopt;
}

bool FlushRun::Completed(TargetId target, uint32_t flush_nr, Result result,
                         const std::string& message) {
  Member* member = Find(target);
  if (member == nullptr || flush_nr >= member->parts.size()) return false;
  Part& part = member->parts[flush_nr];
  if (part.phase != ClonePhase::kSent) return false;
  part.phase = ClonePhase::kDone;
  part.result = result;
  if (result.kind() == Result::Kind::kError) {
    answered_errors_.push_back(Answer{target, result, message});
  }
  Fold(*member, flush_nr, result, message);
  return true;
}

bool FlushRun::HasAnsweredError(TargetId target) const {
  return std::any_of(answered_errors_.begin(), answered_errors_.end(),
                     [target](const Answer& answer) { return answer.target == target; });
}

void FlushRun::Fold(const Member& member, uint32_t flush_nr, Result result,
                    const std::string& message) {
  folded_ = FoldBarrierError(folded_, result);
  if (!result.ok()) {
    errors_.push_back(TargetError{member.replica, flush_nr, result, message});
  }
}

void FlushRun::AskAgain(TargetId target, uint32_t flush_nr, Time at) {
  Member* member = Find(target);
  if (member == nullptr || member->failed || flush_nr >= member->parts.size()) return;
  member->parts[flush_nr].phase = ClonePhase::kToSend;
  member->parts[flush_nr].not_before = at;
}

Time FlushRun::NextTimer() const {
  Time next = absl::InfiniteDuration();
  for (const Member& member : members_) {
    if (!member.connected || member.left || member.failed) continue;
    for (const Part& part : member.parts) {
      if (part.phase == ClonePhase::kToSend) {
        next = std::min(next, part.not_before);
      }
    }
  }
  return next;
}

bool FlushRun::done() const {
  for (const Member& member : members_) {
    if (member.left) continue;
    if (!member.connected_once && !member.failed) return false;
    for (const Part& part : member.parts) {
      if (part.phase != ClonePhase::kDone) return false;
    }
  }
  return true;
}

uint64_t FlushRun::width() const {
  uint64_t width = 0;
  for (const Member& member : members_) {
    if (!member.left) width += member.parts.size();
  }
  return width;
}

std::vector<TargetId> FlushRun::TargetsWith(Result::Kind kind) const {
  std::vector<TargetId> targets;
  for (const Member& member : members_) {
    if (member.left) continue;
    for (const Part& part : member.parts) {
      if (part.phase == ClonePhase::kDone && part.result.kind() == kind) {
        targets.push_back(member.target);
        break;
      }
    }
  }
  return targets;
}

}  // namespace weir::engine
