// What a volume is cut into.
#ifndef WEIR_REPLICA_STORE_GEOMETRY_H_
#define WEIR_REPLICA_STORE_GEOMETRY_H_

#include <cstdint>

#include "proto/base/position.h"

namespace weir::store {

struct VolumeGeometry {
  uint64_t size_blocks = 0;
  LaneGeometry lanes;
  // A volume that has this can grow to the other, or has it.
  bool GrowsTo(const VolumeGeometry& other) const {
    return size_blocks <= other.size_blocks && lanes.lanes == other.lanes.lanes &&
           lanes.stripe_blocks == other.lanes.stripe_blocks;
  }
};

}  // namespace weir::store

#endif  // WEIR_REPLICA_STORE_GEOMETRY_H_
