// The queue, writes and reads. See state.h.
#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/base/check.h"
#include "volume/engine/state.h"

namespace weir::engine {
namespace {

bool IsReadLike(RequestKind kind) {
  return kind == RequestKind::kRead || kind == RequestKind::kExtents;
}

// Calls visit(lane, part) for each part of `range` that lies in one stripe.
template <typename Visit>
void ForEachStripe(const LaneGeometry& geometry, BlockRange range, Visit visit) {
  while (range.count > 0) {
    uint64_t stripe_end =
        (range.first / geometry.stripe_blocks + 1) * geometry.stripe_blocks;
    BlockRange part{range.first, std::min(range.count, stripe_end - range.first)};
    visit(geometry.LaneOf(part.first), part);
    range.first += part.count;
    range.count -= part.count;
  }
}

bool IsWriteLike(RequestKind kind) { return !IsReadLike(kind) && kind != RequestKind::kFlush; }

}  // namespace

bool Engine::State::LockedOut(const Request& request) const {
  if (!locked_ || request.in_lock || !IsWriteLike(request.kind)) return false;
  return request.kind == RequestKind::kBarrier || locked_->Overlaps(request.range);
}

void Engine::State::LockRange(ControlId id, BlockRange range) {
  if (fenced_) return Emit(CompleteControl{id, Result(ESTALE), "the volume was taken over", {}});
  if (locked_) return Emit(CompleteControl{id, Result(EBUSY), "another range is locked", {}});
  if (phase_ == Phase::kRestoring) return RefuseNow(id);
  locked_ = range;
  lock_awaited_ = id;
}

bool Engine::State::AdvanceLock() {
  if (!lock_awaited_ || barrier_) return false;
  for (const auto& [id, op] : ops_) {
    const Request& request = op->request;
    if (IsWriteLike(request.kind) && locked_ && locked_->Overlaps(request.range)) return false;
  }
  Emit(CompleteControl{*lock_awaited_, Result::Ok(), "", {}});
  lock_awaited_.reset();
  return true;
}

bool Engine::State::stopped() const {
  return phase_ != Phase::kActive || barrier_.has_value();
}

bool Engine::State::Restores(const Request& request) const {
  return phase_ == Phase::kRestoring && may_restore_ && !control_ && request.in_lock;
}

bool Engine::State::Dispatch() {
  bool progressed = false;
  while (!queue_.empty() && (!stopped() || Restores(queue_.front()))) {
    auto next = queue_.begin();
    const bool plugged = !IsReadLike(next->kind) && next->kind != RequestKind::kFlush &&
                         next->kind != RequestKind::kBarrier && !CanStartWrite();
    if (plugged || LockedOut(*next)) {
      // Plugged. Reads need not wait for busy targets, except behind a barrier.
      if (queued_reads_ == 0 || stopped()) break;
      next = std::find_if(queue_.begin(), queue_.end(), [](const Request& r) {
        return IsReadLike(r.kind) || r.kind == RequestKind::kBarrier;
      });
      if (next == queue_.end() || next->kind == RequestKind::kBarrier) break;
    }
    Request request = std::move(*next);
    queue_.erase(next);
    if (IsReadLike(request.kind)) --queued_reads_;
    if (request.kind == RequestKind::kBarrier) --queued_barriers_;
    StartOp(std::move(request));
    progressed = true;
  }
  return progressed;
}

bool Engine::State::CanStartWrite() const {
  if (FirstCondemned() != nullptr || HeldTooLong()) return true;  // it will fail at once
  if (Held()) return false;
  if (replay_bytes_ >= options_.replay_bytes_max) return false;
  return std::none_of(targets_.begin(), targets_.end(), [&](const Target& t) {
    return t.member() && t.busy(now_);
  });
}

void Engine::State::StartOp(Request request) {
  if (request.kind == RequestKind::kFlush) {
    flushes_.push_back(FlushWaiter{std::move(request), {}});
    return;
  }
  if (request.kind == RequestKind::kBarrier) {
    barrier_ = Barrier{.request = std::move(request), .since = now_};
    return;
  }
  RequestId id = request.id;
  auto op = std::make_unique<Op>();
  op->request = std::move(request);
  Op& ref = *op;
  bool inserted = ops_.emplace(id, std::move(op)).second;
  CHECK(inserted);
  IsReadLike(ref.request.kind) ? StartRead(ref) : StartWrite(ref);
}

void Engine::State::StartWrite(Op& op) {
  Request& request = op.request;
  if (const Target* failed = FirstCondemned()) {
    op.result = failed->failure;
    op.message = absl::StrCat("replica ", failed->config.replica, " ",
                              failed->reason);
    op.errors.push_back(
        TargetError{failed->config.replica, 0, failed->failure, failed->reason});
    return FinishOp(op);
  }
  if (HeldTooLong()) {
    op.result = Result(EIO);
    op.message = kTooFewMembers;
    return FinishOp(op);
  }
  bool brings_data = request.kind == RequestKind::kWrite ||
                     request.kind == RequestKind::kBarrier;
  for (const Target& target : targets_) {
    if (request.fua && target.counts() && !target.flush_supported) {
      op.result = Result(EOPNOTSUPP);
      op.message = absl::StrCat("replica ", target.config.replica,
                                " cannot flush, so it cannot promise FUA");
      return FinishOp(op);
    }
    if (brings_data && target.counts() && target.space_exhausted) {
      op.result = Result(ENOSPC);
      op.message = absl::StrCat("replica ", target.config.replica,
                                " has no space left; free or add some");
      return FinishOp(op);
    }
  }
  for (const Lane& lane : lanes_) {
    if (lane.last() + request.range.count <= Position::kNMax) continue;
    op.result = Result(EOVERFLOW);
    op.message = "this epoch has no numbers left for writes; attach the volume anew";
    return FinishOp(op);
  }
  ForEachStripe(options_.lanes, request.range, [&](LaneId lane, BlockRange part) {
    WriteEntry entry;
    entry.kind = brings_data ? RequestKind::kWrite : request.kind;
    entry.range = part;
    entry.fua = request.fua;
    entry.request = request.id;
    if (brings_data) {
      uint64_t skipped = part.first - request.range.first;
      entry.data = request.data.Slice(skipped * kBlockBytes, part.count * kBlockBytes);
      entry.crcs.assign(request.crcs.begin() + skipped,
                        request.crcs.begin() + skipped + part.count);
    }
    ++op.waiting;
    replay_bytes_ += entry.bytes();
    lanes_[Index(lane)].Append(std::move(entry));
  });
  for (Target& target : targets_) PumpWrites(target);
}

// Sends what `target` has not been sent yet, in order, while it has credit.
bool Engine::State::PumpWrites(Target& target) {
  if (!MayGoOnSending()) return false;
  bool progressed = false;
  for (uint32_t i = 0; i < lanes_.size(); ++i) {
    Lane& lane = lanes_[i];
    Cursor& cursor = lane.cursor(target.id);
    while (cursor.sent < lane.last() && !target.busy(now_)) {
      CHECK(lane.Has(cursor.sent + 1));
      SendWrite(target, lane, lane.At(++cursor.sent));
      progressed = true;
    }
  }
  return progressed;
}

void Engine::State::SendWrite(Target& target, Lane& lane, const WriteEntry& entry) {
  Clone clone;
  clone.kind = entry.kind;
  clone.lane = LaneId{static_cast<uint32_t>(&lane - lanes_.data())};
  clone.range = entry.range;
  clone.position = Position(options_.epoch, entry.n);
  clone.fua = entry.fua;
  clone.overlay = options_.overlay;
  clone.data = entry.data;
  clone.crcs = entry.crcs;
  InflightClone inflight;
  inflight.kind = entry.kind;
  inflight.lane = clone.lane;
  inflight.n = entry.n;
  inflight.bytes = entry.bytes();
  inflight.requeue_round = target.requeue_round;
  Send(target, std::move(clone), inflight);
}

void Engine::State::Send(Target& target, Clone clone, InflightClone inflight) {
  clone.id = CloneId{next_clone_++};
  target.inflight_bytes += inflight.bytes;
  inflight.sent = now_;
  target.inflight.emplace(clone.id, inflight);
  target.sent_order.emplace_back(now_, clone.id);
  Emit(SendClone{target.id, std::move(clone)});
}

void Engine::State::WriteCompleted(Target& target, const InflightClone& clone,
                                   CloneReply& reply) {
  Lane& lane = lanes_[Index(clone.lane)];
  Cursor& cursor = lane.cursor(target.id);
  if (reply.result.ok()) {
    target.NoteProgress(clone.kind);
    cursor.applied = std::max(cursor.applied, clone.n);
    NoteDurable(target, reply);
    AdvanceLane(clone.lane);
    return;
  }
  if (reply.result.kind() == Result::Kind::kRequeue) {
    // Later ones of the lane that were under way come back too, as gaps: they
    // belong to the same round.
    if (clone.requeue_round == target.requeue_round) Requeued(target, clone.kind);
    cursor.sent = std::min(cursor.sent, std::max(cursor.applied, clone.n - 1));
    return;
  }
  FailTarget(target, reply.result,
             absl::StrCat("failed a write: ", reply.message));
}

void Engine::State::AdvanceLane(LaneId id) {
  if (Held()) return AdvanceCommitWaits(id, !HeldTooLong());
  Lane& lane = lanes_[Index(id)];
  uint64_t applied = lane.last();
  uint64_t synced = lane.last();
  bool anybody = false;
  for (const Target& target : targets_) {
    if (!target.waited_for()) continue;
    anybody = true;
    applied = std::min(applied, lane.cursor(target.id).applied);
    synced = std::min(synced, lane.cursor(target.id).durable);
  }
  if (anybody && lane.completed < applied && !tail_since_) tail_since_ = now_;
  for (; anybody && lane.completed < applied; ++lane.completed) {
    if (!lane.Has(lane.completed + 1)) continue;
    WriteEntry& entry = lane.At(lane.completed + 1);
    if (!entry.fua) EntryDone(entry, Result::Ok(), "");
  }
  for (; anybody && lane.synced < synced; ++lane.synced) {
    if (!lane.Has(lane.synced + 1)) continue;
    EntryDone(lane.At(lane.synced + 1), Result::Ok(), "");
  }
  AdvanceCommitWaits(id, anybody);
}

// Completes the reads that awaited what the lane has now come to; `anybody`: somebody is
// left who may still complete a write.
void Engine::State::AdvanceCommitWaits(LaneId id, bool anybody) {
  for (size_t i = 0; i < commit_waits_.size();) {
    auto [request, index] = commit_waits_[i];
    Op& op = *ops_.at(request);
    ReadFragment& fragment = op.fragments[index];
    const bool committed = IsCommitted(fragment);
    if (fragment.lane != id || (!committed && anybody)) {
      ++i;
      continue;
    }
    commit_waits_.erase(commit_waits_.begin() + i);
    if (!committed && op.result.ok()) {
      // What it saw may be lost with those that have it.
      op.result = Result(EIO);
      op.message = "no replica is left to complete the write that was read";
    }
    FinishRead(op, index);
  }
}

// What the read saw is on all that are waited for, and is no write that failed for want of one that is
// waited for now: it was condemned then, and may leave since.
bool Engine::State::IsCommitted(const ReadFragment& fragment) const {
  const Lane& lane = lanes_[Index(fragment.lane)];
  if (fragment.saw > lane.completed) return false;
  return fragment.saw > lane.failed ||
         std::all_of(targets_.begin(), targets_.end(), [&](const Target& t) {
           return !t.waited_for() || lane.cursor(t.id).applied >= fragment.saw;
         });
}

// A condemned member is one by the catalog still, and may be the only one that a takeover finds. What
// failed for want of it must not have been seen then, by a client that goes on.
void Engine::State::FinishRead(Op& op, uint32_t index) {
  const ReadFragment& fragment = op.fragments[index];
  const bool shown = std::none_of(targets_.begin(), targets_.end(), [&](const Target& t) {
    return t.condemned() && lanes_[Index(fragment.lane)].cursor(t.id).applied < fragment.saw;
  });
  if (!shown && op.result.ok()) {
    op.result = Result(EIO);
    op.message = "what was read is of a write that failed, and a replica lacks it";
  }
  FinishFragment(op, index);
}

void Engine::State::AdvanceAllLanes() {
  for (uint32_t i = 0; i < lanes_.size(); ++i) AdvanceLane(LaneId{i});
}

void Engine::State::EntryDone(WriteEntry& entry, Result result,
                              const std::string& message) {
  if (!entry.open) return;
  entry.open = false;
  Op& op = *ops_.at(entry.request);
  if (op.result.ok() && !result.ok()) {
    op.result = result;
    op.message = message;
  }
  if (--op.waiting == 0) FinishOp(op);
}

void Engine::State::StartRead(Op& op) {
  ForEachStripe(options_.lanes, op.request.range,
                [&](LaneId lane, BlockRange part) {
                  ReadFragment fragment;
                  fragment.lane = lane;
                  fragment.range = part;
                  op.fragments.push_back(std::move(fragment));
                });
  op.waiting = op.fragments.size();
  for (uint32_t i = 0; i < op.fragments.size(); ++i) {
    if (unsent_reads_.empty() && SendRead(op, i)) continue;
    unsent_reads_.emplace_back(op.request.id, i);
  }
}

// The connected target at or past the lane's read floor with the fewest clones
// in flight, that has not failed this fragment already.
Target* Engine::State::ChooseReader(const ReadFragment& fragment) {
  const Lane& lane = lanes_[Index(fragment.lane)];
  Target* best = nullptr;
  for (size_t i = 0; i < targets_.size(); ++i) {
    Target& target = targets_[(i + read_turn_) % targets_.size()];
    if (!target.readable() || target.busy(now_) || (fragment.tried >> static_cast<uint32_t>(target.id) & 1) ||
        lane.cursor(target.id).applied < lane.read_floor()) {
      continue;
    }
    if (best == nullptr || target.inflight.size() < best->inflight.size()) {
      best = &target;
    }
  }
  ++read_turn_;
  return best;
}

bool Engine::State::SendRead(Op& op, uint32_t index) {
  if (!MayGoOnSending()) return false;
  ReadFragment& fragment = op.fragments[index];
  Target* target = HasLeases() ? ChooseReader(fragment) : nullptr;
  if (target == nullptr) return false;
  Clone clone;
  clone.kind = op.request.kind;
  clone.lane = fragment.lane;
  clone.range = fragment.range;
  clone.overlay = options_.overlay;
  InflightClone inflight;
  inflight.kind = clone.kind;
  inflight.lane = fragment.lane;
  inflight.request = op.request.id;
  inflight.fragment = index;
  inflight.bytes = fragment.range.count * kBlockBytes;
  Send(*target, std::move(clone), inflight);
  return true;
}

bool Engine::State::SendReads() {
  bool progressed = false;
  for (size_t left = unsent_reads_.size(); left > 0; --left) {
    auto [request, index] = unsent_reads_.front();
    unsent_reads_.pop_front();
    auto op = ops_.find(request);
    // A sibling may have failed the whole request meanwhile.
    if (op == ops_.end()) continue;
    if (SendRead(*op->second, index)) {
      progressed = true;
      continue;
    }
    const ReadFragment& fragment = op->second->fragments[index];
    // A lease of one that has failed is not renewed any more.
    const bool renewable = std::none_of(targets_.begin(), targets_.end(), [&](const Target& t) {
      return t.condemned() && now_ >= t.lease_until;
    });
    const bool hope = (HasLeases() || renewable) && std::any_of(targets_.begin(), targets_.end(), [&](const Target& t) {
      return t.waited_for() && !(fragment.tried >> static_cast<uint32_t>(t.id) & 1);
    });
    if (hope) {
      unsent_reads_.emplace_back(request, index);
      continue;
    }
    progressed = true;
    if (op->second->result.ok()) {
      const Target* failed = FirstCondemned();
      op->second->result = failed != nullptr ? failed->failure : Result(EIO);
      op->second->message = "no replica can serve the read";
    }
    FinishFragment(*op->second, index);
  }
  return progressed;
}

void Engine::State::ReadCompleted(Target& target, const InflightClone& clone,
                                  CloneReply& reply) {
  auto it = ops_.find(clone.request);
  if (it == ops_.end()) return;
  Op& op = *it->second;
  ReadFragment& fragment = op.fragments[clone.fragment];
  if (fragment.answered) return;
  if (!reply.result.ok()) return ReadFailed(op, clone.fragment, target, reply);
  if (!target.readable()) {
    // The catalog may have it out by now, and somebody else may have written without it.
    unsent_reads_.emplace_back(op.request.id, clone.fragment);
    return;
  }
  target.NoteProgress(clone.kind);
  NoteDamage(fragment);
  fragment.answered = true;
  fragment.data = std::move(reply.data);
  fragment.absent = std::move(reply.absent);
  fragment.zeroes = reply.zeroes;
  fragment.extents = std::move(reply.extents);
  // Versions of earlier epochs are on every member since the takeover.
  fragment.saw =
      reply.position.epoch() == options_.epoch ? reply.position.n() : 0;
  if (!IsCommitted(fragment)) {
    commit_waits_.emplace_back(op.request.id, clone.fragment);
    return;
  }
  FinishRead(op, clone.fragment);
}

void Engine::State::ReadFailed(Op& op, uint32_t index, Target& target,
                               const CloneReply& reply) {
  unsent_reads_.emplace_back(op.request.id, index);
  if (reply.result.kind() == Result::Kind::kRequeue) {
    return Requeued(target, RequestKind::kRead);
  }
  op.fragments[index].tried |= uint64_t{1} << static_cast<uint32_t>(target.id);
  op.errors.push_back(
      TargetError{target.config.replica, 0, reply.result, reply.message});
  // One bad block does not make a bad target; another one has it, and it is repaired from that.
  if (reply.result == Result(EBADMSG)) {
    op.fragments[index].damaged_on |= uint64_t{1} << static_cast<uint32_t>(target.id);
    return;
  }
  // Nor does what it has never learned to do.
  if (reply.result.kind() == Result::Kind::kNotSupported) return;
  FailTarget(target, reply.result, absl::StrCat("failed a read: ", reply.message));
}

void Engine::State::FinishFragment(Op& op, uint32_t index) {
  ReadFragment& fragment = op.fragments[index];
  CHECK(!fragment.done);
  fragment.answered = true;
  fragment.done = true;
  if (--op.waiting == 0) FinishOp(op);
}

void Engine::State::FinishOp(Op& op) {
  RequestId id = op.request.id;
  if (barrier_ && barrier_->request.pin == 0 && barrier_->request.id == id) {
    Result result = op.result;
    std::string message = std::move(op.message);
    for (TargetError& error : op.errors) barrier_->errors.push_back(std::move(error));
    ops_.erase(id);
    if (!result.ok()) return EndBarrier(result, std::move(message));
    EnterStage(BarrierStage::kPostFlush);
    return;
  }
  CompleteRequest done;
  done.id = id;
  done.result = op.result;
  done.message = std::move(op.message);
  done.targets = std::move(op.errors);
  if (done.result.ok()) {
    for (ReadFragment& fragment : op.fragments) {
      if (op.request.kind == RequestKind::kRead) {
        done.parts.push_back(ReadPart{
            fragment.range.count, fragment.zeroes ? Payload() : std::move(fragment.data)});
        done.absent.insert(done.absent.end(), fragment.absent.begin(), fragment.absent.end());
      }
      for (const Run& run : fragment.extents) {
        if (!done.extents.empty() && done.extents.back().allocated == run.allocated) {
          done.extents.back().blocks += run.blocks;
        } else {
          done.extents.push_back(run);
        }
      }
    }
  }
  ops_.erase(id);
  Emit(std::move(done));
}

void Engine::State::Complete(Request& request, Result result, std::string message,
                             std::vector<TargetError> errors) {
  if (request.pin != 0) {
    const bool had_its_turn = barrier_ && barrier_->request.pin == request.pin &&
                              barrier_->stage == BarrierStage::kPin;
    if (!had_its_turn) --pins_waiting_;
    CompleteControl set{request.pin_control, result, std::move(message), {}};
    if (result.ok()) set.pinned = barrier_->pinned;
    return Emit(std::move(set));
  }
  CompleteRequest done;
  done.id = request.id;
  done.result = result;
  done.message = std::move(message);
  done.targets = std::move(errors);
  Emit(std::move(done));
}

}  // namespace weir::engine
