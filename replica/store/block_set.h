// Sets of blocks of one lane, a bitmap a stripe.
#ifndef WEIR_REPLICA_STORE_BLOCK_SET_H_
#define WEIR_REPLICA_STORE_BLOCK_SET_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "proto/base/position.h"

namespace weir::store {

// Which blocks of one stripe. Thread-safety: none.
class StripeBits {
 public:
  explicit StripeBits(uint32_t blocks) : bytes_((blocks + 7) / 8, '\0') {}
  // False: `bytes` are not those of a stripe of so many blocks.
  static bool Parse(absl::string_view bytes, uint32_t blocks, StripeBits* bits);

  bool Has(uint64_t i) const { return (bytes_[i / 8] >> (i % 8) & 1) != 0; }
  void Add(uint64_t i) { bytes_[i / 8] = static_cast<char>(bytes_[i / 8] | 1 << (i % 8)); }
  void Remove(uint64_t i) { bytes_[i / 8] = static_cast<char>(bytes_[i / 8] & ~(1 << (i % 8))); }
  uint64_t count() const;
  bool empty() const { return count() == 0; }
  const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_;
};

// Thread-safety: none.
class BlockSet {
 public:
  explicit BlockSet(const LaneGeometry& geometry) : geometry_(geometry) {}

  // REQUIRES: `range` lies in one stripe and is not empty.
  void Add(BlockRange range);
  // REQUIRES: `stripe` is above all that are in here; its bits are not empty.
  void Append(uint64_t stripe, StripeBits bits) {
    stripes_.emplace_hint(stripes_.end(), stripe, std::move(bits));
  }
  const std::map<uint64_t, StripeBits>& stripes() const { return stripes_; }
  // Ascending, of one stripe each; at most `ranges_max`, then in each stripe one
  // from its first block to its last. False if those are too many as well.
  bool ToRanges(size_t ranges_max, std::vector<BlockRange>* ranges) const;

 private:
  const LaneGeometry geometry_;
  std::map<uint64_t, StripeBits> stripes_;
};

// Appends the runs of `bits`, as blocks of the volume.
void AppendRuns(const LaneGeometry& geometry, uint64_t stripe,
                const StripeBits& bits, std::vector<BlockRange>* ranges);

// How many blocks below `block` are of `lane`.
uint64_t LaneBlocksBelow(const LaneGeometry& geometry, LaneId lane, uint64_t block);
// The least block of `lane` at or past `block`.
uint64_t NextLaneBlock(const LaneGeometry& geometry, LaneId lane, uint64_t block);

}  // namespace weir::store

#endif  // WEIR_REPLICA_STORE_BLOCK_SET_H_
