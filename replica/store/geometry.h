// What a volume is cut into.
#ifndef WEIR_REPLICA_STORE_GEOMETRY_H_
#define WEIR_REPLICA_STORE_GEOMETRY_H_

#include <cstdint>

#include "proto/base/position.h"

namespace weir::store {

struct VolumeGeometry {
  uint64_t size_blocks = 0;
  LaneGeometry lanes;
  // Whether a copy that has this may be one of a volume that has the other: what that has grown by, or one that was told of a growth that
  // came to nothing, is no matter.
  bool SuitsVolumeOf(const VolumeGeometry& other) const {
    return lanes.lanes == other.lanes.lanes && lanes.stripe_blocks == other.lanes.stripe_blocks;
  }
};

}  // namespace weir::store

#endif  // WEIR_REPLICA_STORE_GEOMETRY_H_
