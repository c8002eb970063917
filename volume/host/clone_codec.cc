#include "volume/host/clone_codec.h"

#include <cerrno>
#include <vector>

#include "absl/strings/str_cat.h"
#include "proto/base/check.h"
#include "proto/base/crc32c.h"
#include "proto/base/status_macros.h"

namespace weir::host {
namespace {

// Of any volume.
constexpr uint64_t kBlocksMax = uint64_t{1} << 44;

v1::IoKind WireKind(engine::RequestKind kind) {
  switch (kind) {
    case engine::RequestKind::kRead:
      return v1::IO_KIND_READ;
    case engine::RequestKind::kWrite:
    case engine::RequestKind::kBarrier:  // its write; see engine/types.h
      return v1::IO_KIND_WRITE;
    case engine::RequestKind::kWriteZeroes:
      return v1::IO_KIND_WRITE_ZEROES;
    case engine::RequestKind::kDiscard:
      return v1::IO_KIND_DISCARD;
    case engine::RequestKind::kFlush:
      return v1::IO_KIND_FLUSH;
    case engine::RequestKind::kExtents:
      return v1::IO_KIND_EXTENTS;
  }
  return v1::IO_KIND_UNSPECIFIED;
}

absl::Status DoesNotFit(const v1::IoReply& reply, absl::string_view what) {
  return absl::InvalidArgumentError(
      absl::StrCat("reply ", reply.id(), " ", what));
}

// The data of a successful READ, verified.
absl::Status DecodeData(const v1::IoReply& reply, uint64_t blocks,
                        const Payload& payload, engine::CloneReply* decoded) {
  if (reply.zeroes()) {
    if (reply.payload_blocks() != 0) {
      return DoesNotFit(reply, "reads as zeros and yet has data");
    }
    decoded->zeroes = true;
    return absl::OkStatus();
  }
  if (reply.payload_blocks() != blocks ||
      static_cast<uint64_t>(reply.crc32c_size()) != blocks) {
    return DoesNotFit(reply,
                      absl::StrCat("has ", reply.payload_blocks(), " blocks and ",
                                   reply.crc32c_size(), " checksums instead of ",
                                   blocks));
  }
  const std::vector<uint32_t> crcs(reply.crc32c().begin(),
                                   reply.crc32c().end());
  const int64_t bad = FirstBadBlock(payload.bytes(), crcs);
  if (bad >= 0) {
    decoded->result = engine::Result(EBADMSG);
    decoded->message = absl::StrCat(
        "the data of block ", bad, " of this read does not match its checksum");
    return absl::OkStatus();
  }
  decoded->data = payload;
  return absl::OkStatus();
}

}  // namespace

void EncodeClone(const engine::Clone& clone, v1::Io* io) {
  io->set_id(static_cast<uint64_t>(clone.id));
  io->set_kind(WireKind(clone.kind));
  io->set_lane(Index(clone.lane));
  io->set_first_block(clone.range.first);
  io->set_block_count(static_cast<uint32_t>(clone.range.count));
  io->set_position(clone.position.bits());
  io->set_fua(clone.fua);
  io->mutable_crc32c()->Add(clone.crcs.begin(), clone.crcs.end());
  io->set_flush_nr(clone.flush_nr);
  io->set_overlay(clone.overlay);
}

absl::StatusOr<engine::CloneReply> DecodeReply(const v1::IoReply& reply,
                                               engine::RequestKind kind,
                                               uint64_t blocks,
                                               const Payload& payload) {
  engine::CloneReply decoded;
  decoded.position = Position::FromBits(reply.position());
  for (const v1::LanePosition& point : reply.durable()) {
    decoded.durable.emplace_back(LaneId{point.lane()},
                                 Position::FromBits(point.position()));
  }
  if (reply.error() < 0) return DoesNotFit(reply, "has a negative error");
  decoded.result = engine::Result(reply.error());
  if (reply.error() != 0) {
    decoded.message = reply.message();
    return decoded;
  }
  if (kind == engine::RequestKind::kRead) {
    absl::Status status = DecodeData(reply, blocks, payload, &decoded);
    if (!status.ok()) return status;
    ASSIGN_OR_RETURN(decoded.absent, DecodeRuns(reply.absent(), kBlocksMax));
  }
  if (kind == engine::RequestKind::kExtents) {
    uint64_t covered = 0;
    for (const v1::Extent& extent : reply.extents()) {
      // Compared so that the sum cannot overflow.
      if (extent.block_count() > blocks - covered) {
        return DoesNotFit(reply, "has more extents than were asked for");
      }
      decoded.extents.push_back({extent.block_count(), extent.allocated()});
      covered += extent.block_count();
    }
    if (covered != blocks) {
      return DoesNotFit(reply, "has fewer extents than were asked for");
    }
  }
  return decoded;
}

absl::StatusOr<std::vector<std::pair<engine::CloneId, engine::CloneReply>>> DecodeReplies(
    const v1::IoReplyFrame& frame, const Payload& payload,
    absl::FunctionRef<std::optional<AskedFor>(const v1::IoReply&)> take) {
  std::vector<std::pair<engine::CloneId, engine::CloneReply>> replies;
  replies.reserve(static_cast<size_t>(frame.replies_size()));
  size_t offset = 0;
  for (const v1::IoReply& reply : frame.replies()) {
    const size_t bytes = size_t{reply.payload_blocks()} * kBlockBytes;
    if (bytes > payload.size() - offset) {
      return absl::InvalidArgumentError("a frame's payload is too short");
    }
    const Payload data = payload.Slice(offset, bytes);
    offset += bytes;
    const std::optional<AskedFor> asked = take(reply);
    if (!asked.has_value()) continue;
    ASSIGN_OR_RETURN(engine::CloneReply decoded,
                     DecodeReply(reply, asked->kind, asked->blocks, data));
    replies.emplace_back(engine::CloneId{reply.id()}, std::move(decoded));
  }
  return replies;
}

absl::StatusOr<std::vector<BlockRange>> DecodeRuns(
    const google::protobuf::RepeatedPtrField<v1::BlockRun>& runs, uint64_t size_blocks) {
  std::vector<BlockRange> ranges;
  ranges.reserve(static_cast<size_t>(runs.size()));
  for (const v1::BlockRun& run : runs) {
    if (run.first_block() >= size_blocks ||
        run.block_count() > size_blocks - run.first_block()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "blocks ", run.first_block(), "+", run.block_count(),
          " reach past the volume's ", size_blocks));
    }
    ranges.push_back({run.first_block(), run.block_count()});
  }
  return ranges;
}

