// What a replica has of one block, without its data: what a scrub compares.
#ifndef WEIR_PROTO_BASE_BLOCK_DIGEST_H_
#define WEIR_PROTO_BASE_BLOCK_DIGEST_H_

#include <cstdint>
#include <vector>

#include "proto/base/position.h"

namespace weir {

struct BlockDigest {
  enum class Kind : uint8_t {
    kData = 1,
    kZeroes = 2,   // written to, and reads as zeros
    kDamaged = 3,  // its newest version is at `position`, and does not match its checksums
    kNewer = 4,    // written to since the position that was asked for
  };
  uint64_t block = 0;
  Kind kind = Kind::kZeroes;
  Position position;  // of its newest version
  uint32_t crc = 0;   // kData: over the data, by whoever wrote it

  friend bool operator==(const BlockDigest&, const BlockDigest&) = default;
};

// A prefix of what was asked for. A block without a digest was never written to: it reads as zeros.
struct BlockDigests {
  std::vector<BlockDigest> blocks;  // ascending
  uint64_t next_block = 0;          // what lies before it is covered
  uint64_t bytes_read = 0;          // data that was read and checked
};

// Digests of one call at most, so that no message and no comparison is long.
inline constexpr size_t kBlockDigestsMax = 2048;

}  // namespace weir

#endif  // WEIR_PROTO_BASE_BLOCK_DIGEST_H_
