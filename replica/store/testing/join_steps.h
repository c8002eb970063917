// The steps of a join as who joins a member takes them, on two stores in one process.
#ifndef WEIR_REPLICA_STORE_TESTING_JOIN_STEPS_H_
#define WEIR_REPLICA_STORE_TESTING_JOIN_STEPS_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "proto/base/position.h"
#include "replica/store/store.h"

namespace weir::store::testing {

// The newest point on both histories; none: (0, 0) and false.
bool CommonPoint(const LaneState& a, const LaneState& b, Position* common);

// How `lane` of `target` joins where `source` is now. `everything` if it is wanted, or
// there is no common point after which the source knows its changes.
absl::StatusOr<JoinLane> PlanJoin(Store* source, Store* target, VolumeId id, LaneId lane,
                                  uint64_t join_id, bool everything = false);

// Plans and begins every lane; copies everything where a lane's own changes are not known.
absl::Status BeginJoin(Store* source, Store* target, VolumeId id, uint64_t join_id,
                       bool everything = false);

// Copies the first invalid blocks of `lane`, at most `ranges_max` ranges and about
// `bytes_max`. Gives the bytes of data copied. `from_block`, if given, is where to
// look from, and moves on.
absl::StatusOr<uint64_t> CopySome(Store* source, Store* target, VolumeId id, LaneId lane,
                                  size_t ranges_max, uint64_t bytes_max,
                                  uint64_t* from_block = nullptr);

// Copies until nothing is invalid in any lane.
absl::StatusOr<uint64_t> CopyAll(Store* source, Store* target, VolumeId id);

// Invalid blocks in all lanes.
uint64_t InvalidBlocksOf(const Store& store, VolumeId id);

}  // namespace weir::store::testing

#endif  // WEIR_REPLICA_STORE_TESTING_JOIN_STEPS_H_
