#include "replica/store/block_set.h"

#include <algorithm>
#include <bit>
#include <utility>

namespace weir::store {

bool StripeBits::Parse(absl::string_view bytes, uint32_t blocks, StripeBits* bits) {
  if (bytes.size() != (blocks + 7) / 8) return false;
  bits->bytes_.assign(bytes.data(), bytes.size());
  return true;
}

uint64_t StripeBits::count() const {
  uint64_t count = 0;
  for (char byte : bytes_) count += std::popcount(static_cast<uint8_t>(byte));
  return count;
}

void BlockSet::Add(BlockRange range) {
  const uint64_t stripe = range.first / geometry_.stripe_blocks;
  StripeBits& bits =
      stripes_.try_emplace(stripe, geometry_.stripe_blocks).first->second;
  const uint64_t in_stripe = range.first % geometry_.stripe_blocks;
  for (uint64_t i = 0; i < range.count; ++i) bits.Add(in_stripe + i);
}

bool BlockSet::ToRanges(size_t ranges_max, std::vector<BlockRange>* ranges) const {
  ranges->clear();
  if (stripes_.size() > ranges_max) return false;
  for (const auto& [stripe, bits] : stripes_) {
    AppendRuns(geometry_, stripe, bits, ranges);
    if (ranges->size() > ranges_max) break;
  }
  if (ranges->size() <= ranges_max) return true;
  ranges->clear();
  for (const auto& [stripe, bits] : stripes_) {
    std::vector<BlockRange> runs;
    AppendRuns(geometry_, stripe, bits, &runs);
    ranges->push_back({runs.front().first, runs.back().end() - runs.front().first});
  }
  return true;
}

void AppendRuns(const LaneGeometry& geometry, uint64_t stripe,
                const StripeBits& bits, std::vector<BlockRange>* ranges) {
  const uint64_t first = stripe * geometry.stripe_blocks;
  bool in_run = false;
  for (uint64_t i = 0; i < geometry.stripe_blocks; ++i) {
    if (!bits.Has(i)) {
      in_run = false;
    } else if (in_run) {
      ++ranges->back().count;
    } else {
      ranges->push_back({first + i, 1});
      in_run = true;
    }
  }
}

uint64_t LaneBlocksBelow(const LaneGeometry& geometry, LaneId lane, uint64_t block) {
  const uint64_t round = uint64_t{geometry.lanes} * geometry.stripe_blocks;
  const uint64_t before = uint64_t{Index(lane)} * geometry.stripe_blocks;
  const uint64_t rest = block % round;
  uint64_t count = block / round * geometry.stripe_blocks;
  if (rest > before) count += std::min<uint64_t>(rest - before, geometry.stripe_blocks);
  return count;
}

uint64_t NextLaneBlock(const LaneGeometry& geometry, LaneId lane, uint64_t block) {
  if (geometry.LaneOf(block) == lane) return block;
  const uint64_t round = uint64_t{geometry.lanes} * geometry.stripe_blocks;
  const uint64_t mine = block / round * round + uint64_t{Index(lane)} * geometry.stripe_blocks;
  return mine >= block ? mine : mine + round;
}

}  // namespace weir::store
