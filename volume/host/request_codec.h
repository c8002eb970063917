// Requests and outcomes, between VolumeService's words and the host's.
//
// Thread-safety: free functions, safe.
#ifndef WEIR_VOLUME_HOST_REQUEST_CODEC_H_
#define WEIR_VOLUME_HOST_REQUEST_CODEC_H_

#include <optional>
#include <vector>

#include "google/protobuf/repeated_ptr_field.h"
#include "grpcpp/support/status.h"
#include "proto/base/payload.h"
#include "volume/host/host.h"
#include "weir/v1/volume.pb.h"

namespace weir::host {

std::optional<engine::RequestKind> KindFromWire(v1::RequestKind kind);

void EncodeTargets(const std::vector<engine::TargetError>& targets,
                   google::protobuf::RepeatedPtrField<v1::TargetResult>* field);

// The parts of a read as payload, zeros filled in.
std::vector<Payload> ReadPayload(const std::vector<engine::ReadPart>& parts);

// The outcome of a unary data call. A failure's details hold, beside the
// errno, a WriteResponse with what single targets said (see volume.proto).
grpc::Status OutcomeStatus(const IoOutcome& outcome);

}  // namespace weir::host

#endif  // WEIR_VOLUME_HOST_REQUEST_CODEC_H_
