// What an engine counts of its own work: metrics. Apart from view.h, since most who look do not want it.
#ifndef WEIR_VOLUME_ENGINE_STATS_H_
#define WEIR_VOLUME_ENGINE_STATS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "volume/engine/types.h"

namespace weir::engine {

// Counts of what took how long. Thread-safety: none.
class DurationCounts {
 public:
  // 100 us, a clone's round trip on one machine, to 52 s, in steps of 2; the last bucket is for what
  // took longer.
  static constexpr size_t kBounds = 20;
  static absl::Duration Bound(size_t bucket) { return absl::Microseconds(uint64_t{100} << bucket); }

  void Add(absl::Duration took);
  // By bucket: at most its bound, and more than the one before.
  const std::array<uint64_t, kBounds + 1>& buckets() const { return buckets_; }
  absl::Duration sum() const { return sum_; }

 private:
  std::array<uint64_t, kBounds + 1> buckets_{};
  absl::Duration sum_;
};

// For whom the flush worker runs.
enum class FlushPurpose { kRequests, kAuto, kSuspend, kBarrier };
inline constexpr size_t kFlushPurposes = 4;

// Where a barrier sequence is.
enum class BarrierStage {
  kDrain,      // until nothing is in flight
  kPreFlush,   // until what came before is durable
  kWrite,      // until its own write is on every member
  kPin,        // instead of a write: until every member has the pin
  kPostFlush,  // until that is durable
};
inline constexpr size_t kBarrierStages = 5;

// By Result::Kind.
inline constexpr size_t kResultKinds = 5;

// Flush clones of one run: one to each flush domain of each member.
inline constexpr std::array<uint64_t, 10> kFanOutBounds = {1, 2, 3, 4, 6, 8, 12, 16, 32, 64};

struct FlushCounts {
  std::array<uint64_t, kResultKinds> runs{};  // that ended, by what their results were folded to
  DurationCounts took;
};

// Since the attach.
struct Counters {
  std::array<FlushCounts, kFlushPurposes> flushes;  // by purpose
  std::array<uint64_t, kFanOutBounds.size() + 1> fan_out{};
  uint64_t fan_out_sum = 0;
  uint64_t flushes_merged = 0;    // FLUSH requests that another one's run has answered too
  uint64_t flushes_requeued = 0;  // ... that went back to the head of the queue, each time counted
  std::array<DurationCounts, kBarrierStages> barriers;  // by stage
  DurationCounts suspending;  // from the suspend until nothing was in flight, or it was undone
  DurationCounts suspended;   // from then until the resume
};

// Why a request is not carried on with.
enum class HoldReason {
  kSuspended,
  kBarrier,        // behind one
  kLocked,         // its range is, while a clone is flattened
  kCatalog,        // a change of members is not known to have committed
  kTooFewMembers,  // fewer than min_in_sync
  kMemberAway,     // one that it needs is not connected
  kRequeue,        // one that it needs has asked to come again later
  kMemberBusy,     // one that it needs has as much unanswered as it takes
  kReplayFull,     // what is kept for refilling is at its limit, until it is durable
  kBacklog,        // the engine has as many as it takes; of the host
  kParentAway,     // no replica of a clone's parent can be asked; of the host
};
inline constexpr size_t kHoldReasons = 11;

struct Stats {
  Counters counted;
  std::array<uint64_t, kHoldReasons> held{};  // requests, by reason
  // What was completed before is on stable storage of every member; none: all that was is.
  std::optional<Time> durable_until;
  uint64_t not_durable_bytes = 0;  // data of writes that are completed and not durable on every member
  // Of each replica of the table: errors that it answered to flush clones and that nobody was told as a flush's
  // result: precedence or the requeue after a leave hid them, or nobody awaited the flush.
  std::vector<std::pair<std::string, uint64_t>> hidden_errors;
};

}  // namespace weir::engine

#endif  // WEIR_VOLUME_ENGINE_STATS_H_
