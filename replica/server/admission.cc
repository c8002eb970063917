#include "replica/server/admission.h"

#include <cerrno>

#include "absl/strings/str_cat.h"
#include "proto/base/errno.h"
#include "proto/base/protocol.h"
#include "proto/base/status_macros.h"

namespace weir::replica {
namespace {

absl::Status CheckEpochInRange(const v1::Fence& fence) {
  if (fence.epoch() >= 1 && fence.epoch() <= Position::kEpochMax) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "epoch ", fence.epoch(), " is not between 1 and ", Position::kEpochMax));
}

absl::Status Fenced(Epoch promised, const v1::Fence& fence) {
  return ErrnoToStatus(
      ESTALE, absl::StrCat("fenced: volume=", fence.volume_id(), " epoch=", fence.epoch(),
                           " but this replica has promised epoch ", promised,
                           "; another frontend has taken the volume over"));
}

absl::Status InvalidIo(const v1::Io& io, absl::string_view why) {
  return ErrnoToStatus(EINVAL, absl::StrCat("io ", io.id(), ": ", why));
}

}  // namespace

absl::Status CheckIdentity(const store::Identity& ours, const v1::Fence& fence,
                           Acquaintance acquaintance) {
  RETURN_IF_ERROR(CheckProtocol(fence.protocol(), "the frontend"));
  if (fence.cluster_id().empty()) {
    return absl::InvalidArgumentError("fence.cluster_id is missing");
  }
  if (!ours.cluster_id.empty() && fence.cluster_id() != ours.cluster_id) {
    return absl::FailedPreconditionError(
        absl::StrCat("this replica belongs to cluster ", ours.cluster_id, ", not to ",
                     fence.cluster_id(), "; check the replica's address"));
  }
  if (fence.store_id().empty() && acquaintance != Acquaintance::kStranger) {
    return absl::InvalidArgumentError("fence.store_id is missing");
  }
  if (!fence.store_id().empty() && fence.store_id() != ours.store_id) {
    return absl::FailedPreconditionError(
        absl::StrCat("this is store ", ours.store_id, ", not ", fence.store_id(),
                     "; another replica answers at this address"));
  }
  const bool known = fence.incarnation() != 0;
  if (!known && acquaintance != Acquaintance::kProcess) return absl::OkStatus();
  if (fence.incarnation() == ours.incarnation) return absl::OkStatus();
  const std::string text = absl::StrCat("this is incarnation ", ours.incarnation, ", not ",
                                        fence.incarnation(), "; the replica was restarted since");
  return acquaintance == Acquaintance::kProcess ? absl::AbortedError(text)
                                                : absl::FailedPreconditionError(text);
}

absl::Status CheckEpochNotBelow(Epoch promised, const v1::Fence& fence) {
  RETURN_IF_ERROR(CheckEpochInRange(fence));
  return fence.epoch() < promised ? Fenced(promised, fence) : absl::OkStatus();
}

absl::Status CheckEpochIs(Epoch promised, const v1::Fence& fence) {
  RETURN_IF_ERROR(CheckEpochNotBelow(promised, fence));
  if (fence.epoch() == promised) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("volume=", fence.volume_id(), " epoch=", fence.epoch(),
                   " is not sealed here (promised: ", promised, "); call Seal first"));
}

absl::Status CheckBaseTaken(const store::VolumeState& volume, Epoch epoch) {
  for (const store::LaneState& lane : volume.lanes) {
    if (lane.position.epoch() == epoch) continue;
    return absl::FailedPreconditionError(absl::StrCat(
        "volume=", static_cast<uint64_t>(volume.id), " lane ", Index(lane.lane), " is at ",
        lane.position.ToString(), ", not in epoch ", epoch, "; call TakeBase first"));
  }
  return absl::OkStatus();
}

absl::Status CheckUpdate(const store::VolumeUpdate& update, const v1::Fence& fence) {
  if (update.version >> 32 == fence.epoch() && update.size_blocks <= kVolumeBlocksMax) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("update ", update.version, " is not of epoch ", fence.epoch(), ", or its ",
                                                 update.size_blocks, " blocks are too many"));
}

