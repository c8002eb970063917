#include "volume/host/request_codec.h"

#include <algorithm>
#include <cerrno>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "google/protobuf/any.pb.h"
#include "google/protobuf/io/coded_stream.h"
#include "google/protobuf/io/zero_copy_stream_impl_lite.h"
#include "proto/base/crc32c.h"
#include "proto/base/errno.h"
#include "proto/base/position.h"
#include "proto/wire/status.h"

namespace weir::host {
namespace {

constexpr size_t kZeroBytes = 256 << 10;

Payload Zeros(size_t bytes) {
  static const std::string* const zeros = new std::string(kZeroBytes, '\0');
  return Payload(nullptr, absl::string_view(zeros->data(), bytes));
}

// Adds `any` to a serialized google.rpc.Status as one more `details` (field
// 3): protobuf joins repeated fields of messages put in a row.
void AddDetail(const google::protobuf::Any& any, int code, std::string* status) {
  google::protobuf::io::StringOutputStream stream(status);
  google::protobuf::io::CodedOutputStream out(&stream);
  out.WriteTag(1 << 3);  // code, which readers may compare
  out.WriteVarint32(static_cast<uint32_t>(code));
  out.WriteTag(3 << 3 | 2);
  out.WriteVarint32(static_cast<uint32_t>(any.ByteSizeLong()));
  any.SerializeToCodedStream(&out);
}

}  // namespace

std::optional<engine::RequestKind> KindFromWire(v1::RequestKind kind) {
  switch (kind) {
    case v1::REQUEST_KIND_READ:
      return engine::RequestKind::kRead;
    case v1::REQUEST_KIND_WRITE:
      return engine::RequestKind::kWrite;
    case v1::REQUEST_KIND_WRITE_ZEROES:
      return engine::RequestKind::kWriteZeroes;
    case v1::REQUEST_KIND_DISCARD:
      return engine::RequestKind::kDiscard;
    case v1::REQUEST_KIND_FLUSH:
      return engine::RequestKind::kFlush;
    case v1::REQUEST_KIND_BARRIER:
      return engine::RequestKind::kBarrier;
    case v1::REQUEST_KIND_EXTENTS:
      return engine::RequestKind::kExtents;
    default:
      return std::nullopt;
  }
}

absl::Status CheckFrame(const v1::VolumeIoFrame& frame, size_t payload_bytes) {
  size_t wanted = 0;
  for (const v1::VolumeIo& io : frame.ios()) {
    const std::optional<engine::RequestKind> kind = KindFromWire(io.kind());
    if (!kind.has_value()) {
      return absl::InvalidArgumentError(
          absl::StrCat("request ", io.id(), " has the unknown kind ", io.kind()));
    }
    if (HasData(*kind)) wanted += io.length_bytes();
  }
  if (wanted != payload_bytes) {
    return absl::InvalidArgumentError(absl::StrCat("a frame's payload has ", payload_bytes,
                                                   " bytes, its writes say ", wanted));
  }
  return absl::OkStatus();
}

IoRequest RequestFromWire(const v1::VolumeIo& io, Payload data) {
  IoRequest request;
  request.kind = *KindFromWire(io.kind());
  request.offset_bytes = io.offset_bytes();
  request.length_bytes = io.length_bytes();
  request.fua = io.fua();
  request.data = std::move(data);
  return request;
}

int CheckShape(const IoRequest& request, uint64_t size_bytes) {
  if (request.kind == engine::RequestKind::kFlush) return 0;
  if (request.length_bytes == 0 || request.length_bytes > kRequestBytesMax ||
      request.length_bytes % kBlockBytes != 0 ||
      request.offset_bytes % kBlockBytes != 0) {
    return EINVAL;
  }
  if (request.data.size() !=
      (HasData(request.kind) ? request.length_bytes : 0)) {
    return EINVAL;
  }
  if (request.offset_bytes > size_bytes ||
      request.length_bytes > size_bytes - request.offset_bytes) {
    const bool writes =
        HasData(request.kind) || request.kind == engine::RequestKind::kWriteZeroes;
    return writes ? ENOSPC : EINVAL;
  }
  return 0;
}

engine::Request RequestInBlocks(const IoRequest& request) {
  engine::Request submitted;
  submitted.kind = request.kind;
  submitted.fua = request.fua;
  submitted.in_lock = request.in_lock;
  if (request.kind != engine::RequestKind::kFlush) {
    submitted.range = {request.offset_bytes / kBlockBytes, request.length_bytes / kBlockBytes};
  }
  if (HasData(request.kind)) {
    submitted.crcs = BlockChecksums(request.data.bytes());
    submitted.data = request.data;
  }
  return submitted;
}

void EncodeTargets(const std::vector<engine::TargetError>& targets,
                   google::protobuf::RepeatedPtrField<v1::TargetResult>* field) {
  for (const engine::TargetError& target : targets) {
    v1::TargetResult* result = field->Add();
    result->set_target(target.replica);
    result->set_flush_nr(target.flush_nr);
    result->set_error(target.result.error());
    result->set_message(target.message);
  }
}

std::vector<Payload> ReadPayload(const std::vector<engine::ReadPart>& parts) {
  std::vector<Payload> payload;
  for (const engine::ReadPart& part : parts) {
    if (!part.data.empty()) {
      payload.push_back(part.data);
      continue;
    }
    size_t left = part.blocks * kBlockBytes;
    while (left > 0) {
      payload.push_back(Zeros(std::min(left, kZeroBytes)));
      left -= payload.back().size();
    }
  }
  return payload;
}

grpc::Status OutcomeStatus(const IoOutcome& outcome) {
  if (outcome.result.ok()) return grpc::Status::OK;
  const grpc::Status status =
      wire::ToGrpc(ErrnoToStatus(outcome.result.error(), outcome.message));
  if (outcome.targets.empty()) return status;
  v1::WriteResponse targets;
  EncodeTargets(outcome.targets, targets.mutable_targets());
  google::protobuf::Any any;
  any.PackFrom(targets);
  std::string details = status.error_details();
  AddDetail(any, status.error_code(), &details);
  return grpc::Status(status.error_code(), status.error_message(), details);
}

}  // namespace weir::host
