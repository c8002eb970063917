#include "volume/host/join_runner.h"

#include <algorithm>
#include <atomic>

#include "absl/strings/str_cat.h"
#include "proto/base/log.h"
#include "proto/base/status_macros.h"
#include "volume/host/clock.h"
#include "volume/host/clone_codec.h"
#include "volume/host/volume_record.h"

namespace weir::host {
namespace {

using Kind = engine::RunJoinStep::Kind;

// Of any volume: a replica may have grown, and the frontend died before it could say so.
constexpr uint64_t kBlocksMax = uint64_t{1} << 44;

void AddRanges(const std::vector<BlockRange>& ranges,
               google::protobuf::RepeatedPtrField<v1::BlockRun>* field) {
  for (const BlockRange& range : ranges) {
    v1::BlockRun* run = field->Add();
    run->set_first_block(range.first);
    run->set_block_count(range.count);
  }
}

// The one block, if it is among the ranges: with what is before it there, which is other lanes'.
std::vector<BlockRange> Of(const std::vector<BlockRange>& ranges, BlockRange block) {
  for (const BlockRange& range : ranges) {
    if (range.Overlaps(block)) return {{range.first, block.end() - range.first}};
  }
  return {};
}

// The lane's first block of `ranges`.
uint64_t FirstOf(const std::vector<BlockRange>& ranges, const LaneGeometry& lanes, LaneId lane) {
  for (const BlockRange& range : ranges) {
    for (uint64_t block = range.first; block < range.end(); ++block) {
      if (lanes.LaneOf(block) == lane) return block;
    }
  }
  return 0;
}

}  // namespace

void JoinRunner::Run(const engine::RunJoinStep& step, Done done) {
  if (step.delay <= absl::ZeroDuration()) return Start(step, std::move(done));
  config_.timer->At(MonotonicNow() + step.delay,
                    [self = shared_from_this(), step, done = std::move(done)] {
                      self->Start(step, done);
                    });
}

void JoinRunner::Start(engine::RunJoinStep step, Done done) {
  const bool queued = config_.queue->Run([self = shared_from_this(), step, done] {
    done(step.step, self->Carry(step));
  });
  if (queued) return;
  engine::JoinStepResult result;
  result.status = absl::UnavailableError("too many joins are under way in this frontend");
  done(step.step, std::move(result));
}

engine::JoinStepResult JoinRunner::Carry(const engine::RunJoinStep& step) {
  engine::JoinStepResult result;
  switch (step.kind) {
    case Kind::kSeal:
      result.status = Seal(step, &result);
      break;
    case Kind::kChanges:
      result.status = Changes(step, &result);
      break;
    case Kind::kBegin:
      result.status = Begin(step);
      break;
    case Kind::kCopy:
      result.status = Copy(step, &result);
      break;
    case Kind::kFinish:
      result.status = Finish(step);
      break;
    case Kind::kRepair:
      result.status = Repair(step, &result);
      break;
    case Kind::kUpdate:
      result.status = Update(step);
      break;
    case Kind::kDigest:
      result.status = Digest(step, &result);
      break;
  }
  return result;
}

absl::Status JoinRunner::Seal(const engine::RunJoinStep& step, engine::JoinStepResult* result) {
  v1::SealRequest request;
  *request.mutable_fence() = FenceOf(step.target_config, step.incarnation);
  ASSIGN_OR_RETURN(const v1::SealResponse response,
                   ClientOf(step.target_config)->Seal(request, config_.call_deadline));
  result->sealed = DecodeSeal(response);
  return absl::OkStatus();
}

absl::Status JoinRunner::Changes(const engine::RunJoinStep& step,
                                 engine::JoinStepResult* result) {
  v1::GetChangesRequest request;
  *request.mutable_fence() = FenceOf(step.target_config, step.incarnation);
  request.set_lane(Index(step.lane));
  request.set_from_position(step.common.bits());
  request.set_to_position(step.to.bits());
  ASSIGN_OR_RETURN(const v1::GetChangesResponse response,
                   ClientOf(step.target_config)->GetChanges(request, config_.copy_deadline));
  ASSIGN_OR_RETURN(result->changes, DecodeRuns(response.changes(), kBlocksMax));
  return absl::OkStatus();
}

absl::Status JoinRunner::Update(const engine::RunJoinStep& step) {
  v1::UpdateReplicaVolumeRequest request;
  *request.mutable_fence() = FenceOf(step.target_config, step.incarnation);
  request.set_version(step.version);
  request.set_size_bytes(step.size_blocks * kBlockBytes);
  for (const Pin& pin : step.pins) PinToProto(pin, request.add_pins());
  return ClientOf(step.target_config)->UpdateVolume(request, config_.call_deadline);
}

absl::Status JoinRunner::Begin(const engine::RunJoinStep& step) {
  const absl::Status updated = Update(step);
  // An older replica, which has no pins to drop.
  if (!absl::IsUnimplemented(updated) || !step.pins.empty()) RETURN_IF_ERROR(updated);
  v1::BeginJoinRequest request;
  *request.mutable_fence() = FenceOf(step.target_config, step.incarnation);
  request.set_lane(Index(step.lane));
  request.set_join_id(step.join_id);
  request.set_expected_position(step.expected.bits());
  request.set_to_position(step.to.bits());
  for (const LineageEntry& entry : step.lineage) {
    v1::LineageEntry* wire = request.add_lineage();
    wire->set_epoch(entry.epoch);
    wire->set_n(entry.n);
  }
  request.set_everything(step.everything);
  if (!step.everything) {
    request.set_common_position(step.common.bits());
    AddRanges(step.changes, request.mutable_changes());
  }
  return ClientOf(step.target_config)->BeginJoin(request, config_.copy_deadline);
}

absl::StatusOr<v1::GetJoinResponse> JoinRunner::GetJoin(const engine::RunJoinStep& step) {
  v1::GetJoinRequest request;
  *request.mutable_fence() = FenceOf(step.target_config, step.incarnation);
  request.set_lane(Index(step.lane));
  return ClientOf(step.target_config)->GetJoin(request, config_.call_deadline);
}

std::vector<BlockRange> JoinRunner::Limit(const engine::RunJoinStep& step,
                                          const std::vector<BlockRange>& invalid) const {
  const uint64_t blocks_max = std::max<uint64_t>(step.bytes_max / kBlockBytes, 1);
  uint64_t blocks = 0;
  std::vector<BlockRange> limited;
  for (const BlockRange& range : invalid) {
    uint64_t at = range.first;
    // Stripe by stripe, since those of other lanes do not count.
    while (at < range.end() && blocks < blocks_max) {
      const uint64_t stripe_end =
          (at / config_.lanes.stripe_blocks + 1) * config_.lanes.stripe_blocks;
      uint64_t next = std::min(stripe_end, range.end());
      if (config_.lanes.LaneOf(at) == step.lane) {
        next = std::min(next, at + (blocks_max - blocks));
        blocks += next - at;
      }
      at = next;
    }
    if (at > range.first) limited.push_back({range.first, at - range.first});
    if (blocks >= blocks_max) break;
  }
  return limited;
}

absl::Status JoinRunner::Copy(const engine::RunJoinStep& step, engine::JoinStepResult* result) {
  ASSIGN_OR_RETURN(v1::GetJoinResponse join, GetJoin(step));
  if (join.join_id() != step.join_id) {
    return absl::AbortedError(absl::StrCat("replica ", step.target_config.replica,
                                           " has another join"));
  }
  result->blocks_left = join.invalid_blocks();
  if (join.invalid_blocks() == 0) return absl::OkStatus();
  ASSIGN_OR_RETURN(const std::vector<BlockRange> invalid,
                   DecodeRuns(join.invalid(), kBlocksMax));
  v1::ReadVersionsRequest read;
  *read.mutable_fence() = FenceOf(step.source_config, step.source_incarnation);
  read.set_lane(Index(step.lane));
  read.set_at_most_position(step.to.bits());
  const std::vector<BlockRange> ranges = step.lost_too ? Of(invalid, step.changes.front()) : Limit(step, invalid);
  if (ranges.empty()) return absl::OkStatus();  // a client has written it meanwhile
  result->first_block = FirstOf(ranges, config_.lanes, step.lane);
  AddRanges(ranges, read.mutable_ranges());
  read.set_lost_too(step.lost_too);
  v1::CopyInRequest copy;
  *copy.mutable_fence() = FenceOf(step.target_config, step.incarnation);
  copy.set_lane(Index(step.lane));
  copy.set_join_id(step.join_id);
  copy.set_to_position(step.to.bits());
  ReplicaClient::Copied copied;
  copied.refuse_lost_newest = !step.newest_too;
  ASSIGN_OR_RETURN(result->whole_at,
                   ClientOf(step.target_config)
                       ->CopyBlocks(*ClientOf(step.source_config), read, copy,
                                    config_.copy_deadline, &copied));
  result->bytes_copied = copied.bytes;
  result->versions_lost = copied.lost_versions;
  if (result->versions_lost > 0) {
    LOG(ERROR) << "volume=" << config_.volume_id << " replica=" << step.target_config.replica << " is brought back without "
               << result->versions_lost << " versions of blocks, which no member in sync can read any more";
  }
  ASSIGN_OR_RETURN(join, GetJoin(step));
  result->blocks_left = join.invalid_blocks();
  return absl::OkStatus();
}

absl::Status JoinRunner::Repair(const engine::RunJoinStep& step, engine::JoinStepResult* result) {
  v1::ReadVersionsRequest read;
  *read.mutable_fence() = FenceOf(step.source_config, step.source_incarnation);
  read.set_lane(Index(step.lane));
  read.set_at_most_position(step.to.bits());
  AddRanges(step.changes, read.mutable_ranges());
  read.set_lost_too(step.lost_too);
  v1::CopyInRequest copy;
  *copy.mutable_fence() = FenceOf(step.target_config, step.incarnation);
  copy.set_lane(Index(step.lane));
  copy.set_to_position(step.to.bits());
  copy.set_repair(true);
  ReplicaClient::Copied copied;
  ASSIGN_OR_RETURN(result->whole_at,
                   ClientOf(step.target_config)
                       ->CopyBlocks(*ClientOf(step.source_config), read, copy,
                                    config_.copy_deadline, &copied));
  result->bytes_copied = copied.bytes;
  result->versions_lost = copied.lost_versions;
  for (const BlockRange& range : step.changes) {
    if (result->versions_lost > 0) break;
    LOG(WARNING) << "volume=" << config_.volume_id << " replica=" << step.target_config.replica
                 << " blocks " << range.first << "+" << range.count
                 << " were damaged and have been written anew from replica "
                 << step.source_config.replica << "; look at its disk if that comes again";
  }
  return absl::OkStatus();
}

absl::Status JoinRunner::Digest(const engine::RunJoinStep& step, engine::JoinStepResult* result) {
  const BlockRange range = step.changes.front();
  v1::GetDigestsRequest request;
  *request.mutable_fence() = FenceOf(step.target_config, step.incarnation);
  request.set_lane(Index(step.lane));
  request.set_at_position(step.to.bits());
  request.set_first_block(range.first);
  request.set_block_count(range.count);
  request.set_bytes_max(step.bytes_max);
  ASSIGN_OR_RETURN(const v1::GetDigestsResponse response,
                   ClientOf(step.target_config)->GetDigests(request, config_.copy_deadline));
  ASSIGN_OR_RETURN(result->digests, DecodeDigests(response, range));
  return absl::OkStatus();
}

absl::Status JoinRunner::Finish(const engine::RunJoinStep& step) {
  v1::FinishJoinRequest request;
  *request.mutable_fence() = FenceOf(step.target_config, step.incarnation);
  request.set_join_id(step.join_id);
  return ClientOf(step.target_config)->FinishJoin(request, config_.call_deadline);
}

v1::Fence JoinRunner::FenceOf(const engine::TargetConfig& target, uint64_t incarnation) const {
  v1::Fence fence = NewFence(config_.cluster_id);
  fence.set_volume_id(config_.volume_id);
  fence.set_store_id(target.store_id);
  fence.set_incarnation(incarnation);
  fence.set_epoch(config_.epoch);
  return fence;
}

JoinRunner::Client JoinRunner::ClientOf(const engine::TargetConfig& target) {
  absl::MutexLock lock(&mu_);
  auto& [address, client] = clients_[target.replica];
  if (client == nullptr || address != target.address) {
    address = target.address;
    client = std::make_shared<ReplicaClient>(target.replica, target.address, &cancellation_);
  }
  return client;
}

}  // namespace weir::host
