// The history of one run as its clients saw it: each call is recorded before it is made, each
// answer after it has come, in one total order, and judged by the contract as it grows.
//
// Thread-safety: safe. One mutex gives the order; an answer that is recorded late only widens its call's
// interval, so the judge stays sound.
#ifndef WEIR_TESTS_CHAOS_HISTORY_H_
#define WEIR_TESTS_CHAOS_HISTORY_H_

#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "proto/base/position.h"
#include "tests/sim/contract_judge.h"

namespace weir::chaos {

enum class Kind { kRead, kWrite, kZero, kDiscard, kFlush, kBarrier };

struct Request {
  Kind kind = Kind::kRead;
  BlockRange range;  // not of a flush
  bool fua = false;
};

std::string ToString(const Request& request);

class History {
 public:
  using Clock = std::chrono::steady_clock;

  struct Call {
    uint64_t id = 0;  // also the value that a write must write: Contents(id, range)
    Request request;
    // Its session. Of a client that goes on: the newest one when it was begun, whatever session the
    // client is in. A newer one may answer it, an older one no more.
    Epoch epoch = 0;
    bool goes_on = false;
    std::string who;
    Clock::time_point begun;
  };

  // Since the beginning; `longest` since the last report.
  struct Counts {
    uint64_t answered = 0, flushes = 0, reads = 0, writes = 0;
    uint64_t errors = 0;      // answered with an error, which no client should see
    uint64_t refused = 0;     // errors of a session that another one has replaced
    uint64_t no_space = 0;    // writes that failed with ENOSPC while they might
    uint64_t unanswered = 0;  // their connection broke
    uint64_t waiting = 0;     // calls under way
    uint64_t stale = 0;       // of these, those of an earlier session
    Epoch epoch = 0;
    Clock::time_point first{};  // when this epoch's session has answered for the first time, and well
    Clock::duration longest{};  // of those answered since the last report
    Clock::duration oldest{};   // of those under way
  };

  // All blocks hold zeros at first.
  explicit History(uint64_t blocks) : judge_(blocks, sim::ContractJudge::Order::kCalled) {}

  // A client has found the volume served under this epoch. The clients live on when one frontend replaces another,
  // so nothing they were answered may be lost.
  void Activated(Epoch epoch);

  // A disk is full, or is no more: a write may fail with ENOSPC, which is no error then.
  void LackOfSpace(bool may_be);

  // Call it before the request goes out. `goes_on`: the client may be answered by a later session than the one
  // that it is in.
  Call Begin(const Request& request, Epoch epoch, absl::string_view who, bool goes_on = false);
  // `epoch`: of the session that has answered. `data`: of a read that is OK.
  void Answered(const Call& call, Epoch epoch, const absl::Status& status, absl::string_view data);
  // What became of it is not known, except that no session after this one was asked for it.
  void Unanswered(const Call& call, Epoch epoch);

  Counts TakeCounts();
  // The next thing to tell people, a line without its end; empty: none. "violation ..." is
  // final, and "trail ..." that follow it are what was done before to the block that it is about;
  // "error ..." are only the first ones.
  std::string NextNews();
  bool violated() const;

 private:
  struct Waiting {
    Epoch epoch = 0;  // the newest that may answer it
    Clock::time_point begun;
    bool goes_on = false;
  };

  // One event of a call.
  struct Step {
    Clock::time_point at;
    const char* what = "";  // "begun", "answered", "broken"
    Call call;
    Epoch epoch = 0;   // of the session that it comes from
    Epoch newest = 0;  // that was known then
    absl::Status status;
  };

  void Activate(Epoch epoch) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Fail(const Call& call, Epoch epoch) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Count(const Call& call, Epoch epoch) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void NoteError(const Call& call, Epoch epoch, const absl::Status& status)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void NoteViolation(const Call& call, Epoch epoch, const std::string& what)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  void Note(const char* what, const Call& call, Epoch epoch, const absl::Status& status = {})
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The last steps that touch `range`, and the flushes between them, become news.
  void TellTrail(BlockRange range) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  bool LacksSpace(const Call& call, const absl::Status& status) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  mutable absl::Mutex mutex_;
  sim::ContractJudge judge_ ABSL_GUARDED_BY(mutex_);
  uint64_t last_id_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<uint64_t, Waiting> waiting_ ABSL_GUARDED_BY(mutex_);
  Counts counts_ ABSL_GUARDED_BY(mutex_);
  std::deque<std::string> news_ ABSL_GUARDED_BY(mutex_);
  std::deque<Step> trail_ ABSL_GUARDED_BY(mutex_);  // the last ones of all
  bool may_lack_space_ ABSL_GUARDED_BY(mutex_) = false;
  bool violated_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace weir::chaos

#endif  // WEIR_TESTS_CHAOS_HISTORY_H_
