// Requests that have left the queue, by kind: what the engine keeps of each.
#ifndef WEIR_VOLUME_ENGINE_OP_H_
#define WEIR_VOLUME_ENGINE_OP_H_

#include <cstdint>
#include <string>
#include <vector>

#include "volume/engine/stats.h"
#include "volume/engine/types.h"

namespace weir::engine {

// The part of a read that lies in one stripe, so in one lane.
struct ReadFragment {
  LaneId lane{};
  BlockRange range;
  bool answered = false;   // done, or in commit-wait for `saw`
  bool done = false;
  uint64_t saw = 0;        // newest n among its blocks
  uint64_t tried = 0;      // bit a target: it answered with an error
  uint64_t damaged_on = 0; // bit a target: what it has does not match its checksums
  Payload data;
  std::vector<BlockRange> absent;
  bool zeroes = false;
  std::vector<Run> extents;
};

inline constexpr char kTooFewMembers[] =
    "too few replicas are in sync, and have been for long; bring the others back";

// A request that has left the queue.
struct Op {
  Request request;
  uint32_t waiting = 0;  // fragments that are not done
  Result result;
  std::string message;
  std::vector<TargetError> errors;
  std::vector<ReadFragment> fragments;  // reads and extents
};

// Who awaits a flush, with what earlier runs of it have found.
struct FlushWaiter {
  Request request;
  std::vector<TargetError> errors;
};
struct Barrier {
  Request request;
  Time since{};  // it is at this stage
  BarrierStage stage = BarrierStage::kDrain;
  std::vector<TargetError> errors{};
  std::vector<Position> pinned{};  // kPin
  Time deadline{};               // kPin
};

// What the catalog has been asked for.
struct MembersChange {
  Table table;
  bool for_resume = false;
};
// Who waits for a larger size.
struct Growth {
  ControlId control{};
  Time deadline{};
};

}  // namespace weir::engine

#endif  // WEIR_VOLUME_ENGINE_OP_H_
