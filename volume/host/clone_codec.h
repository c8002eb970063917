// Clones and replies, between the engine's words and the wire's.
//
// Thread-safety: free functions, safe.
#ifndef WEIR_VOLUME_HOST_CLONE_CODEC_H_
#define WEIR_VOLUME_HOST_CLONE_CODEC_H_

#include <cstdint>

#include "absl/status/statusor.h"
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

// INVALID_ARGUMENT unless it has `lanes` lanes, in order, each in a domain
// that exists.
absl::StatusOr<engine::TargetHello> DecodeHello(const v1::HelloReply& hello,
                                                uint32_t lanes);

engine::SealedState DecodeSeal(const v1::SealResponse& response);

}  // namespace weir::host

#endif  // WEIR_VOLUME_HOST_CLONE_CODEC_H_
