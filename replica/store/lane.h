// One lane of one volume, as a domain holds it in memory.
//
// Thread-safety: all methods may be called from any thread. Who changes a
// lane claims it first (LaneClaim), does its RocksDB work without any lock
// held, then publishes the result; so that a lane has one writer at a time.
#ifndef WEIR_REPLICA_STORE_LANE_H_
#define WEIR_REPLICA_STORE_LANE_H_

#include <algorithm>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "proto/base/position.h"
#include "replica/store/history.h"
#include "replica/store/turn.h"

namespace weir::store {

// A pin, as it stands in one lane: what reads as of `position` need is kept.
struct LanePin {
  uint64_t id = 0;
  Position position;
  friend bool operator==(const LanePin&, const LanePin&) = default;
};

class Lane {
 public:
  // A join that is not finished.
  struct Join {
    uint64_t id = 0;  // 0: none
    Position to;      // R
    // All blocks of the lane at or past it are invalid.
    uint64_t watermark = kNoWatermark;
    uint64_t marked = 0;  // invalid blocks below the watermark
  };
  static constexpr uint64_t kNoWatermark = ~uint64_t{0};

  struct State {
    Position position;  // applied
    // Synced: where a power cut leaves the lane at least. At most position, but for a lane that gave up a base which
    // had been synced for a tail that ends below it (AdoptTail), until the next sync.
    Position durable;
    // What every member has synced, as we were told.
    Position noted;
    // `noted`, once it is itself synced here: what reclaim goes by.
    Position point;
    // Changes are known above it: at or below it they may be trimmed, or a join has skipped them.
    Position known;
    // `known`, once it is itself synced here: what trimming goes by.
    Position trim;
    // Where the newest join, or adopted tail, has put the lane: up to it, changes do
    // not follow each other.
    Position jumped;
    // Whether `noted` was told by this process: reclaim is off until then.
    bool told = false;
    std::vector<LineageEntry> lineage;  // oldest first; without position.epoch()
    Join join;
    std::vector<LanePin> pins;  // in no order
  };

  Lane(VolumeId volume, LaneId id, uint32_t domain, State state)
      : volume(volume), id(id), domain(domain), state_(std::move(state)) {}

  const VolumeId volume;
  const LaneId id;
  const uint32_t domain;

  State state() const {
    absl::MutexLock lock(&mutex_);
    return state_;
  }
  Position position() const {
    absl::MutexLock lock(&mutex_);
    return state_.position;
  }

  // Without the lineage, which may be long: reads ask.
  Join join() const {
    absl::MutexLock lock(&mutex_);
    return state_.join;
  }

  // REQUIRES: the caller has claimed the lane, and what it says is applied.
  void Applied(Position position) {
    absl::MutexLock lock(&mutex_);
    state_.position = position;
  }
  // A takeover's base.
  void Applied(Position position, std::vector<LineageEntry> lineage) {
    absl::MutexLock lock(&mutex_);
    state_.position = position;
    state_.lineage = std::move(lineage);
  }
  // A tail was adopted, or a join began or went on.
  void Replaced(State state) {
    absl::MutexLock lock(&mutex_);
    state_.position = state.position;
    state_.lineage = std::move(state.lineage);
    state_.known = state.known;
    state_.jumped = state.jumped;
    state_.join = state.join;
  }
  // `blocks` that held data were zeroed, up to `position`.
  void Discarded(uint64_t blocks, Position position) {
    absl::MutexLock lock(&mutex_);
    discarded_ += blocks;
    discarded_to_ = std::max(discarded_to_, position);
  }
  // Whether more than `blocks` have been discarded since this last said so, and what is known to be
  // synced everywhere covers that; or so many that it does not matter what the last of them are.
  bool TakeDiscarded(uint64_t blocks) {
    absl::MutexLock lock(&mutex_);
    if (discarded_ < blocks || (state_.noted < discarded_to_ && discarded_ / 4 < blocks)) return false;
    discarded_ = 0;
    return true;
  }
  // By one caller at a time.
  void SetPins(std::vector<LanePin> pins) {
    absl::MutexLock lock(&mutex_);
    state_.pins = std::move(pins);
  }
  void Noted(Position point, Position known) {
    absl::MutexLock lock(&mutex_);
    if (point > state_.noted) state_.noted = point;
    if (known > state_.known) state_.known = known;
    state_.told = true;
  }
  // What was applied and noted when a sync began is now synced. By one caller at a time.
  void Synced(const State& then) {
    absl::MutexLock lock(&mutex_);
    state_.durable = then.position;
    if (!then.told) return;
    if (then.noted > state_.point) state_.point = then.noted;
    if (then.known > state_.trim) state_.trim = then.known;
    reclaim_ = true;
  }
  // Whether versions and changes may be reclaimed, by state().point and trim.
  bool reclaim() const {
    absl::MutexLock lock(&mutex_);
    return reclaim_;
  }

  // Changes after it are not to be trimmed.
  Position keep_changes_after() const {
    absl::MutexLock lock(&mutex_);
    return keep_changes_after_;
  }
  void KeepChangesAfter(Position position) {
    absl::MutexLock lock(&mutex_);
    keep_changes_after_ = position;
  }
  static constexpr Position kKeepNoChanges = Position::FromBits(~uint64_t{0});

 private:
  friend class LaneClaim;

  mutable absl::Mutex mutex_;
  State state_ ABSL_GUARDED_BY(mutex_);
  bool reclaim_ ABSL_GUARDED_BY(mutex_) = false;
  Position keep_changes_after_ ABSL_GUARDED_BY(mutex_) = kKeepNoChanges;
  uint64_t discarded_ ABSL_GUARDED_BY(mutex_) = 0;
  Position discarded_to_ ABSL_GUARDED_BY(mutex_);
  Turn turn_;
};

// Holds lanes of one volume for one writer; waits for the one before.
// Claims are taken in the order of lanes, so two claims never wait for each other.
class LaneClaim {
 public:
  // REQUIRES: `lanes` is in ascending order of lane.
  explicit LaneClaim(std::vector<std::shared_ptr<Lane>> lanes)
      : lanes_(std::move(lanes)) {
    for (const auto& lane : lanes_) lane->turn_.Take();
  }
  ~LaneClaim() {
    for (const auto& lane : lanes_) lane->turn_.GiveBack();
  }
  LaneClaim(const LaneClaim&) = delete;
  LaneClaim& operator=(const LaneClaim&) = delete;

 private:
  const std::vector<std::shared_ptr<Lane>> lanes_;
};

}  // namespace weir::store

#endif  // WEIR_REPLICA_STORE_LANE_H_
