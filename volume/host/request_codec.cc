#include "volume/host/request_codec.h"

#include <algorithm>
#include <string>

#include "google/protobuf/any.pb.h"
#include "google/protobuf/io/coded_stream.h"
#include "google/protobuf/io/zero_copy_stream_impl_lite.h"
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
