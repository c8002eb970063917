// What the engine keeps; the rules over it are in state.h.
#ifndef WEIR_VOLUME_ENGINE_STATE_DATA_H_
#define WEIR_VOLUME_ENGINE_STATE_DATA_H_

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "volume/engine/engine.h"
#include "volume/engine/flush_run.h"
#include "volume/engine/join.h"
#include "volume/engine/lane.h"
#include "volume/engine/op.h"
#include "volume/engine/scrub.h"
#include "volume/engine/stats.h"
#include "volume/engine/target.h"
#include "volume/engine/types.h"

namespace weir::engine {

// Thread-safety: none; the engine's own.
struct StateData {
  explicit StateData(Options options)
      : options_(std::move(options)), pins_(options_.pins), size_blocks_(options_.size_blocks) {}

  const Options options_;
  Time now_{};
  Effects* effects_ = nullptr;

  std::vector<Target> targets_;  // by TargetId; never shrinks
  std::vector<Lane> lanes_;

  std::optional<BlockRange> locked_;
  std::optional<ControlId> lock_awaited_;  // who is told once the range is free of writes

  std::deque<Request> queue_;           // not yet admitted, in order
  uint64_t queued_reads_ = 0;           // READ and EXTENTS in queue_
  uint64_t queued_barriers_ = 0;
  absl::flat_hash_map<RequestId, std::unique_ptr<Op>> ops_;
  std::deque<std::pair<RequestId, uint32_t>> unsent_reads_;  // fragments without a target now
  std::vector<std::pair<RequestId, uint32_t>> commit_waits_;  // fragments that saw what is not committed
  uint64_t replay_bytes_ = 0;
  uint64_t next_clone_ = 1;
  uint64_t read_turn_ = 0;              // breaks ties among readers

  std::deque<FlushWaiter> flushes_;     // merged into the next run
  std::vector<FlushWaiter> run_flushes_;  // those of the run
  std::optional<FlushRun> run_;
  uint64_t runs_ = 0;                   // begun
  Time run_not_before_{};               // after a requeue
  Time last_auto_flush_{};
  std::optional<Barrier> barrier_;

  EngineView::State phase_ = EngineView::State::kActive;
  bool noflush_ = false;
  bool suspend_flushed_ = false;
  EngineView::State suspended_from_ = EngineView::State::kActive;  // where it goes back to if it comes to nothing
  Result suspend_answer_;               // of a suspend that succeeds: what it was for may have failed
  std::string suspend_message_;
  bool may_restore_ = false;            // kRestoring: StartRestore has been answered with OK
  Time suspend_deadline_{};             // kRestoring: of StartRestore
  Time phase_since_{};                  // while it is kSuspending or kSuspended
  std::optional<ControlId> control_;    // awaited suspend or resume, or begin or end of a restore
  std::optional<Table> next_table_;    // loaded, for the next resume

  std::optional<Join> join_;  // at most one at a time
  uint64_t joins_ = 0;
  uint64_t next_step_ = 1;

  std::deque<Damage> damages_;           // the first one is being repaired, if `repair_step_`
  uint64_t repair_step_ = 0;             // that is awaited; 0: none
  TargetId repair_source_{};             // of that step
  Time repair_not_before_{};
  Scrub scrub_;

  std::vector<Pin> pins_;
  uint64_t pins_waiting_ = 0;            // for their turn, in queue_ or as barrier_
  Time next_late_pin_ = absl::InfiniteDuration();  // the least deadline of theirs, or less
  uint64_t size_blocks_ = 0;
  uint64_t updates_ = 0;                 // raised by each change of these two
  std::optional<Growth> growth_;

  uint64_t epoch_checks_ = 0;            // asked of the catalog; the last one is under way if
  bool checking_epoch_ = false;
  Time check_not_before_{};

  std::optional<MembersChange> change_;  // under way: at most one
  Time change_not_before_{};
  bool table_in_doubt_ = false;  // a resume's table was not answered, and the catalog may take it yet
  Time held_since_{};
  Time window_begun_{};

  Counters counters_;
  // All that was completed before is durable on every member; none: all that was completed is.
  std::optional<Time> tail_since_;

  bool fenced_ = false;
};

}  // namespace weir::engine

#endif  // WEIR_VOLUME_ENGINE_STATE_DATA_H_
