// A random client of one volume of one store, with the model of what it did.
#ifndef WEIR_REPLICA_STORE_TESTING_WORKLOAD_H_
#define WEIR_REPLICA_STORE_TESTING_WORKLOAD_H_

#include <cstdint>
#include <random>
#include <vector>

#include "absl/status/status.h"
#include "replica/store/store.h"
#include "replica/store/testing/lane_model.h"
#include "replica/store/testing/temp_store.h"

namespace weir::store::testing {

// Thread-safety: none.
class Workload {
 public:
  Workload(uint64_t seed, VolumeId id, const VolumeGeometry& geometry)
      : random_(seed), writer_(id, geometry), model_(id, geometry) {}

  LaneModel& model() { return model_; }
  const LaneModel& model() const { return model_; }

  // Creates the volume, or takes over: the next epoch, from where `store` is.
  absl::Status Attach(Store* store);
  // One random call. An error means that the store has failed.
  absl::Status Step(Store* store);
  // The same parts by name, for short scripts.
  absl::Status Write(Store* store, uint64_t ops, uint64_t blocks_max);
  absl::Status Flush(Store* store, uint32_t flush_nr);
  absl::Status NotePoints(Store* store);

 private:
  uint64_t Below(uint64_t limit) { return random_() % limit; }

  std::mt19937_64 random_;
  Writer writer_;
  LaneModel model_;
  Epoch epoch_ = 0;
  uint64_t stamp_ = 1;  // of the next block
};

}  // namespace weir::store::testing

#endif  // WEIR_REPLICA_STORE_TESTING_WORKLOAD_H_
