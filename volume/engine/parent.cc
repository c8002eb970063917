#include "volume/engine/parent.h"

#include <algorithm>
#include <utility>

#include "proto/base/payload.h"

namespace weir::engine {

LineRead::LineRead(BlockRange range, std::vector<uint64_t> sizes)
    : range_(range), sizes_(std::move(sizes)), at_(range.first) {}

std::optional<LineRead::Ask> LineRead::Next() {
  for (; level_ < sizes_.size(); ++level_, at_ = range_.first) {
    const uint64_t end = std::min(range_.end(), sizes_[level_]);
    while (at_ < end && found_.contains(at_)) ++at_;
    if (at_ >= end) continue;
    // A run that nobody nearer has anything of.
    const auto next = found_.upper_bound(at_);
    const uint64_t run_end = next == found_.end() ? end : std::min(end, next->first);
    const BlockRange run{at_, run_end - at_};
    at_ = run_end;
    return Ask{level_, run};
  }
  return std::nullopt;
}

void LineRead::Came(std::vector<ParentBlock> blocks) {
  for (ParentBlock& block : blocks) found_[block.block] = std::move(block.data);
}

std::vector<ParentBlock> LineRead::Take() {
  std::vector<ParentBlock> blocks;
  for (auto& [block, data] : found_) {
    if (!data.empty()) blocks.push_back({block, std::move(data)});
  }
  found_.clear();
  return blocks;
}

bool HoldsForParent(const absl::Status& status, Time submitted, Time now, absl::Duration hold_deadline) {
  return absl::IsUnavailable(status) && now - submitted < hold_deadline;
}

void FillParts(uint64_t first, const std::vector<ParentBlock>& blocks, std::vector<ReadPart>* parts) {
  if (blocks.empty()) return;
  std::string data;
  for (const ReadPart& part : *parts) {
    if (part.data.empty()) {
      data.append(part.blocks * kBlockBytes, '\0');
    } else {
      data.append(part.data.bytes().data(), part.data.size());
    }
  }
  const uint64_t count = data.size() / kBlockBytes;
  for (const ParentBlock& block : blocks) {
    if (block.block < first || block.block - first >= count) continue;
    data.replace((block.block - first) * kBlockBytes, kBlockBytes, block.data);
  }
  *parts = {ReadPart{count, Payload::CopyOf(std::move(data))}};
}

Flatten::Flatten(BlockRange range, uint64_t step_blocks, bool last)
    : range_(range), step_blocks_(step_blocks), last_(last), step_{range.first, 0} {}

Flatten::Step Flatten::Next() {
  Step step;
  switch (done_) {
    case Act::kReadParent:
      if (!above_.empty()) {
        step = {Act::kLock, step_, {}};
        break;
      }
      [[fallthrough]];  // there is nothing to copy
    case Act::kUnlock: {
      const uint64_t first = step_.end();
      if (first < range_.end()) {
        step_ = {first, std::min(step_blocks_, range_.end() - first)};
        step = {Act::kReadParent, step_, {}};
      } else if (last_) {
        step.act = Act::kFlush;
      }
      break;
    }
    case Act::kLock:
      step = {Act::kReadOwn, step_, {}};
      break;
    case Act::kReadOwn:
    case Act::kWrite:
      step.act = Act::kUnlock;
      if (!writes_.empty()) {
        step = std::move(writes_.front());
        writes_.pop_front();
      }
      break;
    case Act::kFlush:
      step.act = Act::kDropParent;
      break;
    case Act::kDropParent:
    case Act::kDone:
      break;
  }
  done_ = step.act;
  return step;
}

void Flatten::OwnLacks(const std::vector<BlockRange>& absent) {
  const auto is_absent = [&absent](uint64_t block) {
    return std::any_of(absent.begin(), absent.end(), [block](const BlockRange& one) {
      return block >= one.first && block < one.end();
    });
  };
  for (ParentBlock& block : above_) {
    if (!is_absent(block.block)) continue;
    if (writes_.empty() || writes_.back().range.end() != block.block) {
      writes_.push_back({Act::kWrite, {block.block, 0}, {}});
    }
    ++writes_.back().range.count;
    writes_.back().data += block.data;
  }
  above_.clear();
}

}  // namespace weir::engine
