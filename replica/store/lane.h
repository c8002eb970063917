// One lane of one volume, as a domain holds it in memory.
//
// Thread-safety: all methods may be called from any thread. Who changes a
// lane claims it first (LaneClaim), does its RocksDB work without any lock
// held, then publishes the result; so that a lane has one writer at a time.
#ifndef WEIR_REPLICA_STORE_LANE_H_
#define WEIR_REPLICA_STORE_LANE_H_

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "proto/base/position.h"
#include "replica/store/turn.h"

namespace weir::store {

class Lane {
 public:
  struct State {
    Position position;  // applied
    Position durable;   // synced; at most position
    // What every member has synced, as we were told.
    Position noted;
    // `noted`, once it is itself synced here: what reclaim and trimming go by.
    Position point;
    // Whether `noted` was told by this process: reclaim is off until then.
    bool told = false;
    std::vector<LineageEntry> lineage;  // oldest first; without position.epoch()
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

  // REQUIRES: the caller has claimed the lane, and what it says is applied.
  void Applied(Position position) {
    absl::MutexLock lock(&mutex_);
    state_.position = position;
  }
  void Applied(Position position, std::vector<LineageEntry> lineage) {
    absl::MutexLock lock(&mutex_);
    state_.position = position;
    state_.lineage = std::move(lineage);
  }
  void Noted(Position point) {
    absl::MutexLock lock(&mutex_);
    if (point > state_.noted) state_.noted = point;
    state_.told = true;
  }
  // What was applied and noted when a sync began is now synced.
  void Synced(Position durable, Position point, bool told) {
    absl::MutexLock lock(&mutex_);
    if (durable > state_.durable) state_.durable = durable;
    if (told && point > state_.point) state_.point = point;
    if (told) reclaim_ = true;
  }
  // Whether versions and changes may be reclaimed, by state().point.
  bool reclaim() const {
    absl::MutexLock lock(&mutex_);
    return reclaim_;
  }

 private:
  friend class LaneClaim;

  mutable absl::Mutex mutex_;
  State state_ ABSL_GUARDED_BY(mutex_);
  bool reclaim_ ABSL_GUARDED_BY(mutex_) = false;
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
