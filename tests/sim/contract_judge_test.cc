// The judge is judged: histories that the contract allows, and hand-made ones that it must reject.
#include "tests/sim/contract_judge.h"

#include <string>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/strings/match.h"
#include "gtest/gtest.h"

namespace weir::sim {
namespace {

constexpr uint64_t kFirst = 0;  // what a block holds at the beginning
constexpr uint64_t kA = 101, kB = 102, kC = 103;

// A history of one block, or of block 1 where a case needs another. Operations are named by the order of their calls.
class Script {
 public:
  explicit Script(uint64_t session = 1) { Activate(session); }

  void Activate(uint64_t session, bool resumed = false) {
    session_ = session;
    judge_.Activated(SessionId{session}, resumed);
  }
  void As(uint64_t session) { session_ = session; }
  // The clients of these go on in it.
  void Resume(uint64_t session, const std::vector<OpId>& ops) {
    for (const OpId op : ops) judge_.GoesOn(op, SessionId{session});
    Activate(session, /*resumed=*/true);
  }
  OpId Begin(uint64_t value, bool fua = false, uint64_t block = 0) {
    judge_.WriteInvoked(Next(), Session(), {block, 1}, value, fua);
    return last_;
  }
  OpId BeginBarrier(uint64_t value) {
    judge_.BarrierInvoked(Next(), Session(), {0, 1}, value);
    return last_;
  }
  OpId BeginFlush() {
    judge_.FlushInvoked(Next(), Session());
    return last_;
  }
  OpId BeginSuspend() {
    judge_.SuspendInvoked(Next(), Session());
    return last_;
  }
  OpId BeginRead(uint64_t block = 0) {
    judge_.ReadInvoked(Next(), Session(), {block, 1});
    return last_;
  }
  void Ok(OpId op, std::vector<uint64_t> values = {}) { judge_.Returned(op, {.ok = true}, values); }
  void Fails(OpId op, bool nothing_written = false) {
    judge_.Returned(op, {.ok = false, .nothing_written = nothing_written}, {});
  }
  void Write(uint64_t value, bool fua = false, uint64_t block = 0) { Ok(Begin(value, fua, block)); }
  void Flush() { Ok(BeginFlush()); }
  void Read(uint64_t value, uint64_t block = 0) { Ok(BeginRead(block), {value}); }

  const std::string& violation() const { return judge_.violation(); }

 private:
  SessionId Session() const { return SessionId{session_}; }
  OpId Next() { return last_ = OpId{static_cast<uint64_t>(last_) + 1}; }

