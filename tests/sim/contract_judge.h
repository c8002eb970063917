// Judges a recorded history by the contract that clients are given: DESIGN.md, "What a client may
// rely on". Knows nothing of how the volume works.
//
// For each block it keeps the writes that may still be what the block holds, with when each took effect
// at the latest, since when it is known to be overwritten, and by whom. With one value a write a read
// names the write it saw, so no search is needed (Gibbons and Korach, "Testing shared memories", 1997).
//
// Reports only true violations. What it leaves open: which of several concurrent writes nobody
// has read yet came last, and which of several zeroings a read of zeros has seen.
//
// Thread-safety: none. Events come in their total order.
#ifndef WEIR_TESTS_SIM_CONTRACT_JUDGE_H_
#define WEIR_TESTS_SIM_CONTRACT_JUDGE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "proto/base/position.h"

namespace weir::sim {

// A session is one attach; they rise with the epoch.
enum class SessionId : uint64_t {};
// Unique in a history, from 1.
enum class OpId : uint64_t {};

struct Outcome {
  bool ok = false;
  // A barrier that failed before its data was written: that must never be seen.
  bool nothing_written = false;
};

class ContractJudge {
 public:
  // Of the order of invocations. kSubmitted: it is the one in which the volume got them, so a barrier's
  // promise about what was begun before it can be judged. kCalled: several clients' calls, which may
  // overtake each other on their way; it is only judged about what had been answered before it.
  enum class Order { kSubmitted, kCalled };
  ContractJudge(uint64_t blocks, Order order);

  // The session's record is ACTIVE. Fresh: the clients of all earlier ones are gone, so from here
  // on each block may hold any value that was not overwritten durably. Resumed: the same
  // clients go on, and nothing that was answered or seen is lost. Either way what earlier
  // sessions have left unanswered has taken effect by now, or never will.
  void Activated(SessionId session, bool resumed);

  // The client of an unanswered operation goes on by itself: asks for it again in `session`, which is about to
  // be ACTIVE. A write may take effect in both, once each, whoever has overwritten it between.
  void GoesOn(OpId op, SessionId session);

  // `value` is unique to the write, or 0 for zeros (WRITE_ZEROES, DISCARD).
  void WriteInvoked(OpId op, SessionId session, BlockRange range, uint64_t value, bool fua);
  // A write that makes durable what was answered before it, and itself.
  void BarrierInvoked(OpId op, SessionId session, BlockRange range, uint64_t value);
  void ReadInvoked(OpId op, SessionId session, BlockRange range);
  // What it shows is settled but for blocks that never change, which are fetched yet: a barrier need not wait for its answer.
  void ReadIsSettled(OpId op);
  void FlushInvoked(OpId op, SessionId session);
  // A suspend (or detach) that flushes: a flush that no barrier waits for.
  void SuspendInvoked(OpId op, SessionId session);
  // An operation that never returns is not reported. `values`: of an OK read, one a block.
  void Returned(OpId op, Outcome outcome, const std::vector<uint64_t>& values);

  // Empty: none. Names the predicate.
  const std::string& violation() const { return violation_; }
  // The block that it is about, if it is about one.
  std::optional<uint64_t> violated_block() const { return violated_block_; }

 private:
  using Tick = uint64_t;
  static constexpr Tick kNever = ~Tick{0};

  enum class Kind { kNone, kWrite, kBarrier, kRead, kFlush, kSuspend };
  struct Op {
    Kind kind = Kind::kNone;
    SessionId session{};
    BlockRange range;
    uint64_t value = 0;  // of a write
    bool fua = false;
    bool zombie = false;  // begun when a newer session was active
    bool returned = false;
    bool settled = false;
    Tick invoked = 0;
  };
  // A write that may be what a block holds.
  struct Candidate {
    uint64_t op = 0;        // 0: what the block held at first
    uint64_t value = 0;
    Tick invoked = 0;
    Tick effective = kNever;  // at the latest
    Tick closed = kNever;     // it cannot take effect after this
    Tick dead = kNever;       // reads invoked later must not see it
    Tick observed = 0;        // return of the last read that saw it
    bool acked = false;
    bool durable = false;
    bool again = false;     // its client goes on: until it is answered it may take effect once more
    bool gone = false;      // durably overwritten: only reads that were under way may see it
    bool initial = false;     // survived a crash: one of these is chosen by the first read
    Tick before_crash = 0;    // `effective` then
    absl::InlinedVector<uint64_t, 4> killers;
  };
  struct Block {
    std::vector<Candidate> candidates;
    // Initial candidates that a read has ruled out, and the `before_crash` of what it saw.
    std::vector<std::pair<uint64_t, Tick>> ruled_out;
  };
  struct Undurable {
    uint64_t op = 0;
    uint64_t block = 0;
    SessionId session{};
    Tick acked = 0;
  };

  Op& Begin(OpId op, SessionId session, Kind kind, BlockRange range);
  void WriteReturned(uint64_t id, Op& op, Outcome outcome);
  void ReadReturned(uint64_t id, const Op& op, const std::vector<uint64_t>& values);
  void CheckRead(uint64_t id, const Op& op, uint64_t block, uint64_t value);
  void Saw(const Op& op, Block& block, uint64_t value);
  // Every candidate that a read begun then may have seen is one that survived a crash.
  static bool AllInitial(const Block& block, uint64_t value, Tick invoked);
  // `by` overwrites what took effect before it was invoked.
  void Overwrite(Block& block, const Candidate& by);
  void FlushReturned(const Op& op);
  // C9: what came before a barrier is answered, and durable, before its data is written.
  void BarrierReturned(uint64_t id, const Op& barrier);
  bool WasBefore(const Undurable& y, const Op& barrier) const;
  void BarrierSurvived(const Op& barrier);
  void MakeDurable(uint64_t block, uint64_t op);
  // The same for an operation of before the last fresh activation that is answered after it.
  void MakeDurableLate(uint64_t block, uint64_t op);
  // Of an earlier session and before the last fresh activation, which has settled its effect.
  bool BeforeCrash(const Op& op) const { return op.session < active_ && op.invoked < crashed_; }
  // Ends what no session can bring about any more.
  void CloseUnanswered(SessionId session);
  // It may be what the block holds, for all that is known by now.
  static void Reopen(Block& block, uint64_t id, const Op& op);
  void Violated(const char* predicate, const std::string& what,
                std::optional<uint64_t> block = std::nullopt);

  // Forgets what no read that is under way may still see.
  void Prune(Block& block);

  Tick now_ = 1;
  Tick crashed_ = 0;           // the last fresh activation
  SessionId active_{};
  const Order order_;
  std::vector<Op> ops_;        // by id
  std::vector<Block> blocks_;
  std::vector<Undurable> undurable_;
  std::vector<Tick> open_reads_;  // when they were invoked
  std::string violation_;
  std::optional<uint64_t> violated_block_;
};

}  // namespace weir::sim

#endif  // WEIR_TESTS_SIM_CONTRACT_JUDGE_H_
