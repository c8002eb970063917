#include "client/csi/answer.h"

#include <algorithm>
#include <string>

#include "absl/strings/escaping.h"
#include "absl/time/clock.h"
#include "proto/base/log.h"

namespace weir::csi {
namespace {

constexpr absl::Duration kCallMax = absl::Seconds(60);
constexpr size_t kMessageBytesMax = 1024;  // gRPC puts it into a header
constexpr size_t kIdBytesMax = 128;

}  // namespace

grpc::Status Answer(Kind kind, absl::string_view call, absl::string_view id, const absl::Status& status) {
  const std::string who = absl::CHexEscape(id.substr(0, kIdBytesMax));
  if (status.ok()) {
    if (kind == Kind::kChange) LOG(INFO) << "volume=" << who << " " << call << " done";
    return grpc::Status::OK;
  }
  LOG(WARNING) << "volume=" << who << " " << call << ": " << absl::StatusCodeToString(status.code()) << ": "
               << status.message();
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()),
                      std::string(status.message().substr(0, kMessageBytesMax)));
}

absl::Time DeadlineOf(const grpc::ServerContext& context) {
  return std::min(absl::FromChrono(context.deadline()), absl::Now() + kCallMax);
}

}  // namespace weir::csi
