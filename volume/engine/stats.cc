// What is counted, and what is held and why. See stats.h.
#include "volume/engine/stats.h"

#include <algorithm>

#include "absl/container/flat_hash_set.h"
#include "volume/engine/state.h"

namespace weir::engine {
namespace {

bool IsReadLike(RequestKind kind) {
  return kind == RequestKind::kRead || kind == RequestKind::kExtents;
}

}  // namespace

void DurationCounts::Add(absl::Duration took) {
  size_t bucket = 0;
  while (bucket < kBounds && took > Bound(bucket)) ++bucket;
  ++buckets_[bucket];
  sum_ += took;
}

void Engine::State::CountRun(const FlushRun& run, Result told) {
  FlushCounts& counts = counters_.flushes[static_cast<size_t>(run.purpose())];
  ++counts.runs[static_cast<size_t>(run.folded().kind())];
  counts.took.Add(now_ - run.begun());
  const uint64_t width = run.width();
  const auto bound = std::lower_bound(kFanOutBounds.begin(), kFanOutBounds.end(), width);
  ++counters_.fan_out[static_cast<size_t>(bound - kFanOutBounds.begin())];
  counters_.fan_out_sum += width;
  if (!run_flushes_.empty()) {
    if (told.kind() == Result::Kind::kRequeue) {
      counters_.flushes_requeued += run_flushes_.size();
    } else {
      counters_.flushes_merged += run_flushes_.size() - 1;
    }
  }
  for (const FlushRun::Answer& error : run.answered_errors()) {
    if (run.purpose() == FlushRun::Purpose::kAuto || error.result != told) ++Find(error.target)->hidden_errors;
  }
}

void Engine::State::EnterStage(BarrierStage stage) {
  LeaveStage();
  barrier_->stage = stage;
  barrier_->since = now_;
}

void Engine::State::LeaveStage() {
  counters_.barriers[static_cast<size_t>(barrier_->stage)].Add(now_ - barrier_->since);
}

// `run`, if given, has just ended.
void Engine::State::NoteDurablePoint(const FlushRun* run) {
  if (!tail_since_) return;
  bool all = true;
  bool all_of_run = run != nullptr;
  for (size_t i = 0; i < lanes_.size(); ++i) {
    all &= lanes_[i].told >= lanes_[i].completed;
    if (all_of_run) all_of_run = lanes_[i].told >= run->positions()[i];
  }
  if (all_of_run) tail_since_ = std::max(*tail_since_, run->begun());
  if (all) tail_since_.reset();
}

// What keeps answers from coming, but for the time that members take; none: nothing.
std::optional<HoldReason> Engine::State::WhyAnswersWait() const {
  if (Held()) return HoldReason::kTooFewMembers;
  std::optional<HoldReason> why;
  for (const Target& target : targets_) {
    if (!target.waited_for()) continue;
    if (!target.connected()) {
      return target.leaving || target.in_doubt ? HoldReason::kCatalog : HoldReason::kMemberAway;
    }
    if (now_ < target.backoff_until) why = HoldReason::kRequeue;
  }
  return why;
}

// What the head of the queue waits for, and so all of it. REQUIRES: there is one.
HoldReason Engine::State::WhyQueueWaits() const {
  if (phase_ == Phase::kCommitting) return HoldReason::kCatalog;
  if (phase_ != Phase::kActive) return HoldReason::kSuspended;
  if (barrier_) return HoldReason::kBarrier;
  if (LockedOut(queue_.front())) return HoldReason::kLocked;
  if (const auto why = WhyAnswersWait()) return *why;
  return replay_bytes_ >= options_.replay_bytes_max ? HoldReason::kReplayFull : HoldReason::kMemberBusy;
}

void Engine::State::CountHeld(Stats* stats) const {
  auto add = [stats](HoldReason why, uint64_t requests) {
    stats->held[static_cast<size_t>(why)] += requests;
  };
  if (!queue_.empty()) add(WhyQueueWaits(), queue_.size());
  std::optional<HoldReason> why = WhyAnswersWait();
  if (!why && !MayGoOnSending()) {
    why = phase_ == Phase::kCommitting ? HoldReason::kCatalog : HoldReason::kSuspended;
  }
  // Flushes also await their worker, after a requeue.
  if (why || now_ < run_not_before_) {
    add(why.value_or(HoldReason::kRequeue), flushes_.size() + run_flushes_.size());
  }
  if (why && barrier_ && !ops_.contains(barrier_->request.id)) add(*why, 1);
  // Reads wait for any member, writes for all.
  absl::flat_hash_set<RequestId> reads;
  for (const auto& [request, fragment] : unsent_reads_) reads.insert(request);
  for (const auto& [request, fragment] : commit_waits_) {
    if (why) reads.insert(request);
  }
  add(why.value_or(HoldReason::kMemberBusy), reads.size());
  if (!why) return;
  add(*why, static_cast<uint64_t>(std::count_if(ops_.begin(), ops_.end(), [](const auto& op) {
        return !IsReadLike(op.second->request.kind);
      })));
}

Stats Engine::State::GetStats() const {
  Stats stats;
  stats.counted = counters_;
  stats.durable_until = tail_since_;
  CountHeld(&stats);
  for (const Lane& lane : lanes_) {
    for (const WriteEntry& entry : lane.entries()) {
      if (entry.n > lane.completed) break;
      if (entry.n > lane.told) stats.not_durable_bytes += entry.data.size();
    }
  }
  for (const Target& target : targets_) {
    // The name of one that has left for good may have come back at another slot.
    if (target.config.gone) continue;
    stats.hidden_errors.emplace_back(target.config.replica, target.hidden_errors);
  }
  return stats;
}

}  // namespace weir::engine
