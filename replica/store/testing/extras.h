// What a store holds besides the writes of a Workload: pins and a record copy of its volume; a volume with
// blocks marked invalid; a volume that adopts tails, is repaired and grows. Knows what each must be.
#ifndef WEIR_REPLICA_STORE_TESTING_EXTRAS_H_
#define WEIR_REPLICA_STORE_TESTING_EXTRAS_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "proto/base/position.h"
#include "replica/store/store.h"
#include "replica/store/testing/fault_fs.h"
#include "replica/store/testing/lane_model.h"
#include "replica/store/testing/workload.h"

namespace weir::store::testing {

// Thread-safety: none, but that answered() and stage() may be called from any thread. A copy goes its own way.
class Extras {
 public:
  // What had been answered at some moment.
  struct Answered {
    uint64_t record = 0;  // revision
    uint64_t update = 0;  // version
    bool grown = false;
    bool repaired = false;
    bool adopted = false;
  };

  // `id` is the workload's volume.
  explicit Extras(VolumeId id) : id_(id) {}
  Extras(const Extras& other)
      : id_(other.id_), updates_(other.updates_), records_(other.records_), answered_(other.answered()) {}

  // All of it, durably. REQUIRES: the workload has attached, and its lanes are durable.
  absl::Status Make(Store* store, const LaneModel& model);
  // Flips a bit of one block in the file where it lies; false if it lies in none. Repair mends it.
  static bool DamageBlock(FaultFs* disk);

  // Each is durable when it returns OK, and may be repeated.
  absl::Status KeepRecord(Store* store);
  absl::Status Update(Store* store, const LaneModel& model);  // one pin goes, one stays, one comes
  absl::Status Grow(Store* store);
  absl::Status Repair(Store* store);
  absl::Status Adopt(Store* store);
  // All of these.
  absl::Status Script(Store* store, const LaneModel& model);

  Answered answered() const;
  // The act that was begun last and has not been answered; empty: none.
  std::string stage() const;

  // OK if nothing is less than was answered, nor other than was asked for.
  absl::Status Check(Store* store, const LaneModel& model, const Answered& answered, Leniency leniency = {}) const;

 private:
  std::string RecordOf(uint64_t revision) const;
  absl::Status FlushAll(Store* store) const;
  absl::Status CheckRecord(Store* store, const Answered& answered, Leniency leniency) const;
  absl::Status CheckPins(Store* store, const LaneModel& model, const Answered& answered, Leniency leniency) const;
  absl::Status CheckMarks(Store* store, Leniency leniency) const;
  absl::Status CheckLevelled(Store* store, const Answered& answered, Leniency leniency) const;

  void Begin(const std::string& stage);
  // Notes what was answered.
  template <typename Note>
  absl::Status End(const Note& note) {
    absl::MutexLock lock(&mutex_);
    note(&answered_);
    stage_.clear();
    return absl::OkStatus();
  }

  const VolumeId id_;
  std::vector<VolumeUpdate> updates_;  // that were asked for, by version from 1
  uint64_t records_ = 0;               // the last revision that was
  mutable absl::Mutex mutex_;
  Answered answered_ ABSL_GUARDED_BY(mutex_);
  std::string stage_ ABSL_GUARDED_BY(mutex_);
};

// A closed store that has all that a start has to deal with: an unsynced tail in the WALs, a torn MANIFEST, a
// volume that was deleted, all of Extras with a damaged block.
struct UsedStore {
  UsedStore(VolumeId id, const VolumeGeometry& geometry) : workload(1, id, geometry), extras(id) {}
  absl::Status Make(int directories);

  Workload workload;
  Extras extras;
  std::shared_ptr<FaultFs> disk;
};

}  // namespace weir::store::testing

#endif  // WEIR_REPLICA_STORE_TESTING_EXTRAS_H_
