// Two stores of one volume, one of them falling behind, going its own way and
// joining again, at random. Knows what each block must be.
#ifndef WEIR_REPLICA_STORE_TESTING_JOIN_WORLD_H_
#define WEIR_REPLICA_STORE_TESTING_JOIN_WORLD_H_

#include <algorithm>
#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "proto/base/position.h"
#include "replica/store/store.h"
#include "replica/store/testing/machine.h"

namespace weir::store::testing {

// The source is never cut off nor crashes; its history is the true one.
// Thread-safety: none.
class JoinWorld {
 public:
  struct Settings {
    uint64_t seed = 1;
    VolumeGeometry geometry;
    int directories = 1;
    uint64_t blocks_max = 4;  // of one write
    // The source is told durable points, so it drops versions and changes.
    bool reclaim = false;
  };
  explicit JoinWorld(const Settings& settings);

  // Both stores with the same beginning.
  absl::Status Start();

  Store* source() { return source_->store.get(); }
  Machine& target() { return *target_; }
  // The target is another machine from now on: what a crash has left.
  void ReplaceTarget(std::unique_ptr<Machine> machine) { target_ = std::move(machine); }
  // Each plays the other's part. REQUIRES: the target is at the source's position, whole.
  void Swap() {
    std::swap(source_, target_);
    durable_.assign(durable_.size(), Position());  // of the other store
  }

  // One random act. An error is the target's failure, or a bug.
  absl::Status Step();
  // The acts by name.
  absl::Status WriteSource(uint64_t count);
  absl::Status Deliver(Store* target, uint64_t count_max);  // of each lane
  absl::Status Copy(Store* target);                         // some
  absl::Status Join(Store* target, bool everything);
  absl::Status TakeOver(Store* divergent);  // nullptr: nobody has written more
  absl::Status FlushTarget(Store* target);
  absl::Status FlushSource();

  // Goes on to the end, resuming a join or with a new one.
  absl::Status Finish(Store* target, bool resume);
  // OK if all that `target` lets read is right: each lane that is on the source's
  // history is a prefix of it, at or past `durable`.
  absl::Status Check(Store* target, const std::vector<Position>& durable) const;
  // OK if `target` is what the source is.
  absl::Status CheckEqual(Store* target) const;
  // What the target has answered durable since its last join, by lane.
  const std::vector<Position>& durable() const { return durable_; }

 private:
  struct Logged {
    WriteKind kind = WriteKind::kWrite;
    LaneId lane{};
    BlockRange range;
    Position position;
    uint64_t stamp = 0;  // of the first block
  };
  uint64_t Below(uint64_t limit) { return random_() % limit; }
  Logged RandomWrite(LaneId lane, Position position);
  absl::Status Apply(Store* store, const std::vector<Logged>& writes) const;
  uint32_t DomainsOf(const Store& store) const {
    return std::min(store.num_domains(), settings_.geometry.lanes.lanes);
  }
  bool InEpoch(const LaneState& lane) const { return lane.position.epoch() == epoch_; }
  // Whether `lane` of a target has come to a point of the source's history.
  bool OnTrueHistory(const LaneState& lane) const;
  // Stamps of the lane's blocks (0: zeros) at `position`.
  std::vector<uint64_t> ContentAt(LaneId lane, Position position) const;
  bool ChangesAfter(LaneId lane, uint64_t block, Position position) const;
  absl::Status CheckLane(Store* target, const LaneState& lane) const;
  absl::Status CheckVersions(Store* target, LaneId lane) const;

  const Settings settings_;
  std::mt19937_64 random_;
  std::unique_ptr<Machine> source_, target_;
  std::vector<std::vector<Logged>> log_;  // by lane: the source's history
  std::vector<Position> durable_;         // by lane
  Epoch epoch_ = 0;
  uint64_t stamp_ = 1;
  uint64_t next_join_ = 1;
};

}  // namespace weir::store::testing

#endif  // WEIR_REPLICA_STORE_TESTING_JOIN_WORLD_H_