  ContractJudge judge_{2, ContractJudge::Order::kSubmitted};
  uint64_t session_ = 1;
  OpId last_{0};
};

struct Case {
  const char* name;
  void (*history)(Script&);
  std::vector<uint64_t> legal;  // what a read after it may return; all other values are rejected
};

// The worked cases of the contract, as values that the next reader may see.
const Case kCases[] = {
    {"acked, crash", [](Script& s) { s.Write(kA); s.Activate(2); }, {kFirst, kA}},
    {"acked, flushed, crash", [](Script& s) { s.Write(kA); s.Flush(); s.Activate(2); }, {kA}},
    {"acked, flush without a reply, crash",
     [](Script& s) { s.Write(kA); s.BeginFlush(); s.Activate(2); }, {kFirst, kA}},
    {"in flight when the flush is sent, crash",
     [](Script& s) {
       const OpId write = s.Begin(kA);
       const OpId flush = s.BeginFlush();
       s.Ok(flush);
       s.Ok(write);
       s.Activate(2);
     },
     {kFirst, kA}},
    {"a, b, flushed, c, crash",
     [](Script& s) { s.Write(kA); s.Write(kB); s.Flush(); s.Write(kC); s.Activate(2); },
     {kB, kC}},
    {"overlapping a and b, flushed, crash",
     [](Script& s) {
       const OpId a = s.Begin(kA);
       const OpId b = s.Begin(kB);
       s.Ok(a);
       s.Ok(b);
       s.Flush();
       s.Activate(2);
     },
     {kA, kB}},
    {"overlapping a and b, a seen and then b, flushed, crash",
     [](Script& s) {
       const OpId a = s.Begin(kA);
       const OpId b = s.Begin(kB);
       s.Read(kA);
       s.Read(kB);
       s.Ok(a);
       s.Ok(b);
       s.Flush();
       s.Activate(2);
     },
     {kB}},
    {"failed write", [](Script& s) { s.Fails(s.Begin(kA)); }, {kFirst, kA}},
    {"acked, flush failed, crash",
     [](Script& s) { s.Write(kA); s.Fails(s.BeginFlush()); s.Activate(2); }, {kFirst, kA}},
    {"acked, flush failed, flush, crash",
     [](Script& s) { s.Write(kA); s.Fails(s.BeginFlush()); s.Flush(); s.Activate(2); }, {kA}},
    {"never returned and seen, crash",
     [](Script& s) { s.Begin(kA); s.Read(kA); s.Activate(2); }, {kFirst, kA}},
    {"FUA, crash", [](Script& s) { s.Write(kA, /*fua=*/true); s.Activate(2); }, {kA}},
    {"crash, seen, crash",
     [](Script& s) { s.Write(kA); s.Activate(2); s.Read(kA); s.Activate(3); }, {kA}},
    {"acked, the frontend is replaced, the client lives",
     [](Script& s) { s.Write(kA); s.Activate(2, /*resumed=*/true); }, {kA}},
    {"in flight and seen, the frontend is replaced, the client lives",
     [](Script& s) { s.Begin(kA); s.Read(kA); s.Activate(2, /*resumed=*/true); }, {kA}},
    {"answered only after the frontend was replaced, the client lives",
     [](Script& s) {
       const OpId write = s.Begin(kA);
       s.Activate(2, /*resumed=*/true);
       s.As(1);
       s.Ok(write);
       s.As(2);
     },
     {kA}},
    {"flush answered only after the frontend was replaced, then a crash",
     [](Script& s) {
       s.Write(kA);
       const OpId flush = s.BeginFlush();
       s.Activate(2, /*resumed=*/true);
       s.As(1);
       s.Ok(flush);
       s.Activate(3);
     },
     {kA}},
    {"barrier, crash", [](Script& s) { s.Ok(s.BeginBarrier(kA)); s.Activate(2); }, {kA}},
    {"barrier that wrote nothing",
     [](Script& s) { s.Fails(s.BeginBarrier(kA), /*nothing_written=*/true); }, {kFirst}},
    {"zeroed and flushed, crash",
     [](Script& s) { s.Write(kA); s.Write(0); s.Flush(); s.Activate(2); }, {0}},
};

TEST(ContractJudgeTest, AllowsExactlyTheValuesOfTheWorkedCases) {
  for (const Case& one : kCases) {
    for (uint64_t value : {kFirst, kA, kB, kC}) {
      Script script;
      one.history(script);
      ASSERT_EQ(script.violation(), "") << one.name;
      script.Read(value);
      const bool legal = absl::c_linear_search(one.legal, value);
      EXPECT_EQ(script.violation().empty(), legal)
          << one.name << ", then " << value << ": " << script.violation();
    }
  }
}

// "C12: makes durable only itself, not earlier writes."
TEST(ContractJudgeTest, AFuaWriteCoversNoOtherBlock) {
  for (uint64_t value : {kFirst, kB}) {
    Script script;
    script.Write(kB, /*fua=*/false, /*block=*/1);
    script.Write(kA, /*fua=*/true);
    script.Activate(2);
    script.Read(value, /*block=*/1);
    EXPECT_EQ(script.violation(), "") << value;
  }
}

struct Illegal {
  const char* predicate;
  const char* name;
  void (*history)(Script&);
};

const Illegal kIllegal[] = {
    {"C1", "a read of what was overwritten before it began",
     [](Script& s) { s.Write(kA); s.Write(kB); s.Read(kA); }},
    {"C2", "back to what one read has already seen replaced",
     [](Script& s) {
       const OpId a = s.Begin(kA);
       const OpId b = s.Begin(kB);
       s.Read(kA);
       s.Read(kB);
       s.Ok(a);
       s.Ok(b);
       s.Read(kA);
     }},
    {"C3", "a flushed write is gone after a crash",
     [](Script& s) { s.Write(kA); s.Flush(); s.Activate(2); s.Read(kFirst); }},
    {"C4", "the value after a crash changes at the next one",
     [](Script& s) { s.Write(kA); s.Activate(2); s.Read(kFirst); s.Activate(3); s.Read(kA); }},
    {"C4", "two readers after a crash see different values",
     [](Script& s) { s.Write(kA); s.Activate(2); s.Read(kA); s.Read(kFirst); }},
    {"C5", "a write begun after the takeover is acknowledged",
     [](Script& s) { s.Activate(2); s.As(1); s.Write(kA); }},
    {"C5", "a flush begun after the takeover is acknowledged",
     [](Script& s) { s.Activate(2); s.As(1); s.Flush(); }},
    {"C5", "a write begun after the takeover is seen",
     [](Script& s) { s.Activate(2); s.As(1); s.Begin(kA); s.As(2); s.Read(kA); }},
    {"C1", "an acknowledged write is lost over a resume (C6)",
     [](Script& s) { s.Write(kA); s.Activate(2, /*resumed=*/true); s.Read(kFirst); }},
    {"C1", "an unanswered write lands after the frontend was replaced and it was not there",
     [](Script& s) {
       s.Begin(kA);
       s.Activate(2, /*resumed=*/true);
       s.Read(kFirst);
       s.Read(kA);
     }},
    {"C1", "a write that goes on is answered, and lands once more after it was overwritten",
     [](Script& s) {
       const OpId a = s.Begin(kA);
       s.Resume(2, {a});
       s.Ok(a);
       s.Write(kB);
       s.Read(kA);
     }},
    {"C1", "a write that goes on is answered, and lost",
     [](Script& s) {
       const OpId a = s.Begin(kA);
       s.Resume(2, {a});
       s.Ok(a);
       s.Read(kFirst);
     }},
    {"C1", "a write that goes on ends with the next session, unless its client goes on again",
     [](Script& s) {
       s.Resume(2, {s.Begin(kA)});
       s.Activate(3, /*resumed=*/true);
       s.Read(kFirst);
       s.Read(kA);
     }},
    {"C1", "a write that goes on was seen and overwritten, and comes again after its answer",
     [](Script& s) {
       const OpId a = s.Begin(kA);
       s.Resume(2, {a});
       s.Read(kA);
       s.Ok(a);
       s.Write(kB);
       s.Read(kA);
     }},
    {"C1", "a write that goes on was seen, and what it had overwritten comes back",
     [](Script& s) {
       s.Resume(2, {s.Begin(kA)});
       s.Read(kA);
       s.Read(kFirst);
     }},
    {"C5", "a write that says that nothing was written had been seen",
     [](Script& s) {
       const OpId a = s.Begin(kA);
       s.Read(kA);
       s.Fails(a, /*nothing_written=*/true);
     }},
    {"C5", "a write begun after the resume by the session before is acknowledged",
     [](Script& s) { s.Activate(2, /*resumed=*/true); s.As(1); s.Write(kA); }},
    {"C1", "a failed write lands after it was not there (C7)",
     [](Script& s) { s.Fails(s.Begin(kA)); s.Read(kFirst); s.Read(kA); }},
    {"C3", "a later flush does not cover what a failed one should have (C8)",
     [](Script& s) {
       s.Write(kA); s.Fails(s.BeginFlush()); s.Flush(); s.Activate(2); s.Read(kFirst);
     }},
    {"C9", "a barrier that says it wrote nothing had been seen",
     [](Script& s) {
       const OpId barrier = s.BeginBarrier(kA);
       s.Read(kA);
       s.Fails(barrier, /*nothing_written=*/true);
     }},
    {"C9", "a barrier is done before what was begun before it",
     [](Script& s) { s.Begin(kA, /*fua=*/false, /*block=*/1); s.Ok(s.BeginBarrier(kB)); }},
    {"C3", "a barrier's data survives a crash, what came before it does not (C9)",
     [](Script& s) {
       s.Write(kA, /*fua=*/false, /*block=*/1);
       s.BeginBarrier(kB);
       s.Activate(2);
       s.Read(kB);
       s.Read(kFirst, /*block=*/1);
     }},
    {"C3", "a suspend that flushed covers too little (C14)",
     [](Script& s) { s.Write(kA); s.Ok(s.BeginSuspend()); s.Activate(2); s.Read(kFirst); }},
    {"C3", "data from nowhere (C10)", [](Script& s) { s.Read(999); }},
    {"C1", "what was discarded comes back (C11)",
     [](Script& s) { s.Write(kA); s.Write(0); s.Read(kA); }},
    {"C3", "a FUA write is gone after a crash (C12)",
     [](Script& s) { s.Write(kA, /*fua=*/true); s.Activate(2); s.Read(kFirst); }},
    {"C3", "a flush of before the crash, answered after it, covers what was already ruled out",
     [](Script& s) {
       s.Write(kA);
       const OpId flush = s.BeginFlush();
       s.Activate(2);
       s.Read(kFirst);
       s.As(1);
       s.Ok(flush);
     }},
};

TEST(ContractJudgeTest, RejectsHistoriesThatBreakThePredicates) {
  for (const Illegal& one : kIllegal) {
    Script script;
    one.history(script);
    EXPECT_TRUE(absl::StrContains(script.violation(), one.predicate))
        << one.name << ": '" << script.violation() << "'";
  }
}

TEST(ContractJudgeTest, AWriteThatGoesOnMayLandInTheNextSessionThoughItWasNotThere) {
  Script script;
  const OpId a = script.Begin(kA);
  const OpId flush = script.BeginFlush();
  script.Resume(2, {a, flush});
  script.Read(kFirst);
  script.Read(kA);
  script.Ok(a);
  script.Ok(flush);
  script.Read(kA);
  EXPECT_EQ(script.violation(), "");
}

// "Resume: in-flight writes may be applied twice until acked."
TEST(ContractJudgeTest, AWriteThatGoesOnMayBeAppliedTwice) {
  Script script;
  const OpId a = script.Begin(kA);
  script.Read(kA);
  script.Write(kB, /*fua=*/true);
  script.Resume(2, {a});
  script.Read(kB);
  script.Read(kA);
  script.Ok(a);
  EXPECT_EQ(script.violation(), "");
}

TEST(ContractJudgeTest, AWriteThatGoesOnMayBeSeenAndOverwrittenBeforeItIsAppliedAgain) {
  Script script;
  const OpId a = script.Begin(kA);
  script.Resume(2, {a});
  script.Read(kA);
  script.Write(kB, /*fua=*/true);
  script.Read(kB);
  script.Read(kA);
  script.Ok(a);
  script.Read(kA);
  EXPECT_EQ(script.violation(), "");
}

// "C13: EIO on read or write is always safe."
TEST(ContractJudgeTest, ErrorsAreSafe) {
  Script script;
  script.Write(kA);
  script.Fails(script.BeginRead());
  script.Fails(script.Begin(kB));
  script.Fails(script.BeginFlush());
  script.Read(kA);
  EXPECT_EQ(script.violation(), "");
}

}  // namespace
}  // namespace weir::sim
