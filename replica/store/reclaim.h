// Which versions and changes may go: the pins, and the compaction filters that
// go by them. The filters run when memtables are flushed too.
//
// A version v of a block goes when a newer version v' of it was seen in the
// same run and no pin p has v <= p < v'. The newest version seen always stays,
// zero versions too: a zero version could go only where nothing older of its
// block remains beneath it, which one run cannot know.
//
// v' counts only if it is on the lane's history. What is not was cut off by a
// join: CopyIn deletes it, and a run may see it without the tombstone that lies
// in another file, and would drop v for a version that is no more. For the same
// reason nothing that is on the history is ever deleted.
#ifndef WEIR_REPLICA_STORE_RECLAIM_H_
#define WEIR_REPLICA_STORE_RECLAIM_H_

#include <map>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "proto/base/position.h"
#include "replica/store/lane.h"
#include "rocksdb/compaction_filter.h"

namespace weir::store {

// What one lane allows. A lane that is not in the table allows nothing.
struct LanePins {
  std::vector<Position> pins;  // ascending
  Position trim;               // changes at or below it may go
  // The lane's history, without its end: it may have gone on.
  Epoch epoch = 0;
  std::vector<LineageEntry> lineage;
};

// Immutable while a compaction runs. Pins only ever move up or are added
// before the writes they protect, so an older table never drops too much.
struct PinTable {
  std::map<std::pair<VolumeId, LaneId>, LanePins> lanes;
  std::set<VolumeId> deleted;  // all that is theirs goes
};

// The pins of a lane in `state`, ascending: its durable point, and those that were set.
std::vector<Position> PinPositions(const Lane::State& state);

// Whether version `older` may go, given that `newer` stays.
bool MayReclaim(const std::vector<Position>& pins, Position older, Position newer);

// The lanes of one domain, from which pin tables are made.
// Thread-safety: yes; compactions ask from RocksDB's threads.
class PinSource {
 public:
  void AddLane(std::shared_ptr<Lane> lane);
  void DeleteVolume(VolumeId volume);
  // The volume's keys are gone: its id may be used again.
  void ForgetVolume(VolumeId volume);
  std::shared_ptr<const PinTable> Pins() const;

 private:
  mutable absl::Mutex mutex_;
  std::map<std::pair<VolumeId, LaneId>, std::shared_ptr<Lane>> lanes_
      ABSL_GUARDED_BY(mutex_);
  std::set<VolumeId> deleted_ ABSL_GUARDED_BY(mutex_);
};

// One factory a column family. `source` must live as long as they do.
enum class ReclaimedFamily { kVersions, kBlocks, kChanges };
std::shared_ptr<rocksdb::CompactionFilterFactory> NewReclaimFactory(
    ReclaimedFamily family, std::shared_ptr<const PinSource> source);

}  // namespace weir::store

#endif  // WEIR_REPLICA_STORE_RECLAIM_H_
