// Requests and outcomes, between VolumeService's words and the host's.
//
// Thread-safety: free functions, safe.
#ifndef WEIR_VOLUME_HOST_REQUEST_CODEC_H_
#define WEIR_VOLUME_HOST_REQUEST_CODEC_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "google/protobuf/repeated_ptr_field.h"
#include "grpcpp/support/status.h"
#include "proto/base/payload.h"
#include "volume/host/host.h"
#include "weir/v1/volume.pb.h"

namespace weir::host {

std::optional<engine::RequestKind> KindFromWire(v1::RequestKind kind);

// WRITE and BARRIER bring data.
inline bool HasData(engine::RequestKind kind) {
  return kind == engine::RequestKind::kWrite || kind == engine::RequestKind::kBarrier;
}

// INVALID_ARGUMENT: a kind is unknown, or it is unclear which bytes of the payload belong
// to which request. Nothing of such a frame may run.
absl::Status CheckFrame(const v1::VolumeIoFrame& frame, size_t payload_bytes);

// `data`: its part of the payload. REQUIRES: CheckFrame has passed.
IoRequest RequestFromWire(const v1::VolumeIo& io, Payload data);

// An errno that says what is wrong with the request's shape; 0: nothing, the engine may have it.
int CheckShape(const IoRequest& request, uint64_t size_bytes);

// As the engine wants it, with a checksum a block, and without an id. REQUIRES: CheckShape has passed.
engine::Request RequestInBlocks(const IoRequest& request);

void EncodeTargets(const std::vector<engine::TargetError>& targets,
                   google::protobuf::RepeatedPtrField<v1::TargetResult>* field);

// The parts of a read as payload, zeros filled in.
std::vector<Payload> ReadPayload(const std::vector<engine::ReadPart>& parts);

// The outcome of a unary data call. A failure's details hold, beside the
// errno, a WriteResponse with what single targets said (see volume.proto).
grpc::Status OutcomeStatus(const IoOutcome& outcome);

}  // namespace weir::host

#endif  // WEIR_VOLUME_HOST_REQUEST_CODEC_H_
