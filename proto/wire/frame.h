// Frames of the I/O streams without copies of payload.
//
// On the wire a frame is an ordinary protobuf message whose last field is
// `bytes payload = 15`. Writing one, the payload is appended as the slices
// that already hold it; reading one, it is handed out as a Payload that keeps the received
// buffer alive. Any other gRPC client may send the plain message: the payload field may
// stand anywhere.
//
// Thread-safety: free functions, safe.
#ifndef WEIR_PROTO_WIRE_FRAME_H_
#define WEIR_PROTO_WIRE_FRAME_H_

#include <cstddef>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "google/protobuf/message_lite.h"
#include "grpcpp/support/byte_buffer.h"
#include "proto/base/payload.h"

namespace weir::wire {

// Top-level fields that a frame may have beside its payload. An empty one is two bytes on the wire
// and may be hundreds in memory; a sender has a few thousand clones unanswered at most.
inline constexpr size_t kFieldsMax = 1 << 16;

// The field number of `payload` in every frame message.
inline constexpr int kPayloadField = 15;

// `head` (its own payload field empty) followed by `payload`, whose slices are
// shared, not copied; those below 512 bytes are copied since that is cheaper.
grpc::ByteBuffer EncodeFrame(const google::protobuf::MessageLite& head,
                             absl::Span<const Payload> payload);
// The same with a head that is serialised already. Since the concatenation of
// serialised messages is their merge, it may be several parts in a row.
grpc::ByteBuffer EncodeFrame(absl::string_view serialized_head,
                             absl::Span<const Payload> payload);

// Parses everything but the payload into `head` and the payload into
// `payload`: one contiguous run, shared with the received buffer where it arrived in one
// slice and is most of it, else (or below 512 bytes) joined by one copy. A repeated payload: the last one counts, as
// protobuf has it. INVALID_ARGUMENT: malformed, or longer than `bytes_max` in
// all, or of more than kFieldsMax fields.
absl::Status DecodeFrame(const grpc::ByteBuffer& buffer, size_t bytes_max,
                         google::protobuf::MessageLite* head, Payload* payload);

}  // namespace weir::wire

#endif  // WEIR_PROTO_WIRE_FRAME_H_
