// What one target's clones take, by stage, and how long it has any: counted for metrics.
#ifndef WEIR_VOLUME_HOST_TARGET_TIMES_H_
#define WEIR_VOLUME_HOST_TARGET_TIMES_H_

#include <array>
#include <cstddef>
#include <cstdint>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "volume/engine/types.h"

namespace weir::host {

// Where a clone's round trip goes.
enum class CloneStage {
  kSend,   // from being queued for the stream until gRPC had its frame: it waits for the write before
  kStore,  // as the replica says it: from receiving the frame until the answer was queued there
  kWire,   // the rest
};
inline constexpr size_t kCloneStages = 3;

// One answered clone. kStore and kWire are zero if the replica does not tell what it took.
struct CloneTimes {
  std::array<absl::Duration, kCloneStages> stages{};
  bool told = false;

  // `store_us`: as the reply has it, which nobody has to believe: no stage is below zero, and all
  // together are the round trip.
  static CloneTimes Of(engine::Time queued, engine::Time handed, engine::Time answered, uint64_t store_us);
  absl::Duration operator[](CloneStage stage) const { return stages[static_cast<size_t>(stage)]; }
};

// Of a volume and a replica, over all of their sessions. Thread-safety: safe; the mutex is held for an instant.
class TargetTimes {
 public:
  // 10 us to 10.5 s in steps of 2; the last bucket is for what took longer.
  static constexpr size_t kBounds = 21;
  static absl::Duration Bound(size_t bucket) { return absl::Microseconds(uint64_t{10} << bucket); }

  struct Stage {
    std::array<uint64_t, kBounds + 1> buckets{};  // more than the bound before, and at most its own
    absl::Duration sum;
  };
  struct Counts {
    std::array<Stage, kCloneStages> stages;
    absl::Duration busy;  // while at least one clone was unanswered
  };

  // A session has a clone to be answered, and had none before; then, once for each, that it has none any more.
  void Began(engine::Time now);
  void Ended(engine::Time now);
  // Those of one frame.
  void Add(absl::Span<const CloneTimes> answered);
  // `busy` never falls, though who ends a busy time may have looked at the clock before a reader did.
  Counts Read(engine::Time now);

 private:
  absl::Mutex mu_;
  Counts counts_ ABSL_GUARDED_BY(mu_);  // `busy`: without the time since busy_since_
  int busy_sessions_ ABSL_GUARDED_BY(mu_) = 0;
  engine::Time busy_since_ ABSL_GUARDED_BY(mu_);  // while busy_sessions_ > 0: what is not in `busy` yet
};

}  // namespace weir::host

#endif  // WEIR_VOLUME_HOST_TARGET_TIMES_H_
