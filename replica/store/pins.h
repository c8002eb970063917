// Words of pins: points of a volume that stay readable while writes go on. A snapshot is one.
#ifndef WEIR_REPLICA_STORE_PINS_H_
#define WEIR_REPLICA_STORE_PINS_H_

#include <cstdint>
#include <vector>

#include "proto/base/position.h"
#include "replica/store/block_version.h"

namespace weir::store {

// Blocks that one read at a pin may ask for.
inline constexpr uint64_t kPinnedReadBlocksMax = 256;

// What the volume's record says that a replica must know.
struct VolumeUpdate {
  // Rises with every update, also over epochs: one that comes late changes nothing.
  uint64_t version = 0;
  uint64_t size_blocks = 0;  // it never shrinks: what is below the present size leaves that
  // Exactly these, from now on. A lane that has come past one without having it knows no change any more: BeginJoin
  // asks for everything.
  std::vector<Pin> pins;
};

// The blocks of a lane whose newest version lies above a pin.
struct ChangedPage {
  std::vector<BlockRange> ranges;  // ascending
  uint64_t next_block = 0;         // where the next page begins; the volume's size: there is none
};

// What a pin keeps of some blocks, beside what is their newest version anyway.
struct KeptBlocks {
  uint64_t blocks = 0;      // whose data as of the pin has a newer version
  uint64_t own_blocks = 0;  // of them, which no other pin needs: they come back when it is dropped
};

}  // namespace weir::store

#endif  // WEIR_REPLICA_STORE_PINS_H_