absl::StatusOr<BlockDigests> DecodeDigests(const v1::GetDigestsResponse& response,
                                           BlockRange range) {
  if (response.next_block() <= range.first || response.next_block() > range.end()) {
    return absl::InvalidArgumentError(absl::StrCat("blocks up to ", response.next_block(),
                                                   " were compared, beginning at ", range.first));
  }
  BlockDigests digests;
  digests.next_block = response.next_block();
  digests.bytes_read = response.bytes_read();
  digests.blocks.reserve(static_cast<size_t>(response.blocks_size()));
  uint64_t next = range.first;
  for (const v1::BlockDigest& wire : response.blocks()) {
    const bool known = wire.kind() >= v1::BlockDigest::DATA && wire.kind() <= v1::BlockDigest::NEWER;
    if (!known || wire.block() < next || wire.block() >= digests.next_block) {
      return absl::InvalidArgumentError(
          absl::StrCat("what is told of block ", wire.block(), " is not as it was asked for"));
    }
    next = wire.block() + 1;
    digests.blocks.push_back({wire.block(), static_cast<BlockDigest::Kind>(wire.kind()),
                              Position::FromBits(wire.position()), wire.crc32c()});
  }
  return digests;
}

absl::StatusOr<engine::TargetHello> DecodeHello(const v1::HelloReply& hello,
                                                uint32_t lanes) {
  if (static_cast<uint32_t>(hello.lanes_size()) != lanes ||
      hello.num_flush_requests() == 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "hello with ", hello.lanes_size(), " lanes instead of ", lanes, " and ",
        hello.num_flush_requests(), " flush domains"));
  }
  engine::TargetHello decoded;
  decoded.incarnation = hello.incarnation();
  decoded.num_flush_requests = hello.num_flush_requests();
  if (hello.inflight_bytes_max() != 0) {
    decoded.inflight_bytes_max = hello.inflight_bytes_max();
  }
  decoded.flush_supported = hello.flush_supported();
  decoded.space_exhausted = hello.space_exhausted();
  for (uint32_t i = 0; i < lanes; ++i) {
    const v1::LaneState& lane = hello.lanes(static_cast<int>(i));
    if (lane.lane() != i || lane.domain() >= hello.num_flush_requests()) {
      return absl::InvalidArgumentError(
          absl::StrCat("hello: lane ", lane.lane(), " in domain ",
                       lane.domain(), " where lane ", i, " was expected"));
    }
    decoded.lanes.push_back({Position::FromBits(lane.position()),
                             Position::FromBits(lane.durable_position()),
                             lane.domain()});
  }
  return decoded;
}

engine::SealedState DecodeSeal(const v1::SealResponse& response) {
  engine::SealedState state;
  state.store_id = response.store_id();
  state.boot_id = response.boot_id();
  state.incarnation = response.incarnation();
  state.flush_supported = response.flush_supported();
  state.lanes = DecodeLanes(response.lanes());
  return state;
}

std::vector<engine::SealedState::Lane> DecodeLanes(const google::protobuf::RepeatedPtrField<v1::LaneState>& lanes) {
  std::vector<engine::SealedState::Lane> decoded;
  for (const v1::LaneState& lane : lanes) {
    engine::SealedState::Lane& sealed = decoded.emplace_back();
    sealed.position = Position::FromBits(lane.position());
    sealed.durable = Position::FromBits(lane.durable_position());
    for (const v1::LineageEntry& entry : lane.lineage()) {
      sealed.lineage.push_back({entry.epoch(), entry.n()});
    }
    sealed.invalid_blocks = lane.invalid_blocks();
    if (lane.join_id() != 0) sealed.join_to = Position::FromBits(lane.join_position());
  }
  return decoded;
}

}  // namespace weir::host
