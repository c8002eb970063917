#include "replica/server/join_calls.h"

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "proto/base/log.h"
#include "proto/base/status_macros.h"
#include "proto/wire/status.h"
#include "replica/server/convert.h"

namespace weir::replica {
namespace {

// What a part is filled to. Its last block may have 1 MiB of versions more, and gRPC's usual
// limit is 4 MiB a message.
constexpr uint64_t kPartBytes = 1000 * 1000;
constexpr uint64_t kStreamBytesDefault = 16 << 20;
constexpr uint32_t kPageRangesDefault = 4096;
// A caller may ask for less; a call must not read for long.
constexpr uint64_t kDigestBytesMax = 4 << 20;

Position PositionOf(uint64_t bits) { return Position::FromBits(bits); }

uint64_t FirstLost(const store::CopyPart& part) {
  const auto lost = std::find_if(part.versions.begin(), part.versions.end(), [](const auto& one) { return one.lost; });
  return lost == part.versions.end() ? 0 : lost->block;
}

// Reads a part at a time, each under the fence anew: a newer epoch ends the stream.
class ReadVersionsCall final : public grpc::ServerWriteReactor<v1::VersionsPart> {
 public:
  ReadVersionsCall(Replica& replica, const wire::VolumeGrant& grant, const v1::ReadVersionsRequest& request)
      : replica_(replica), fence_(request.fence()), lane_(LaneId{request.lane()}),
        at_most_(PositionOf(request.at_most_position())),
        ranges_(RangesFromProto(request.ranges())),
        damaged_(request.lost_too() ? store::Damaged::kAsLost : store::Damaged::kRefused),
        bytes_left_(request.bytes_max() != 0 ? request.bytes_max() : kStreamBytesDefault) {
    if (const absl::Status status = grant.Check(fence_.volume_id()); !status.ok()) {
      Finish(wire::ToGrpc(status));
      return;
    }
    ReadNext();
  }

  void OnWriteDone(bool ok) override {
    if (!ok) return Finish(grpc::Status(grpc::StatusCode::CANCELLED, "the caller went away"));
    if (next_range_ == ranges_.size() || bytes_left_ == 0) return Finish(grpc::Status::OK);
    ReadNext();
  }
  void OnDone() override { delete this; }

 private:
  void ReadNext() {
    const bool taken = replica_.control().Run([this] {
      const absl::Status status =
          replica_.gate().Step(fence_, [this](VolumeId id) { return Read(id); });
      if (!status.ok()) {
        replica_.CheckHealth();
        return Finish(wire::ToGrpc(status));
      }
      StartWrite(&part_);
    });
    if (!taken) {
      Finish(wire::ToGrpc(
          absl::UnavailableError("the replica is busy or shutting down; try again")));
    }
  }

  absl::Status Read(VolumeId id) {
    ASSIGN_OR_RETURN(store::VersionsPart read,
                     replica_.store().ReadVersions(
                         id, lane_, absl::MakeConstSpan(ranges_).subspan(next_range_), at_most_,
                         std::min(bytes_left_, kPartBytes), damaged_));
    part_.Clear();
    RangesToProto(read.ranges, part_.mutable_ranges());
    uint64_t bytes = 0;
    for (store::BlockVersion& version : read.versions) {
      bytes += version.data.size();
      VersionToProto(std::move(version), part_.add_versions());
    }
    part_.set_position(read.position.bits());
    bytes_left_ -= std::min(bytes_left_, std::max<uint64_t>(bytes, 1));
    if (!read.ranges.empty()) SkipTo(read.ranges.back().end());
    return absl::OkStatus();
  }

  // What is left of `ranges_` begins at or past `block`.
  void SkipTo(uint64_t block) {
    while (next_range_ < ranges_.size() && ranges_[next_range_].end() <= block) ++next_range_;
    if (next_range_ == ranges_.size()) return;
    BlockRange& range = ranges_[next_range_];
    if (range.first < block) range = {block, range.end() - block};
  }

