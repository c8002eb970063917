#include "tests/sim/clone_judge.h"

#include "absl/strings/str_cat.h"

namespace weir::sim {

// One write a block, and a flush.
CloneJudge::CloneJudge(const std::vector<uint64_t>& snapshot, uint64_t blocks)
    : snapshot_(snapshot), first_op_(blocks + 2), clients_(blocks, ContractJudge::Order::kSubmitted) {
  snapshot_.resize(blocks);
  const SessionId before{0};
  for (uint64_t b = 0; b < blocks; ++b) {
    clients_.WriteInvoked(OpId{b + 1}, before, {b, 1}, snapshot_[b], /*fua=*/false);
    clients_.Returned(OpId{b + 1}, {.ok = true}, {});
  }
  clients_.FlushInvoked(OpId{blocks + 1}, before);
  clients_.Returned(OpId{blocks + 1}, {.ok = true}, {});
}

void CloneJudge::ReadReturned(OpId op, BlockRange range, const std::vector<uint64_t>& values) {
  for (uint64_t i = 0; i < values.size(); ++i) {
    const uint64_t was = snapshot_[range.first + i];
    if (values[i] < kOfParent || values[i] == was || !violation_.empty()) continue;
    violation_ = absl::StrCat("K1: block ", range.first + i, " of the clone shows ", values[i],
                              ", which its parent got; in the snapshot it is ", was);
  }
  clients_.Returned(op, {.ok = true}, values);
}

std::string CheckParentIsThere(const std::optional<v1::VolumeRecord>& clone, const v1::VolumeRecord& parent) {
  if (!clone || clone->state() == v1::VolumeRecord::CREATING || !clone->has_parent()) return "";
  for (const v1::SnapshotRecord& snapshot : parent.snapshots()) {
    if (snapshot.pin().id() != clone->parent().pin()) continue;
    for (const v1::CloneRecord& named : snapshot.clones()) {
      if (named.volume_id() == clone->id()) return "";
    }
    return absl::StrCat("K2: the snapshot ", snapshot.name(), " does not name its clone");
  }
  return absl::StrCat("K2: the snapshot ", clone->parent().snapshot(), " is gone, and a clone reads from it");
}

}  // namespace weir::sim
