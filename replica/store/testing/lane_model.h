// What a volume's content must be: the history of each lane and the promises
// that were answered. Judges a store that was opened after a fault.
#ifndef WEIR_REPLICA_STORE_TESTING_LANE_MODEL_H_
#define WEIR_REPLICA_STORE_TESTING_LANE_MODEL_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "proto/base/position.h"
#include "replica/store/store.h"

namespace weir::store::testing {

// What had been answered at some moment.
struct Answered {
  bool opened = false;   // the store was opened once, so it exists
  bool created = false;  // the volume
  Epoch promised = 0;
  std::vector<Position> durable;  // by lane
};

// How a store is judged.
struct Leniency {
  bool read_errors = false;  // a read may fail, but not lie
};

// Thread-safety: yes; cuts ask for answered() from RocksDB's threads.
class LaneModel {
 public:
  LaneModel(VolumeId id, const VolumeGeometry& geometry);
  LaneModel(const LaneModel& other);

  // Before the call that may apply it.
  void Submitted(const WriteOp& op, uint64_t stamp);
  void BaseSubmitted(Epoch epoch);
  // After the answer.
  void Opened();
  void Created();
  void Promised(Epoch epoch);
  void Durable(LaneId lane, Position position);

  Answered answered() const;

  // OK if each lane of `store` is a prefix of its history, at or past what was
  // answered durable, and its content is the history's at that position.
  absl::Status Check(Store* store, const Answered& answered,
                     Leniency leniency = {}) const;
  // OK if what `store` reads at the pin is the history's content there.
  absl::Status CheckPinned(Store* store, const Pin& pin,
                           Leniency leniency = {}) const;

 private:
  struct Event {
    Position position;
    BlockRange range;  // empty: a base was taken
    bool data = false;
    uint64_t stamp = 0;  // of the first block
  };
  absl::Status CheckLane(const LaneState& lane, Position durable) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The volume's content, a stamp a block (0: zeros), with each lane at its
  // position.
  std::vector<uint64_t> ContentAt(const std::vector<Position>& positions) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status CheckContent(Store* store, const std::vector<uint64_t>& stamps,
                            Leniency leniency) const;

  const VolumeId id_;
  const VolumeGeometry geometry_;
  mutable absl::Mutex mutex_;
  std::vector<std::vector<Event>> histories_ ABSL_GUARDED_BY(mutex_);
  Answered answered_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace weir::store::testing

#endif  // WEIR_REPLICA_STORE_TESTING_LANE_MODEL_H_
