#include "replica/store/testing/join_world.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/base/crc32c.h"
#include "proto/base/errno.h"
#include "proto/base/status_macros.h"
#include "replica/store/testing/join_steps.h"
#include "replica/store/testing/temp_store.h"

namespace weir::store::testing {
namespace {

constexpr VolumeId kVolume{7};

absl::Status Wrong(LaneId lane, absl::string_view what) {
  return absl::InternalError(absl::StrCat("lane ", Index(lane), ": ", what));
}

}  // namespace

JoinWorld::JoinWorld(const Settings& settings)
    : settings_(settings), random_(settings.seed),
      source_(std::make_unique<Machine>(std::make_shared<FaultFs>())),
      target_(std::make_unique<Machine>(std::make_shared<FaultFs>())),
      log_(settings.geometry.lanes.lanes), durable_(settings.geometry.lanes.lanes) {}

absl::Status JoinWorld::Start() {
  source_->OpenFaster();
  RETURN_IF_ERROR(source_->Open(settings_.directories));
  RETURN_IF_ERROR(target_->Open(settings_.directories));
  RETURN_IF_ERROR(source()->CreateVolume(kVolume, settings_.geometry));
  RETURN_IF_ERROR(target_->store->CreateVolume(kVolume, settings_.geometry));
  RETURN_IF_ERROR(TakeOver(nullptr));
  RETURN_IF_ERROR(WriteSource(4));
  RETURN_IF_ERROR(Join(target_->store.get(), false));
  return CopyAll(source(), target_->store.get(), kVolume).status();
}

// --- acts ---

absl::Status JoinWorld::Step() {
  Store* target = target_->store.get();
  const uint64_t dice = Below(100);
  if (dice < 40) return WriteSource(1 + Below(3));
  if (dice < 60) return Deliver(target, 1 + Below(4));
  if (dice < 80) return Copy(target);
  if (dice < 86) return FlushTarget(target);
  if (dice < 92) return FlushSource();
  if (dice < 94) return TakeOver(Below(2) == 0 ? target : nullptr);
  if (dice < 98) return Join(target, Below(6) == 0);
  // May find blocks that are not copied, or lanes of different joins.
  const absl::Status status = target->FinishJoin(kVolume, next_join_ - 1);
  return absl::IsFailedPrecondition(status) || absl::IsAborted(status) ? absl::OkStatus() : status;
}

JoinWorld::Logged JoinWorld::RandomWrite(LaneId lane, Position position) {
  const LaneGeometry& lanes = settings_.geometry.lanes;
  const uint64_t round = uint64_t{lanes.lanes} * lanes.stripe_blocks;
  const uint64_t stripe_first =
      Below(settings_.geometry.size_blocks / round) * round + Index(lane) * lanes.stripe_blocks;
  const uint64_t in_stripe = Below(lanes.stripe_blocks);
  const uint64_t room = std::min(lanes.stripe_blocks - in_stripe, settings_.blocks_max);
  Logged write{.lane = lane, .range = {stripe_first + in_stripe, 1 + Below(room)},
               .position = position, .stamp = stamp_};
  stamp_ += write.range.count;
  const uint64_t dice = Below(10);
  if (dice == 8) write.kind = WriteKind::kDiscard;
  if (dice == 9) write.kind = WriteKind::kWriteZeroes;
  return write;
}

absl::Status JoinWorld::Apply(Store* store, const std::vector<Logged>& writes) const {
  std::vector<std::string> data(writes.size());
  std::vector<std::vector<uint32_t>> crcs(writes.size());
  std::vector<WriteOp> ops(writes.size());
  for (size_t i = 0; i < writes.size(); ++i) {
    const Logged& write = writes[i];
    ops[i] = {.kind = write.kind, .lane = write.lane, .range = write.range,
              .position = write.position};
    if (write.kind != WriteKind::kWrite) continue;
    for (uint64_t b = 0; b < write.range.count; ++b) data[i] += BlockOf(write.stamp + b);
    crcs[i] = BlockChecksums(data[i]);
    ops[i].data = data[i];
    ops[i].crcs = crcs[i];
  }
  for (const WriteResult& result : store->Write(kVolume, ops)) RETURN_IF_ERROR(result.status);
  return absl::OkStatus();
}

absl::Status JoinWorld::WriteSource(uint64_t count) {
  ASSIGN_OR_RETURN(const VolumeState state, source()->GetVolume(kVolume));
  std::map<LaneId, Position> positions;
  for (const LaneState& lane : state.lanes) positions[lane.lane] = lane.position;
  std::vector<Logged> writes;
  for (uint64_t i = 0; i < count; ++i) {
    const LaneId lane{static_cast<uint32_t>(Below(settings_.geometry.lanes.lanes))};
    positions[lane] = positions[lane].Next();
    writes.push_back(RandomWrite(lane, positions[lane]));
    log_[Index(lane)].push_back(writes.back());
  }
  return Apply(source(), writes);
}

absl::Status JoinWorld::Deliver(Store* target, uint64_t count_max) {
  ASSIGN_OR_RETURN(const VolumeState state, target->GetVolume(kVolume));
  for (const LaneState& lane : state.lanes) {
    if (!InEpoch(lane)) continue;
    std::vector<Logged> writes;
    for (const Logged& write : log_[Index(lane.lane)]) {
      if (write.position > lane.position && writes.size() < count_max) writes.push_back(write);
    }
    RETURN_IF_ERROR(Apply(target, writes));
  }
  return absl::OkStatus();
}

absl::Status JoinWorld::Copy(Store* target) {
  ASSIGN_OR_RETURN(const VolumeState state, target->GetVolume(kVolume));
  const LaneState& lane = state.lanes[Below(state.lanes.size())];
  if (lane.invalid_blocks == 0 || !InEpoch(lane)) return absl::OkStatus();
  return CopySome(source(), target, kVolume, lane.lane, 1 + Below(4), 1 + Below(1 << 16))
      .status();
}

absl::Status JoinWorld::Join(Store* target, bool everything) {
  RETURN_IF_ERROR(target->Promise(kVolume, epoch_));
  return BeginJoin(source(), target, kVolume, next_join_++, everything);
}

// The target may have got writes that no other member has; then its frontend died.
absl::Status JoinWorld::TakeOver(Store* divergent) {
  ASSIGN_OR_RETURN(const VolumeState ours, source()->GetVolume(kVolume));
  if (divergent != nullptr) {
    ASSIGN_OR_RETURN(const VolumeState theirs, divergent->GetVolume(kVolume));
    for (const LaneState& lane : theirs.lanes) {
      if (lane.position != ours.lanes[Index(lane.lane)].position) continue;
      std::vector<Logged> writes;
      for (uint64_t i = Below(4); i > 0; --i) {
        writes.push_back(RandomWrite(
            lane.lane, writes.empty() ? lane.position.Next() : writes.back().position.Next()));
      }
      RETURN_IF_ERROR(Apply(divergent, writes));
    }
  }
  ++epoch_;
  std::vector<std::pair<LaneId, Position>> expected;
  for (const LaneState& lane : ours.lanes) expected.emplace_back(lane.lane, lane.position);
  RETURN_IF_ERROR(source()->Promise(kVolume, epoch_));
  return source()->TakeBase(kVolume, epoch_, epoch_ - 1, expected);
}

absl::Status JoinWorld::FlushTarget(Store* target) {
  ASSIGN_OR_RETURN(const VolumeState ours, source()->GetVolume(kVolume));
  for (uint32_t i = 0; i < DomainsOf(*target); ++i) {
    ASSIGN_OR_RETURN(const auto flushed, target->Flush(kVolume, i));
    std::vector<std::pair<LaneId, Position>> points;
    for (const auto& [lane, position] : flushed) {
      durable_[Index(lane)] = std::max(durable_[Index(lane)], position);
      // What the source has synced as well, in the same epoch.
      const Position other = ours.lanes[Index(lane)].durable_position;
      if (position.epoch() == epoch_ && other.epoch() == epoch_) {
        points.emplace_back(lane, std::min(position, other));
      }
    }
    if (Below(2) == 0) RETURN_IF_ERROR(target->NoteDurablePoints(kVolume, points));
  }
  return absl::OkStatus();
}

absl::Status JoinWorld::FlushSource() {
  std::vector<std::pair<LaneId, Position>> keep;
  for (uint32_t i = 0; i < settings_.geometry.lanes.lanes; ++i) {
    keep.emplace_back(LaneId{i}, Position());
  }
  // Half of the time its changes are kept for the target.
  if (Below(2) == 0) keep.clear();
  RETURN_IF_ERROR(source()->KeepChanges(kVolume, keep));
  for (uint32_t i = 0; i < DomainsOf(*source()); ++i) {
    ASSIGN_OR_RETURN(const auto flushed, source()->Flush(kVolume, i));
    if (settings_.reclaim) RETURN_IF_ERROR(source()->NoteDurablePoints(kVolume, flushed));
  }
  return absl::OkStatus();
}

absl::Status JoinWorld::Finish(Store* target, bool resume) {
  ASSIGN_OR_RETURN(VolumeState state, target->GetVolume(kVolume));
  const uint64_t join_id = state.lanes[0].join_id;
  for (const LaneState& lane : state.lanes) {
    if (!InEpoch(lane) || !OnTrueHistory(lane) || lane.join_id != join_id) resume = false;
  }
  if (!resume) RETURN_IF_ERROR(Join(target, Below(6) == 0));
  RETURN_IF_ERROR(CopyAll(source(), target, kVolume).status());
  RETURN_IF_ERROR(Deliver(target, ~uint64_t{0}));
  RETURN_IF_ERROR(target->FinishJoin(kVolume, resume ? join_id : next_join_ - 1));
  for (uint32_t i = 0; i < DomainsOf(*target); ++i) {
    RETURN_IF_ERROR(target->Flush(kVolume, i).status());
  }
  return CheckEqual(target);
}

// --- judging ---

bool JoinWorld::OnTrueHistory(const LaneState& lane) const {
  const auto ours = source_->store->GetVolume(kVolume);
  Position common;
  return ours.ok() && CommonPoint(ours->lanes[Index(lane.lane)], lane, &common) &&
         common == lane.position;
}

std::vector<uint64_t> JoinWorld::ContentAt(LaneId lane, Position position) const {
  std::vector<uint64_t> stamps(settings_.geometry.size_blocks, 0);
  for (const Logged& write : log_[Index(lane)]) {
    if (write.position > position) break;
    for (uint64_t i = 0; i < write.range.count; ++i) {
      stamps[write.range.first + i] = write.kind == WriteKind::kWrite ? write.stamp + i : 0;
    }
  }
  return stamps;
}

bool JoinWorld::ChangesAfter(LaneId lane, uint64_t block, Position position) const {
  return std::any_of(log_[Index(lane)].begin(), log_[Index(lane)].end(), [&](const Logged& w) {
    return w.position > position && block >= w.range.first && block < w.range.end();
  });
}

absl::Status JoinWorld::CheckLane(Store* target, const LaneState& lane) const {
  const bool true_history = OnTrueHistory(lane);
  const std::vector<uint64_t> stamps = ContentAt(lane.lane, lane.position);
  uint64_t invalid = 0;
  for (uint64_t block = 0; block < stamps.size(); ++block) {
    if (settings_.geometry.lanes.LaneOf(block) != lane.lane) continue;
    absl::StatusOr<ReadResult> read = target->Read(kVolume, {block, 1});
    if (StatusToErrno(read.status()) == kBlockInvalid) {
      ++invalid;
      continue;
    }
    RETURN_IF_ERROR(read.status());
    if (!true_history) continue;
    // The source had overwritten it when it was copied, and may not have had it any more.
    if (settings_.reclaim && ChangesAfter(lane.lane, block, lane.position)) continue;
    const bool right = stamps[block] == 0 ? read->zeroes : read->data == BlockOf(stamps[block]);
    if (!right) {
      return Wrong(lane.lane, absl::StrCat("block ", block, " is not of stamp ", stamps[block],
                                           " at ", lane.position.ToString()));
    }
  }
  if (invalid == lane.invalid_blocks) return absl::OkStatus();
  return Wrong(lane.lane, absl::StrCat(invalid, " blocks are refused, ", lane.invalid_blocks,
                                       " said to be invalid"));
}

absl::Status JoinWorld::Check(Store* target, const std::vector<Position>& durable) const {
  ASSIGN_OR_RETURN(const VolumeState state, target->GetVolume(kVolume));
  for (const LaneState& lane : state.lanes) {
    if (lane.position < durable[Index(lane.lane)] ||
        lane.durable_position < durable[Index(lane.lane)]) {
      return Wrong(lane.lane, absl::StrCat("at ", lane.position.ToString(), ", had synced ",
                                           durable[Index(lane.lane)].ToString()));
    }
    RETURN_IF_ERROR(CheckLane(target, lane));
  }
  return absl::OkStatus();
}

// Both at one position. Each may have dropped what a newer version covers, so
// what both have must agree, and so must the newest of each block.
absl::Status JoinWorld::CheckVersions(Store* target, LaneId lane) const {
  ASSIGN_OR_RETURN(const VolumeState state, source_->store->GetVolume(kVolume));
  const std::vector<BlockRange> all = {{0, settings_.geometry.size_blocks}};
  std::map<std::pair<uint64_t, Position>, BlockVersion> ours;
  std::map<uint64_t, BlockVersion> newest;
  for (Store* store : {source_->store.get(), target}) {
    std::map<uint64_t, BlockVersion> newest_here;
    ASSIGN_OR_RETURN(const VersionsPart part,
                     store->ReadVersions(kVolume, lane, all, state.lanes[Index(lane)].position,
                                         ~uint64_t{0}));
    for (const BlockVersion& version : part.versions) {
      newest_here.emplace(version.block, version);
      const auto [it, added] = ours.emplace(std::pair(version.block, version.position), version);
      if (it->second.zero == version.zero && it->second.data == version.data) continue;
      return Wrong(lane, absl::StrCat("block ", version.block, " differs at ",
                                      version.position.ToString()));
    }
    if (store == source_->store.get()) newest = std::move(newest_here);
    if (store != target) continue;
    for (const auto& [block, version] : newest) {
      // A zero version is written only where something was to be hidden.
      const auto mine = newest_here.find(block);
      const bool zero = mine == newest_here.end() || mine->second.zero;
      if (version.zero ? zero : !zero && mine->second.position == version.position) continue;
      return Wrong(lane, absl::StrCat("block ", block, " has another newest version than ",
                                      version.position.ToString()));
    }
  }
  return absl::OkStatus();
}

absl::Status JoinWorld::CheckEqual(Store* target) const {
  ASSIGN_OR_RETURN(const VolumeState ours, source_->store->GetVolume(kVolume));
  ASSIGN_OR_RETURN(const VolumeState theirs, target->GetVolume(kVolume));
  for (const LaneState& lane : theirs.lanes) {
    const LaneState& other = ours.lanes[Index(lane.lane)];
    if (lane.position != other.position || lane.lineage != other.lineage ||
        lane.invalid_blocks != 0 || lane.join_id != 0) {
      return Wrong(lane.lane, absl::StrCat("at ", lane.position.ToString(), ", not ",
                                           other.position.ToString(), ", or still joining"));
    }
    RETURN_IF_ERROR(CheckLane(target, lane));
    RETURN_IF_ERROR(CheckLane(source_->store.get(), other));
    RETURN_IF_ERROR(CheckVersions(target, lane.lane));
  }
  return absl::OkStatus();
}

}  // namespace weir::store::testing
