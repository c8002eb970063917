#include "proto/wire/status.h"

#include <cstring>
#include <string>

#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "proto/wire/error_details.pb.h"
#include "proto/base/errno.h"

namespace weir::wire {
namespace {

constexpr size_t kMessageBytesMax = 2048;
constexpr char kErrorInfoUrl[] = "type.googleapis.com/google.rpc.ErrorInfo";
constexpr char kDomain[] = "weir";
constexpr char kErrnoKey[] = "errno";

std::string DetailsFor(const absl::Status& status, int error) {
  internal::ErrorInfo info;
  const char* name = strerrorname_np(error);
  info.set_reason(name != nullptr ? name : "UNKNOWN");
  info.set_domain(kDomain);
  (*info.mutable_metadata())[kErrnoKey] = absl::StrCat(error);
  internal::RpcStatus details;
  details.set_code(static_cast<int>(status.code()));
  internal::RpcDetail* detail = details.add_details();
  detail->set_type_url(kErrorInfoUrl);
  detail->set_value(info.SerializeAsString());
  return details.SerializeAsString();
}

// 0: none of ours.
int ErrnoFrom(const std::string& details) {
  internal::RpcStatus parsed;
  if (details.empty() || !parsed.ParseFromString(details)) return 0;
  for (const internal::RpcDetail& detail : parsed.details()) {
    internal::ErrorInfo info;
    if (detail.type_url() != kErrorInfoUrl ||
        !info.ParseFromString(detail.value()) || info.domain() != kDomain) {
      continue;
    }
    int error = 0;
    const auto found = info.metadata().find(kErrnoKey);
    if (found != info.metadata().end() &&
        absl::SimpleAtoi(found->second, &error) && error > 0) {
      return error;
    }
  }
  return 0;
}

absl::Status WithErrno(const absl::Status& status, int error) {
  absl::Status result = status;
  ErrnoToStatus(error, "").ForEachPayload(
      [&result](absl::string_view url, const absl::Cord& payload) {
        result.SetPayload(url, payload);
      });
  return result;
}

}  // namespace

grpc::Status ToGrpc(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  const absl::string_view text = status.message().substr(0, kMessageBytesMax);
  const std::string message(text.data(), text.size());
  const auto code = static_cast<grpc::StatusCode>(status.code());
  const int error = StatusToErrno(status);
  if (error == StatusToErrno(absl::Status(status.code(), ""))) {
    return grpc::Status(code, message);
  }
  return grpc::Status(code, message, DetailsFor(status, error));
}

absl::Status FromGrpc(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  const absl::Status result(static_cast<absl::StatusCode>(status.error_code()),
                            status.error_message());
  const int error = ErrnoFrom(status.error_details());
  return error == 0 ? result : WithErrno(result, error);
}

}  // namespace weir::wire