  Replica& replica_;
  const v1::Fence fence_;
  const LaneId lane_;
  const Position at_most_;
  std::vector<BlockRange> ranges_;
  size_t next_range_ = 0;
  const store::Damaged damaged_;
  uint64_t bytes_left_;
  v1::VersionsPart part_;
};

}  // namespace

absl::Status GetChanges(Replica& replica, const v1::GetChangesRequest& request,
                        v1::GetChangesResponse* response) {
  return replica.gate().Step(request.fence(), [&](VolumeId id) {
    ASSIGN_OR_RETURN(const std::vector<BlockRange> changes,
                     replica.store().ReadChanges(id, LaneId{request.lane()},
                                                 PositionOf(request.from_position()),
                                                 PositionOf(request.to_position())));
    RangesToProto(changes, response->mutable_changes());
    return absl::OkStatus();
  });
}

absl::Status BeginJoin(Replica& replica, const v1::BeginJoinRequest& request) {
  const store::JoinLane join = JoinLaneFromProto(request);
  return replica.gate().Step(request.fence(), [&](VolumeId id) {
    RETURN_IF_ERROR(CheckJoin(join, request.fence()));
    RETURN_IF_ERROR(replica.store().BeginJoin(id, join));
    LOG(INFO) << "replica=" << replica.options().name
              << " volume=" << static_cast<uint64_t>(id) << " epoch=" << request.fence().epoch()
              << " lane=" << Index(join.lane) << " join=" << join.join_id << " from "
              << join.expected.ToString() << " to " << join.to.ToString()
              << (join.everything ? ", all of its blocks" : "");
    return absl::OkStatus();
  });
}

grpc::ServerWriteReactor<v1::VersionsPart>* StartReadVersions(
    Replica& replica, const wire::VolumeGrant& grant, const v1::ReadVersionsRequest& request) {
  return new ReadVersionsCall(replica, grant, request);
}

absl::Status CopyIn(Replica& replica, const v1::CopyInRequest& request) {
  const store::CopyPart part = CopyPartFromProto(request);
  return replica.gate().Step(request.fence(), [&](VolumeId id) {
    RETURN_IF_ERROR(request.repair() ? replica.store().Repair(id, part)
                                     : replica.store().CopyIn(id, part));
    uint64_t bytes = 0;
    uint64_t lost = 0;
    for (const store::BlockVersion& version : part.versions) {
      bytes += version.data.size();
      lost += version.lost ? 1 : 0;
    }
    if (lost > 0 && !request.repair()) {
      LOG(ERROR) << "replica=" << replica.options().name << " volume=" << static_cast<uint64_t>(id) << " lane="
                 << Index(part.lane) << " " << lost << " versions of blocks came as lost: no member could read them any "
                 << "more, and they cannot be read here; the first one is of block " << FirstLost(part);
    }
    if (request.repair()) {
      LOG(WARNING) << "replica=" << replica.options().name
                   << " volume=" << static_cast<uint64_t>(id) << " lane=" << Index(part.lane)
                   << " " << part.versions.size()
                   << " damaged versions of blocks were written anew, beginning at block "
                   << (part.ranges.empty() ? 0 : part.ranges[0].first);
    }
    replica.metrics().copied_in_bytes.Increment(static_cast<double>(bytes));
    return absl::OkStatus();
  });
}

absl::Status GetJoin(Replica& replica, const v1::GetJoinRequest& request,
                     v1::GetJoinResponse* response) {
  return replica.gate().Step(request.fence(), [&](VolumeId id) {
    const uint32_t ranges_max =
        request.ranges_max() != 0 ? request.ranges_max() : kPageRangesDefault;
    ASSIGN_OR_RETURN(const store::InvalidPage page,
                     replica.store().InvalidBlocks(id, LaneId{request.lane()},
                                                   request.from_block(), ranges_max));
    response->set_join_id(page.join_id);
    response->set_to_position(page.to.bits());
    response->set_invalid_blocks(page.invalid_blocks);
    RangesToProto(page.ranges, response->mutable_invalid());
    response->set_next_block(page.next_block);
    return absl::OkStatus();
  });
}

absl::Status GetDigests(Replica& replica, const v1::GetDigestsRequest& request,
                        v1::GetDigestsResponse* response) {
  return replica.gate().Step(request.fence(), [&](VolumeId id) {
    const uint64_t bytes_max =
        request.bytes_max() != 0 ? std::min(request.bytes_max(), kDigestBytesMax) : kDigestBytesMax;
    ASSIGN_OR_RETURN(const BlockDigests digests,
                     replica.store().Digests(id, LaneId{request.lane()},
                                             {request.first_block(), request.block_count()},
                                             PositionOf(request.at_position()), bytes_max));
    uint64_t damaged = 0;
    for (const BlockDigest& digest : digests.blocks) {
      v1::BlockDigest* wire = response->add_blocks();
      wire->set_block(digest.block);
      wire->set_kind(static_cast<v1::BlockDigest::Kind>(digest.kind));
      wire->set_position(digest.position.bits());
      wire->set_crc32c(digest.crc);
      if (digest.kind == BlockDigest::Kind::kDamaged) ++damaged;
    }
    response->set_next_block(digests.next_block);
    response->set_bytes_read(digests.bytes_read);
    replica.metrics().scrubbed_bytes.Increment(static_cast<double>(digests.bytes_read));
    replica.metrics().scrub_damaged_blocks.Increment(static_cast<double>(damaged));
    return absl::OkStatus();
  });
}

absl::Status FinishJoin(Replica& replica, const v1::FinishJoinRequest& request) {
  return replica.gate().Step(request.fence(), [&](VolumeId id) {
    RETURN_IF_ERROR(replica.store().FinishJoin(id, request.join_id()));
    LOG(INFO) << "replica=" << replica.options().name
              << " volume=" << static_cast<uint64_t>(id) << " epoch=" << request.fence().epoch()
              << " join=" << request.join_id() << " finished";
    return absl::OkStatus();
  });
}

}  // namespace weir::replica
