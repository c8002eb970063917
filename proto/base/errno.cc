#include "proto/base/errno.h"

#include <cerrno>

#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/types/optional.h"

namespace weir {
namespace {

constexpr absl::string_view kErrnoPayload = "weir/errno";

absl::StatusCode CodeOf(int error) {
  switch (error) {
    case EOPNOTSUPP:
      return absl::StatusCode::kUnimplemented;
    case EAGAIN:
      return absl::StatusCode::kUnavailable;
    case ESTALE:
      return absl::StatusCode::kFailedPrecondition;
    case ENOSPC:
      return absl::StatusCode::kResourceExhausted;
    case EIO:
    case EBADMSG:
    case EUCLEAN:  // a block that is not copied yet: Abseil would say UNKNOWN
      return absl::StatusCode::kDataLoss;
    case ETIMEDOUT:
      return absl::StatusCode::kDeadlineExceeded;
    default:
      return absl::ErrnoToStatusCode(error);
  }
}

}  // namespace

absl::Status ErrnoToStatus(int error, absl::string_view message) {
  if (error == 0) return absl::OkStatus();
  absl::Status status(CodeOf(error), message);
  status.SetPayload(kErrnoPayload, absl::Cord(absl::StrCat(error)));
  return status;
}

int StatusToErrno(const absl::Status& status) {
  if (status.ok()) return 0;
  if (absl::optional<absl::Cord> payload = status.GetPayload(kErrnoPayload)) {
    int error = 0;
    if (absl::SimpleAtoi(std::string(*payload), &error) && error > 0) {
      return error;
    }
  }
  switch (status.code()) {
    case absl::StatusCode::kUnimplemented:
      return EOPNOTSUPP;
    case absl::StatusCode::kUnavailable:
      return EAGAIN;
    case absl::StatusCode::kResourceExhausted:
      return ENOSPC;
    case absl::StatusCode::kDeadlineExceeded:
      return ETIMEDOUT;
    // Not ESTALE: fenced is final, so only who says ESTALE itself may mean it.
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kOutOfRange:
      return EINVAL;
    case absl::StatusCode::kNotFound:
      return ENOENT;
    case absl::StatusCode::kAlreadyExists:
      return EEXIST;
    case absl::StatusCode::kPermissionDenied:
    case absl::StatusCode::kUnauthenticated:
      return EACCES;
    case absl::StatusCode::kCancelled:
      return ECANCELED;
    default:
      return EIO;
  }
}

}  // namespace weir
