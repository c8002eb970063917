#include "volume/host/parent_reads.h"

#include <algorithm>
#include <iterator>
#include <utility>
#include <vector>

#include "proto/base/log.h"
#include "volume/engine/parent.h"
#include "volume/host/clock.h"

namespace weir::host {
namespace {

constexpr size_t kWaitingMax = 16384;
// At a time, of one clone: half of the threads.
constexpr size_t kAskingMax = 8;

// Moves those of `reads` that have waited for long enough to the end of `overdue`.
void TakeOverdue(engine::Time submitted_by, std::deque<ParentReads::Read>* reads, std::vector<ParentReads::Read>* overdue) {
  const auto late = std::stable_partition(reads->begin(), reads->end(), [submitted_by](const ParentReads::Read& read) {
    return read.submitted > submitted_by;
  });
  std::move(late, reads->end(), std::back_inserter(*overdue));
  reads->erase(late, reads->end());
}

}  // namespace

bool ParentReads::Run(Read& read) {
  absl::Status stopped;
  {
    absl::MutexLock lock(&mu_);
    if (!stopped_) {
      if (fresh_.size() + held_.size() >= kWaitingMax) return false;
      fresh_.push_back(std::move(read));
      PumpLocked();
      return true;
    }
    stopped = *stopped_;
  }
  read.done(stopped);
  return true;
}

void ParentReads::PumpLocked() {
  if (stopped_) return;
  while (!fresh_.empty() && asking_ < (away_ ? 1 : kAskingMax) && AskLocked(&fresh_, /*again=*/false)) ++asking_;
  // Also of those that are to be asked for: where one hangs they wait behind it.
  if (!held_.empty() || (away_ && !fresh_.empty())) ArmLocked();
}

bool ParentReads::AskLocked(std::deque<Read>* from, bool again) {
  const auto asking = std::make_shared<Asking>(Asking{std::move(from->front()), again});
  from->pop_front();
  if (queue_->Run([self = shared_from_this(), asking] { self->Ask(std::move(*asking)); })) return true;
  from->push_front(std::move(asking->read));
  ArmLocked();
  return false;
}

void ParentReads::Ask(Asking asking) {
  Read& read = asking.read;
  absl::Status status;
  {
    absl::MutexLock lock(&mu_);
    if (stopped_) status = *stopped_;
  }
  if (status.ok()) status = read.ask();
  {
    absl::MutexLock lock(&mu_);
    if (asking.again) {
      asking_again_.reset();
    } else {
      --asking_;
    }
    const bool nobody = absl::IsUnavailable(status);
    if (nobody && !away_) LOG(WARNING) << "volume=" << volume_ << " its parent cannot be asked, reads are held: " << status;
    away_ = nobody;
    if (nobody) why_ = status;
    const bool holds = engine::HoldsForParent(status, read.submitted, MonotonicNow(), hold_deadline_);
    if (holds && !stopped_) {
      held_.push_back(std::move(read));
      return PumpLocked();
    }
    if (nobody && stopped_) status = *stopped_;
    if (asking.again && !nobody) {
      std::move(held_.begin(), held_.end(), std::back_inserter(fresh_));
      held_.clear();
    }
    PumpLocked();
  }
  read.done(status);
}

void ParentReads::ArmLocked() {
  if (std::exchange(armed_, true)) return;
  timer_->At(MonotonicNow() + engine::kAskParentAgainAfter, [self = weak_from_this()] {
    if (const std::shared_ptr<ParentReads> here = self.lock()) here->Tick();
  });
}

void ParentReads::Tick() {
  std::vector<Read> overdue;
  absl::Status why;
  {
    absl::MutexLock lock(&mu_);
    armed_ = false;
    if (stopped_) return;
    why = why_;
    if (hold_deadline_ < absl::InfiniteDuration()) {
      const engine::Time submitted_by = MonotonicNow() - hold_deadline_;
      TakeOverdue(submitted_by, &held_, &overdue);
      if (away_) TakeOverdue(submitted_by, &fresh_, &overdue);
    }
    if (!held_.empty() && !asking_again_) {
      const engine::Time submitted = held_.front().submitted;
      if (AskLocked(&held_, /*again=*/true)) asking_again_ = submitted;
    }
    PumpLocked();
  }
  for (Read& read : overdue) read.done(why);
}

void ParentReads::Stop(const absl::Status& status) {
  std::deque<Read> fresh, held;
  {
    absl::MutexLock lock(&mu_);
    stopped_ = status;
    fresh.swap(fresh_);
    held.swap(held_);
  }
  for (Read& read : held) read.done(status);
  for (Read& read : fresh) read.done(status);
}

size_t ParentReads::held() const {
  absl::MutexLock lock(&mu_);
  return held_.size() + (asking_again_ ? 1 : 0) + (away_ ? fresh_.size() : 0);
}

bool ParentReads::HasHeldSince(engine::Time submitted) const {
  absl::MutexLock lock(&mu_);
  const auto is_old = [submitted](const Read& read) { return read.submitted <= submitted; };
  return (asking_again_ && *asking_again_ <= submitted) || std::any_of(held_.begin(), held_.end(), is_old) ||
         std::any_of(fresh_.begin(), fresh_.end(), is_old);
}

}  // namespace weir::host
