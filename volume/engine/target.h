// One replica as the table sees it.
#ifndef WEIR_VOLUME_ENGINE_TARGET_H_
#define WEIR_VOLUME_ENGINE_TARGET_H_

#include <array>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "volume/engine/answer_times.h"
#include "volume/engine/types.h"
#include "volume/engine/view.h"

namespace weir::engine {

inline constexpr uint64_t kNoRun = 0;

// A clone that was sent and not answered on the current session.
struct InflightClone {
  RequestKind kind = RequestKind::kRead;
  LaneId lane{};
  uint64_t n = 0;          // write-like
  uint32_t flush_nr = 0;   // flush
  uint64_t run = kNoRun;        // flush: the FlushRun's number; kNoRun: a joiner's own
  RequestId request{};     // read-like
  uint32_t fragment = 0;   // read-like
  uint64_t bytes = 0;      // against the credit
  Time sent{};
  uint64_t requeue_round = 0;
};

// Trouble that comes again and again without a success in between.
struct Streak {
  std::optional<Time> since;
  Time unbroken_since{};
  Time last{};
  uint32_t count = 0;

  // Once more, at `now`, having begun at `start`; trouble more than `gap` ago was another's. `unbroken`: it is what there
  // was the last time, still.
  void Note(Time start, Time now, absl::Duration gap, bool unbroken = true);
  // It went on meanwhile, in another form, since `start`.
  void GoOn(Time start, Time now, absl::Duration gap);
  void End() { *this = Streak(); }
  // How long it has gone on.
  absl::Duration length(Time now) const { return since ? now - *since : absl::ZeroDuration(); }
};

// Kept apart for reads, writes and flushes: the success of one kind must not hide that
// another never gets through, or that one would be asked for ever.
struct Patience {
  Streak requeues;
  Streak stalls;  // sessions that ended with clones of this kind unanswered
};

// Thread-safety: none. Plain data with the few rules that need only itself.
//
//   kConnecting --TargetConnected--> kConnected --TargetLost--> kConnecting
//   kConnecting, kConnected --an error, or no answer for the hold deadline--> kFailed
//   any --the catalog has a table without it--> kOut
//
// All but kOut are members, except one that is joining (join.cc), which is kConnecting or
// kConnected meanwhile, and kOut again if that fails. A member that is away for long, or is there and answers nothing, or has failed, is
// `leaving` if enough others remain: requests are held until the catalog has it out. If it may not leave,
// requests that need it fail: at once if it has failed, else once it is overdue. A kConnecting one
// may always come back and be refilled. One whose process is another than before stays kConnecting until the
// catalog has been asked (membership.cc).
struct Target {
  using Health = TargetView::Health;

  TargetId id{};
  TargetConfig config;
  Health health = Health::kConnecting;
  Time since{};               // when health last changed
  bool leaving = false;       // it should go
  // The catalog may have it out already, or not in yet: an answer to that effect has not come. Acknowledgements
  // need it still, reads must not use it.
  bool in_doubt = false;
  bool asked_out = false;     // the last change that the catalog was asked for has it out
  // Failed, and may leave once another one has been brought back: requests are held meanwhile.
  bool has_hope = false;
  bool told_condemned = false;  // what needs it has been failed
  bool overdue = false;
  // Being brought back: it gets all writes after the join's position and is kept account of, but is no member.
  bool joining = false;
  bool joint = false;         // ... and acknowledgements need it already
  Time left{};                // it is no member since
  Time join_not_before{};
  absl::Duration join_delay;  // after the next failure
  Result failure;             // kFailed, overdue: what requests that need it get
  std::string reason;

  // As announced by the last hello that counts.
  TargetHello hello;
  std::optional<TargetHello> unchecked;  // of the present session, and does not count yet
  uint64_t check = 0;                    // from this check of the epoch on it does
  bool flush_supported = true;

  absl::flat_hash_map<CloneId, InflightClone> inflight;
  uint64_t inflight_bytes = 0;
  std::deque<std::pair<Time, CloneId>> sent_order;  // oldest first; the front is in flight

  Time lease_until = -absl::InfiniteDuration();  // see Options::lease
  Time asked_to_connect{};
  Time away_since{};                     // before this session
  uint64_t ping = 0;                     // number of the last one
  bool pinging = false;                  // it has not been answered
  Time pinged = -absl::InfiniteDuration();

  Time backoff_until{};                  // after a requeue: busy until then
  uint64_t requeue_round = 0;            // raised by each requeue of a write
  bool answered_session = false;         // this session has brought an answer
  std::array<Patience, 3> patience;      // see PatienceFor

  // See pins.cc.
  uint64_t updated = 0;       // version of what it has been told
  uint64_t updating_to = 0;   // of what it is being told by `update_step`
  uint64_t update_step = 0;   // that is awaited; 0: none
  Time update_not_before{};

  // See slow.cc.
  AnswerTimes answer_times;              // of this window
  uint32_t slow_windows = 0;             // so many in a row, until now
  absl::Duration answer_p99;             // of the last window that said something; and the
  absl::Duration others_p99;             // highest of the other members then
  absl::Duration slow_pause;             // before it is brought back; after the next time, twice that

  bool space_exhausted = false;          // it admits no more data: ENOSPC

  uint64_t errors = 0;
  uint64_t hidden_errors = 0;            // see Stats
  uint64_t repaired_blocks = 0;
  uint64_t lost_versions = 0;  // it was brought back without
  uint64_t requeues = 0;

  // It is, or may again be, part of the table: the replay buffer keeps what it lacks.
  bool counts() const {
    return health == Health::kConnecting || health == Health::kConnected;
  }
  bool member() const { return health != Health::kOut && !joining; }
  // What needs it is not held but fails.
  bool condemned() const {
    return member() && (overdue || (health == Health::kFailed && !leaving && !has_hope));
  }
  // Acknowledgements need it.
  bool needed() const { return member() || joint; }
  // A write completes when every target that is waited for has it.
  bool waited_for() const { return needed() && !condemned(); }
  // Reads may go to it.
  bool readable() const { return connected() && member() && !leaving && !in_doubt; }
  bool connected() const { return health == Health::kConnected; }
  // dm's busy(): nothing new should be mapped to it now.
  bool busy(Time now) const {
    return !connected() || inflight_bytes >= hello.inflight_bytes_max ||
           now < backoff_until;
  }
  // When the oldest unanswered clone was sent.
  std::optional<Time> oldest_sent() const {
    if (sent_order.empty()) return std::nullopt;
    return sent_order.front().first;
  }
  Patience& PatienceFor(RequestKind kind);
  void NoteProgress(RequestKind kind) { PatienceFor(kind) = Patience(); }
  void ForgetRequeues();
  // Takes an answered clone out of what is in flight; nothing if it is not there.
  std::optional<InflightClone> Take(CloneId id);
  // Forgets what is in flight: the session is gone.
  void DropInflight();
};

}  // namespace weir::engine

#endif  // WEIR_VOLUME_ENGINE_TARGET_H_
