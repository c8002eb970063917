// Clones and replies, between the engine's words and the wire's.
//
// Thread-safety: free functions, safe.
#ifndef WEIR_VOLUME_HOST_CLONE_CODEC_H_
#define WEIR_VOLUME_HOST_CLONE_CODEC_H_

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "google/protobuf/repeated_ptr_field.h"
#include "proto/base/payload.h"
#include "volume/engine/types.h"
#include "weir/v1/replica.pb.h"

namespace weir::host {

// All but the data.
void EncodeClone(const engine::Clone& clone, v1::Io* io);

// `payload`: this reply's part of the frame's. `blocks`: what was asked for.
// Read data is checked against its checksums: EBADMSG in the result. A reply
// that does not fit its clone is INVALID_ARGUMENT: the stream cannot be trusted.
absl::StatusOr<engine::CloneReply> DecodeReply(const v1::IoReply& reply,
                                               engine::RequestKind kind,
                                               uint64_t blocks,
                                               const Payload& payload);

// What a clone that a reply is about had asked for.
struct AskedFor {
  engine::RequestKind kind = engine::RequestKind::kRead;
  uint64_t blocks = 0;
};

// All replies of a frame whose clones `take` knows, each with its part of `payload`. Of others
// (answered twice; once counts) only the payload is passed over. Errors as DecodeReply's.
absl::StatusOr<std::vector<std::pair<engine::CloneId, engine::CloneReply>>> DecodeReplies(
    const v1::IoReplyFrame& frame, const Payload& payload,
    absl::FunctionRef<std::optional<AskedFor>(const v1::IoReply&)> take);

// INVALID_ARGUMENT unless all of them lie in a volume of `size_blocks`.
absl::StatusOr<std::vector<BlockRange>> DecodeRuns(
    const google::protobuf::RepeatedPtrField<v1::BlockRun>& runs, uint64_t size_blocks);

// INVALID_ARGUMENT unless it covers a part of `range`, in order.
absl::StatusOr<BlockDigests> DecodeDigests(const v1::GetDigestsResponse& response,
                                           BlockRange range);

// INVALID_ARGUMENT unless it has `lanes` lanes, in order, each in a domain
// that exists.
absl::StatusOr<engine::TargetHello> DecodeHello(const v1::HelloReply& hello,
                                                uint32_t lanes);

engine::SealedState DecodeSeal(const v1::SealResponse& response);
std::vector<engine::SealedState::Lane> DecodeLanes(const google::protobuf::RepeatedPtrField<v1::LaneState>& lanes);

}  // namespace weir::host

#endif  // WEIR_VOLUME_HOST_CLONE_CODEC_H_
