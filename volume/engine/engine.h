// The volume's engine: everything that decides about order, errors and time.
//
// A deterministic state machine. Each event method changes the state and
// appends effects, to be carried out in order. It does no I/O, reads no clock
// (events carry the time), starts no thread. DESIGN.md describes the rules;
// testdata/*.txt holds a transcript for each.
//
// Thread-safety: none. The host runs an engine under one mutex and carries the
// effects out after it has let go of it, in order.
//
// Life: made by a finished takeover (takeover.h), for one epoch. It ends when its owner drops
// it: after a detach (Suspend, then delete) or when Fenced().
#ifndef WEIR_VOLUME_ENGINE_ENGINE_H_
#define WEIR_VOLUME_ENGINE_ENGINE_H_

#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "volume/engine/stats.h"
#include "volume/engine/types.h"
#include "volume/engine/view.h"

namespace weir::engine {

struct Options {
  uint64_t size_blocks = 0;
  LaneGeometry lanes;
  Epoch epoch = 1;
  // A clone: reads say which blocks it has nothing of, and zeroes leave something in every block.
  bool overlay = false;
  // As the takeover has told every member.
  std::vector<Pin> pins;
  uint32_t min_in_sync = 1;

  // How long a target may be away before it leaves the volume, if min_in_sync members remain; one
  // that has failed leaves at once. Infinite: nobody leaves but by a table, and nobody is brought back.
  absl::Duration leave_after = absl::Milliseconds(700);
  // How long requests are held for what may pass: a target that is away and may not leave, a
  // catalog that does not answer, fewer than min_in_sync members. Then they fail with EIO.
  absl::Duration hold_deadline = absl::Minutes(5);
  // Before a catalog change whose outcome is not known is tried again, or a question that was not answered.
  absl::Duration commit_retry_delay = absl::Milliseconds(200);
  // Reads are sent only while every member has said within this time, counted from when it was
  // asked, that it serves this epoch: a takeover that cannot reach a member waits as long.
  absl::Duration lease = absl::Seconds(3);
  // A member is slow if, in so many windows of this length in a row, the 99th percentile of its
  // answer times to writes and flushes was at least slow_floor, and slow_factor times the
  // highest of the other members'. It leaves if it may, and is brought back after slow_pause; after
  // twice that if it happens again soon. Infinite window: slowness is no reason to leave.
  absl::Duration slow_window = absl::Seconds(10);
  uint32_t slow_windows = 3;
  absl::Duration slow_floor = absl::Milliseconds(100);
  uint32_t slow_factor = 8;
  absl::Duration slow_pause = absl::Minutes(1);
  absl::Duration slow_pause_max = absl::Hours(1);
  // Between two attempts to connect.
  absl::Duration reconnect_delay = absl::Milliseconds(200);
  // How long one target may go on answering REQUEUE, or take clones on one session
  // after the other and answer none, before it has failed.
  absl::Duration requeue_deadline = absl::Seconds(30);
  // Before a requeued clone is sent again.
  absl::Duration requeue_delay = absl::Milliseconds(20);
  // How long a connected target may leave a clone unanswered before its
  // session is dropped and made anew, and, in all, before it has failed.
  absl::Duration clone_deadline = absl::Seconds(10);
  // Before a member that has left is brought back; doubled after each failure, up to the maximum.
  absl::Duration join_delay = absl::Seconds(1);
  absl::Duration join_delay_max = absl::Minutes(1);
  // The budget that the copying leaves to clients: beside them at most so much is copied a second
  // (0: no limit), in small steps, and it rests at least as long as it worked.
  uint64_t join_bytes_per_second = 64 << 20;
  // What is copied at a time; beside clients less, so that no request waits behind much of it.
  uint64_t join_step_bytes = 4 << 20;
  uint64_t join_step_bytes_beside_clients = 512 << 10;
  // How often all members are compared, counted from the end of the last scrub, and when the first one
  // after an attach begins. Infinite: only when asked for. Beside clients it rests as long as it works.
  absl::Duration scrub_every = absl::Hours(7 * 24);
  absl::Duration scrub_first_after = absl::Hours(1);
  uint64_t scrub_bytes_per_second = 32 << 20;  // read on each member; 0: no limit
  // Writes since a member left, beyond which what has changed is no longer kept for it and
  // it is copied whole; some 40 bytes each on every replica.
  uint64_t keep_changes_max = 4 << 20;
  // For every member to have been told of a pin, while nothing else goes on; or of a new size.
  absl::Duration update_deadline = absl::Seconds(5);
  // The engine flushes by itself so that what a crash may lose stays bounded.
  absl::Duration flush_interval = absl::Seconds(1);
  uint64_t flush_bytes = 16 << 20;
  // Payload kept for targets that may have to be refilled. At the limit new
  // writes wait. REQUIRES: at least flush_bytes and the largest request.
  uint64_t replay_bytes_max = 48 << 20;
  // Requests that wait or run; at the limit the host must hold its clients back (see full()).
  uint64_t requests_max = 4096;

