// Blocks, lanes and positions: the words of DESIGN.md's section on lanes.
#ifndef WEIR_PROTO_BASE_POSITION_H_
#define WEIR_PROTO_BASE_POSITION_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

namespace weir {

inline constexpr uint32_t kBlockBytes = 4096;

// Distinct types for what would otherwise be bare integers.
enum class VolumeId : uint64_t {};
enum class LaneId : uint32_t {};

inline uint32_t Index(LaneId lane) { return static_cast<uint32_t>(lane); }

using Epoch = uint32_t;

// A point in a lane's history: "after write n of this epoch". Positions of one
// epoch compare as numbers; across epochs only a lineage can tell.
class Position {
 public:
  static constexpr int kNBits = 40;
  static constexpr uint64_t kNMax = (uint64_t{1} << kNBits) - 1;
  static constexpr Epoch kEpochMax = (Epoch{1} << 24) - 1;

  constexpr Position() = default;
  constexpr Position(Epoch epoch, uint64_t n)
      : bits_(uint64_t{epoch} << kNBits | (n & kNMax)) {}
  static constexpr Position FromBits(uint64_t bits) {
    Position position;
    position.bits_ = bits;
    return position;
  }

  constexpr Epoch epoch() const { return static_cast<Epoch>(bits_ >> kNBits); }
  constexpr uint64_t n() const { return bits_ & kNMax; }
  constexpr uint64_t bits() const { return bits_; }
  // The next write of the same epoch. REQUIRES: n() < kNMax.
  constexpr Position Next() const { return FromBits(bits_ + 1); }

  friend constexpr auto operator<=>(Position, Position) = default;

  std::string ToString() const { return absl::StrCat(epoch(), ".", n()); }

 private:
  uint64_t bits_ = 0;
};

struct BlockRange {
  uint64_t first = 0;
  uint64_t count = 0;

  uint64_t end() const { return first + count; }
  bool Overlaps(const BlockRange& other) const {
    return first < other.end() && other.first < end();
  }
  friend bool operator==(const BlockRange&, const BlockRange&) = default;
};

// How a volume is striped over its lanes. A stripe lies whole in one lane.
struct LaneGeometry {
  uint32_t lanes = 4;
  uint32_t stripe_blocks = 64;  // 256 KiB

  LaneId LaneOf(uint64_t block) const {
    return LaneId{static_cast<uint32_t>(block / stripe_blocks % lanes)};
  }
};

// A history's earlier part: it ended after write `n` of `epoch`.
struct LineageEntry {
  Epoch epoch = 0;
  uint64_t n = 0;
  friend bool operator==(const LineageEntry&, const LineageEntry&) = default;
};

// A point of a volume that is kept, in every lane: what reads there need is not reclaimed.
struct Pin {
  uint64_t id = 0;                  // not 0
  std::vector<Position> positions;  // by lane
  friend bool operator==(const Pin&, const Pin&) = default;
};

// Bounds the records of one volume, and what compaction looks through for each version.
inline constexpr size_t kPinsMax = 1024;

}  // namespace weir

#endif  // WEIR_PROTO_BASE_POSITION_H_
