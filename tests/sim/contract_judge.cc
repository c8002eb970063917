#include "tests/sim/contract_judge.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/base/check.h"

namespace weir::sim {

ContractJudge::ContractJudge(uint64_t blocks, Order order)
    : order_(order), ops_(1), blocks_(blocks) {
  for (Block& block : blocks_) {
    Candidate first;
    first.effective = first.closed = 0;
    first.acked = first.durable = first.initial = true;
    block.candidates.push_back(std::move(first));
  }
}

void ContractJudge::Violated(const char* predicate, const std::string& what,
                             std::optional<uint64_t> block) {
  if (!violation_.empty()) return;
  violation_ = absl::StrCat(predicate, ": ", what);
  violated_block_ = block;
}

void ContractJudge::Activated(SessionId session, bool resumed) {
  ++now_;
  active_ = session;
  if (resumed) return CloseUnanswered(session);
  crashed_ = now_;
  for (Block& block : blocks_) {
    // Of what was not durably overwritten any one may be there.
    block.ruled_out.clear();
    std::erase_if(block.candidates, [](const Candidate& c) { return c.gone; });
    for (Candidate& c : block.candidates) {
      c.before_crash = c.effective;
      c.effective = c.closed = now_;
      c.dead = kNever;
      c.observed = 0;
      c.initial = c.durable = true;
      c.killers.clear();
    }
  }
}

void ContractJudge::CloseUnanswered(SessionId session) {
  for (Block& block : blocks_) {
    for (Candidate& c : block.candidates) {
      if (c.closed != kNever || ops_[c.op].session >= session) continue;
      c.effective = std::min(c.effective, now_);
      c.closed = now_;
      c.again = false;
    }
  }
}

void ContractJudge::GoesOn(OpId id, SessionId session) {
  const auto index = static_cast<uint64_t>(id);
  Op& op = ops_[index];
  CHECK(op.kind != Kind::kNone && !op.returned && !op.zombie && op.session < session);
  op.session = session;
  for (uint64_t b = op.range.first; b < op.range.end(); ++b) {
    if (op.kind == Kind::kWrite || op.kind == Kind::kBarrier) Reopen(blocks_[b], index, op);
  }
}

void ContractJudge::Reopen(Block& block, uint64_t id, const Op& op) {
  std::erase_if(block.candidates, [id](const Candidate& c) { return c.op == id; });
  Candidate& again = block.candidates.emplace_back();
  again.op = id;
  again.value = op.value;
  again.invoked = op.invoked;
  again.again = true;
}

// --- invocations ---

ContractJudge::Op& ContractJudge::Begin(OpId id, SessionId session, Kind kind, BlockRange range) {
  ++now_;
  const auto index = static_cast<uint64_t>(id);
  if (index >= ops_.size()) ops_.resize(index + 1);
  Op& op = ops_[index];
  CHECK(op.kind == Kind::kNone);
  op.kind = kind;
  op.session = session;
  op.range = range;
  op.invoked = now_;
  op.zombie = session < active_;
  return op;
}

void ContractJudge::WriteInvoked(OpId id, SessionId session, BlockRange range, uint64_t value,
                                 bool fua) {
  Op& op = Begin(id, session, Kind::kWrite, range);
  op.value = value;
  op.fua = fua;
  // C5: what is begun after another session is active never becomes effective.
  if (session < active_) return;
  for (uint64_t b = range.first; b < range.end(); ++b) {
    Candidate& candidate = blocks_[b].candidates.emplace_back();
    candidate.op = static_cast<uint64_t>(id);
    candidate.value = value;
    candidate.invoked = now_;
  }
}

void ContractJudge::BarrierInvoked(OpId id, SessionId session, BlockRange range, uint64_t value) {
  WriteInvoked(id, session, range, value, /*fua=*/true);
  ops_[static_cast<uint64_t>(id)].kind = Kind::kBarrier;
}

void ContractJudge::ReadInvoked(OpId id, SessionId session, BlockRange range) {
  Begin(id, session, Kind::kRead, range);
  open_reads_.push_back(now_);
}

void ContractJudge::ReadIsSettled(OpId op) { ops_[static_cast<uint64_t>(op)].settled = true; }

void ContractJudge::FlushInvoked(OpId id, SessionId session) {
  Begin(id, session, Kind::kFlush, {});
}

void ContractJudge::SuspendInvoked(OpId id, SessionId session) {
  Begin(id, session, Kind::kSuspend, {});
}

// --- returns ---

void ContractJudge::Returned(OpId id, Outcome outcome, const std::vector<uint64_t>& values) {
  ++now_;
  const auto index = static_cast<uint64_t>(id);
  Op& op = ops_[index];
  CHECK(op.kind != Kind::kNone && !op.returned);
  op.returned = true;
  if (outcome.ok && op.kind != Kind::kRead && op.zombie) {
    return Violated("C5", absl::StrCat("operation ", index, " of session ",
                                       static_cast<uint64_t>(op.session),
                                       " was begun after a newer one was active, and is OK"));
  }
  switch (op.kind) {
    case Kind::kRead:
      open_reads_.erase(std::find(open_reads_.begin(), open_reads_.end(), op.invoked));
      if (outcome.ok) ReadReturned(index, op, values);
      break;
    case Kind::kFlush:
    case Kind::kSuspend:
      if (outcome.ok) FlushReturned(op);
      break;
    case Kind::kBarrier:
      if (outcome.ok) BarrierReturned(index, op);
      WriteReturned(index, op, outcome);
      break;
    case Kind::kWrite:
      WriteReturned(index, op, outcome);
      break;
    case Kind::kNone:
      break;
  }
}

void ContractJudge::WriteReturned(uint64_t id, Op& op, Outcome outcome) {
  for (uint64_t b = op.range.first; b < op.range.end(); ++b) {
    Block& block = blocks_[b];
    if (outcome.ok && BeforeCrash(op)) {
      // Answered late: only what it promises to be durable binds a later session.
      if (op.fua) MakeDurableLate(b, id);
      continue;
    }
    const auto it = std::find_if(block.candidates.begin(), block.candidates.end(),
                                 [id](const Candidate& c) { return c.op == id; });
    if (it == block.candidates.end()) continue;
    if (outcome.nothing_written && !outcome.ok) {
      if (it->observed > 0) {
        const bool barrier = op.kind == Kind::kBarrier;
        Violated(barrier ? "C9" : "C5",
                 absl::StrCat("block ", b, " showed ", barrier ? "barrier " : "write ", id,
                              ", which says that nothing was written"),
                 b);
      }
      block.candidates.erase(it);
      continue;
    }
    it->effective = std::min(it->effective, now_);
    it->closed = std::min(it->closed, now_);
    it->again = false;
    if (!outcome.ok) continue;  // C7: old or new
    it->acked = true;
    const Candidate acked = *it;
    Overwrite(block, acked);
    if (op.fua) {
      MakeDurable(b, id);
    } else {
      undurable_.push_back({id, b, op.session, now_});
    }
  }
}

void ContractJudge::Overwrite(Block& block, const Candidate& by) {
  for (Candidate& x : block.candidates) {
    if (x.op == by.op || x.effective >= by.invoked) continue;
    x.dead = std::min(x.dead, now_);
    x.killers.push_back(by.op);
  }
}

void ContractJudge::MakeDurable(uint64_t b, uint64_t op) {
  Block& block = blocks_[b];
  for (Candidate& c : block.candidates) {
    if (c.op == op) c.durable = true;
    if (std::find(c.killers.begin(), c.killers.end(), op) != c.killers.end()) c.gone = true;
  }
  Prune(block);
}

void ContractJudge::Prune(Block& block) {
  const Tick oldest = open_reads_.empty()
                          ? now_
                          : *std::min_element(open_reads_.begin(), open_reads_.end());
  std::erase_if(block.candidates,
                [oldest](const Candidate& c) { return c.gone && c.dead < oldest; });
}

void ContractJudge::MakeDurableLate(uint64_t b, uint64_t op) {
  Block& block = blocks_[b];
  const Tick invoked = ops_[op].invoked;
  for (const auto& [ruled_out, seen_effective] : block.ruled_out) {
    if (ruled_out != op || seen_effective >= invoked) continue;
    Violated("C3", absl::StrCat("block ", b, " went back behind write ", op,
                                ", which an operation of before the crash has made durable"),
             b);
  }
  const bool there = std::any_of(block.candidates.begin(), block.candidates.end(),
                                 [op](const Candidate& c) { return c.op == op; });
  if (!there) return;
  std::erase_if(block.candidates, [&](const Candidate& x) {
    return x.initial && x.op != op && x.before_crash < invoked;
  });
}

void ContractJudge::FlushReturned(const Op& flush) {
  const bool late = BeforeCrash(flush);
  std::erase_if(undurable_, [&](const Undurable& y) {
    if (y.acked >= flush.invoked) return false;
    if (late && y.session != flush.session) return false;
    if (y.acked < crashed_) {
      if (late) MakeDurableLate(y.block, y.op);
      return true;  // a crash has settled it
    }
    MakeDurable(y.block, y.op);
    return true;
  });
}

bool ContractJudge::WasBefore(const Undurable& y, const Op& barrier) const {
  const Tick when = order_ == Order::kSubmitted ? ops_[y.op].invoked : y.acked;
  return y.session == barrier.session && when < barrier.invoked;
}

void ContractJudge::BarrierReturned(uint64_t id, const Op& barrier) {
  FlushReturned(barrier);
  if (barrier.session < active_ || order_ != Order::kSubmitted) return;
  for (uint64_t other = 1; other < ops_.size(); ++other) {
    const Op& op = ops_[other];
    const bool before = op.kind != Kind::kNone && op.kind != Kind::kSuspend &&
                        op.session == barrier.session && op.invoked < barrier.invoked;
    if (!before || op.returned || op.settled) continue;
    return Violated("C9", absl::StrCat("barrier ", id, " is done before operation ", other,
                                       ", which was begun before it"));
  }
  std::erase_if(undurable_, [&](const Undurable& y) {
    if (!WasBefore(y, barrier)) return false;
    if (y.acked >= crashed_) MakeDurable(y.block, y.op);
    return true;
  });
}

// Its data is there after a crash, so its pre-flush had succeeded.
void ContractJudge::BarrierSurvived(const Op& barrier) {
  const std::vector<Undurable> all = undurable_;
  for (const Undurable& y : all) {
    if (y.acked < crashed_ && WasBefore(y, barrier)) MakeDurableLate(y.block, y.op);
  }
}

void ContractJudge::ReadReturned(uint64_t id, const Op& op, const std::vector<uint64_t>& values) {
  // It spans a crash: what it saw was decided before that.
  if (BeforeCrash(op)) return;
  for (uint64_t i = 0; i < op.range.count; ++i) {
    CheckRead(id, op, op.range.first + i, values[i]);
  }
}

void ContractJudge::CheckRead(uint64_t id, const Op& op, uint64_t b, uint64_t value) {
  Block& block = blocks_[b];
  bool known = false;
  bool legal = false;
  for (const Candidate& c : block.candidates) {
    if (c.value != value) continue;
    known = true;
    legal = legal || c.dead >= op.invoked;
  }
  const std::string what = absl::StrCat("read ", id, " of block ", b, " saw ", value);
  if (!known) return Violated("C3/C4/C5", what + ", which is lost or was never to be seen", b);
  if (!legal) return Violated("C1/C2", what + ", which was overwritten before", b);
  Saw(op, block, value);
}

void ContractJudge::Saw(const Op& op, Block& block, uint64_t value) {
  uint64_t matching = 0;
  Candidate seen;
  for (const Candidate& c : block.candidates) {
    if (c.value != value || c.dead < op.invoked) continue;
    ++matching;
    seen = c;
  }
  const bool certain = matching == 1;
  if (certain && seen.initial) {
    // C4: it is fixed.
    for (const Candidate& c : block.candidates) {
      if (c.initial && c.op != seen.op) block.ruled_out.emplace_back(c.op, seen.before_crash);
    }
    std::erase_if(block.candidates,
                  [&](const Candidate& c) { return c.initial && c.op != seen.op; });
    if (seen.op != 0 && ops_[seen.op].kind == Kind::kBarrier) BarrierSurvived(ops_[seen.op]);
  } else if (std::any_of(block.candidates.begin(), block.candidates.end(), [&](const auto& c) {
               return c.value == value && c.initial && c.dead >= op.invoked;
             })) {
    // Zeros of one of several writes: at least it was none of those with data.
    std::erase_if(block.candidates, [&](const Candidate& c) {
      return c.initial && c.value != value && matching > 0 && c.dead == kNever &&
             AllInitial(block, value, op.invoked);
    });
  }
  for (Candidate& y : block.candidates) {
    if (y.value == value) {
      // One that may take effect again is not settled by having been seen.
      if (!certain || y.op != seen.op || y.again) continue;
      y.effective = std::min(y.effective, now_);
      y.observed = now_;
      continue;
    }
    // Whatever was over before the read began, and is not what it saw, is gone.
    if (y.closed < op.invoked) y.dead = std::min(y.dead, now_);
    // C2: seen before, and now this.
    if (y.observed == 0 || y.observed >= op.invoked) continue;
    y.dead = std::min(y.dead, now_);
    if (certain) y.killers.push_back(seen.op);
  }
  if (certain) Overwrite(block, seen);
}

bool ContractJudge::AllInitial(const Block& block, uint64_t value, Tick invoked) {
  return std::all_of(block.candidates.begin(), block.candidates.end(), [&](const Candidate& c) {
    return c.value != value || c.dead < invoked || c.initial;
  });
}

}  // namespace weir::sim