  absl::Status Validate() const;
};

class Engine {
 public:
  // `table` as the takeover committed it. The engine asks for connections to
  // every in_sync target at once; requests wait until they stand.
  // REQUIRES: options.Validate().ok().
  Engine(Options options, Table table, Time now, Effects& effects);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // --- events ---
  // Completed by exactly one CompleteRequest. REQUIRES: request.id not in use.
  void Submit(Request request, Time now, Effects& effects);
  // Replies to unknown clones (of an older session) are ignored.
  void CloneCompleted(TargetId target, CloneId clone, CloneReply reply,
                      Time now, Effects& effects);
  void TargetConnected(TargetId target, const TargetHello& hello, Time now,
                       Effects& effects);
  // `result`: ESTALE is fenced; all else means lost, to be reconnected.
  void TargetLost(TargetId target, Result result, std::string reason, Time now,
                  Effects& effects);
  // The target has, or has no longer, room for more data. While any target has
  // none, writes get ENOSPC before they are numbered, so nobody is left behind.
  void TargetSpaceChanged(TargetId target, bool exhausted, Time now,
                          Effects& effects);
  // The answer to PingTarget, on the target's current session.
  void TargetPonged(TargetId target, uint64_t ping, Time now, Effects& effects);
  // To be called once `now` reaches next_timer().
  void TimerFired(Time now, Effects& effects);

  // Completed by exactly one CompleteControl. deadline: how long it may take.
  void Suspend(ControlId id, bool noflush, absl::Duration deadline, Time now,
               Effects& effects);
  void Resume(ControlId id, Time now, Effects& effects);
  // REQUIRES suspended, else EBUSY. A target may change its address, become `out`, or be brought
  // back (kOut without stays_out: joining). Others come only as joining: in a target's place
  // (`replaces`), or beside the one that leaves once they are in sync (`succeeds`). Where members
  // leave at least min_in_sync must remain, where their place is taken at least one. EINVAL otherwise.
  void LoadTable(ControlId id, Table table, Time now, Effects& effects);
  // From suspended (else EBUSY) to restoring: requests wait as before, but those that are `in_lock` are carried out, and
  // members leave and come back. Answered once all that was begun before has ended and is durable on every member, and each is
  // there or gone from the catalog: that takes effect before what restores, what waits comes after. Else (ETIMEDOUT, or a failed member's errno) nothing is
  // restored, and it is suspended as by noflush. EBUSY too if a table was loaded, or a range is locked. While it is
  // restoring: the same again. Suspend, Resume and LoadTable are EBUSY until it is suspended again.
  void StartRestore(ControlId id, absl::Duration deadline, Time now, Effects& effects);
  // Flushes what was restored; then the volume is suspended as if by Suspend. On an error, ETIMEDOUT too, it goes on restoring.
  void EndRestore(ControlId id, absl::Duration deadline, Time now, Effects& effects);
  // Sets a pin at a barrier: what was submitted before is in it, what comes after is not, and every member
  // has it durably, or none keeps it. `pin` is not 0, and never used again. `deadline`: for its turn among
  // the requests; then it is ETIMEDOUT. The answer says where it is.
  void SetPin(ControlId id, uint64_t pin, absl::Duration deadline, Time now, Effects& effects);
  // Nobody needs it any more. Members are told as soon as they can be, whoever joins later never hears of it.
  void DropPin(uint64_t pin, Time now, Effects& effects);
  // Answered once no write to the range is under way; until UnlockRange none begins but those that are
  // `in_lock`, and no barrier. One range at a time, else EBUSY.
  void LockRange(ControlId id, BlockRange range, Time now, Effects& effects);
  void UnlockRange(Time now, Effects& effects);
  // OK once every member has room for that size. EINVAL: it is smaller than the present one.
  // ETIMEDOUT: not all have it; harmless, and may be tried again.
  void Grow(ControlId id, uint64_t size_blocks, Time now, Effects& effects);
  // The answer to CommitMembers. ABORTED: another frontend has changed the record, so this
  // one is fenced. Any other error: the outcome is unknown.
  void MembersCommitted(absl::Status status, Time now, Effects& effects);
  // The answer to CheckEpoch. OK: it is. ABORTED: another frontend has the volume, so this one is fenced. Any
  // other error: not known, to be asked again.
  void EpochChecked(absl::Status status, Time now, Effects& effects);
  void JoinStepDone(uint64_t step, JoinStepResult result, Time now, Effects& effects);
  // Begins a scrub unless one runs; ends the one that runs.
  void StartScrub(Time now, Effects& effects);
  void StopScrub(Time now, Effects& effects);

  // --- observation ---
  // When TimerFired is due; absl::InfiniteDuration() if never.
  Time next_timer() const;
  bool fenced() const;
  // No more requests should be submitted for now.
  bool full() const;
  EngineView View() const;
  // Looks at all that waits, and at the replay buffer.
  Stats GetStats() const;

 private:
  class State;
  std::unique_ptr<State> state_;
};

}  // namespace weir::engine

#endif  // WEIR_VOLUME_ENGINE_ENGINE_H_