absl::Status CheckJoin(const store::JoinLane& join, const v1::Fence& fence) {
  if (join.to.epoch() == fence.epoch()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("to_position ", join.to.ToString(), " is not of epoch ", fence.epoch()));
}

absl::StatusOr<store::VolumeGeometry> CheckGeometry(uint64_t size_bytes, uint32_t lanes,
                                                    uint32_t stripe_blocks) {
  if (size_bytes == 0 || size_bytes % kBlockBytes != 0 ||
      size_bytes / kBlockBytes > kVolumeBlocksMax) {
    return absl::InvalidArgumentError(absl::StrCat(
        "size_bytes ", size_bytes, " is not a multiple of 4096 between 4096 and 64 PiB"));
  }
  if (lanes == 0 || lanes > kLanesMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("lanes ", lanes, " is not between 1 and ", kLanesMax));
  }
  if (stripe_blocks == 0 || stripe_blocks > kStripeBlocksMax) {
    return absl::InvalidArgumentError(absl::StrCat(
        "stripe_blocks ", stripe_blocks, " is not between 1 and ", kStripeBlocksMax));
  }
  store::VolumeGeometry geometry;
  geometry.size_blocks = size_bytes / kBlockBytes;
  geometry.lanes.lanes = lanes;
  geometry.lanes.stripe_blocks = stripe_blocks;
  return geometry;
}

absl::Status CheckFrame(const v1::IoFrame& frame, size_t payload_bytes, uint32_t ios_max) {
  if (frame.has_hello()) {
    return absl::InvalidArgumentError("hello is for the first frame of a stream only");
  }
  if (static_cast<size_t>(frame.ios_size()) > ios_max) {
    return absl::InvalidArgumentError(
        absl::StrCat("a frame of ", frame.ios_size(), " ios; at most ", ios_max, " are allowed"));
  }
  uint64_t written_bytes = 0;
  for (const v1::Io& io : frame.ios()) {
    if (!v1::IoKind_IsValid(io.kind()) || io.kind() == v1::IO_KIND_UNSPECIFIED) {
      return absl::InvalidArgumentError(
          absl::StrCat("io ", io.id(), ": kind ", static_cast<int>(io.kind()), " is unknown"));
    }
    const bool has_data = io.kind() == v1::IO_KIND_WRITE;
    const size_t crcs = has_data ? io.block_count() : 0;
    if (static_cast<size_t>(io.crc32c_size()) != crcs) {
      return absl::InvalidArgumentError(absl::StrCat(
          "io ", io.id(), ": ", io.crc32c_size(), " crc32c where ", crcs, " belong"));
    }
    if (has_data) written_bytes += uint64_t{io.block_count()} * kBlockBytes;
  }
  if (written_bytes != payload_bytes) {
    return absl::InvalidArgumentError(absl::StrCat("the frame's writes have ", written_bytes,
                                                   " bytes, its payload ", payload_bytes));
  }
  return absl::OkStatus();
}

absl::Status CheckIo(const v1::Io& io, const StreamScope& scope) {
  if (io.kind() == v1::IO_KIND_FLUSH) {
    if (io.flush_nr() < scope.num_flush_requests) return absl::OkStatus();
    return InvalidIo(io, absl::StrCat("flush_nr ", io.flush_nr(), " is not below ",
                                      scope.num_flush_requests));
  }
  const LaneGeometry& lanes = scope.geometry.lanes;
  if (io.block_count() == 0) return InvalidIo(io, "no blocks");
  if (io.first_block() >= scope.geometry.size_blocks ||
      io.block_count() > scope.geometry.size_blocks - io.first_block()) {
    return InvalidIo(io, absl::StrCat("blocks ", io.first_block(), "+", io.block_count(),
                                      " reach past the volume's ", scope.geometry.size_blocks));
  }
  const uint64_t last_block = io.first_block() + io.block_count() - 1;
  if (io.first_block() / lanes.stripe_blocks != last_block / lanes.stripe_blocks) {
    return InvalidIo(io, "crosses a stripe");
  }
  if (io.lane() != Index(lanes.LaneOf(io.first_block()))) {
    return InvalidIo(io, absl::StrCat("block ", io.first_block(), " is not in lane ", io.lane()));
  }
  return absl::OkStatus();
}

}  // namespace weir::replica
