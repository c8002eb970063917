// What an observer may see of an engine: weirctl, metrics, explain.
#ifndef WEIR_VOLUME_ENGINE_VIEW_H_
#define WEIR_VOLUME_ENGINE_VIEW_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "volume/engine/types.h"

namespace weir::engine {

struct TargetView {
  TargetId id{};
  TargetConfig config;
  enum class Health { kConnecting, kConnected, kFailed, kOut } health =
      Health::kConnecting;
  bool leaving = false;            // to be taken out: the catalog has not answered yet
  bool overdue = false;            // away past the hold deadline: requests that need it fail
  bool joining = false;            // being brought back: not readable, and no member yet
  uint64_t join_blocks_left = 0;   // still to be copied, as far as is known
  uint64_t join_bytes_copied = 0;
  absl::Duration join_time_left = absl::InfiniteDuration();  // at the speed of late; infinite: not known
  Time next_join{};                // kOut: when it is tried, at the earliest
  Time left{};                     // kOut, joining: since when it is no member, as far as is known
  std::string reason;              // why failed, lost or out
  Time since{};                    // when health last changed
  bool slow = false;               // in the last window; see Options::slow_window
  absl::Duration answer_p99;       // of its answers to writes and flushes, of late; within a factor of 2
  absl::Duration others_p99;       // the highest of the other members' then
  uint32_t num_flush_requests = 0;
  bool flush_supported = true;
  bool space_exhausted = false;
  uint64_t inflight_clones = 0;
  uint64_t errors = 0;             // hidden ones too
  uint64_t repaired_blocks = 0;    // since the attach
  uint64_t lost_versions = 0;      // of blocks, that it was brought back without since the attach: no member could read them
  uint64_t damaged_blocks = 0;     // found, and not repaired yet
  uint64_t requeues = 0;
};

// The scrub that runs, or else the last one since the attach.
struct ScrubView {
  bool running = false;
  uint64_t blocks_total = 0;     // 0: there has been none
  uint64_t blocks_done = 0;
  Time started{};
  Time ended{};                  // unless it runs
  std::string stopped;           // why it ended before its end; empty: it did not
  uint64_t bytes_read = 0;       // on all members together
  uint64_t bad_blocks = 0;       // that some member had damaged, or other than the others
  uint64_t repaired_blocks = 0;  // of them, once for each member
  uint64_t waiting_blocks = 0;   // their repair is under way
  uint64_t left_blocks = 0;      // nobody could be told to be right, or the repair failed
  uint64_t skipped_blocks = 0;   // were written to each time they were looked at
  std::vector<std::string> findings;  // of what was left, the first ones
  absl::Duration time_left = absl::InfiniteDuration();  // at its speed until now
  Time next = absl::InfiniteDuration();  // unless it runs: when it is due
  // Of all since the attach.
  uint64_t finished = 0;
  uint64_t bytes_read_in_all = 0;
  uint64_t bad_blocks_in_all = 0;
};

struct EngineView {
  // kRestoring: to its clients as kSuspended; see Engine::StartRestore.
  enum class State { kActive, kSuspending, kSuspended, kRestoring, kCommitting, kFenced } state = State::kActive;
  bool flush_supported = true;
  bool held = false;               // fewer than min_in_sync members: requests wait
  bool barrier_running = false;
  bool flush_running = false;
  uint64_t queued_requests = 0;
  uint64_t inflight_requests = 0;
  uint64_t replay_bytes = 0;
  std::vector<TargetView> targets;
  ScrubView scrub;
  std::vector<Position> completed;  // by lane
  std::vector<Position> durable;    // by lane, on every member
};

}  // namespace weir::engine

#endif  // WEIR_VOLUME_ENGINE_VIEW_H_
