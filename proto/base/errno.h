// errno <-> absl::Status. These two functions are the only translators.
//
// absl::ErrnoToStatusCode(EIO) is UNKNOWN and EOPNOTSUPP would not survive a
// round trip, so the number itself travels as a status payload, and the code
// is chosen for people and programs that know gRPC codes only.
#ifndef WEIR_PROTO_BASE_ERRNO_H_
#define WEIR_PROTO_BASE_ERRNO_H_

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace weir {

// `error` is a positive errno; 0 gives OK. ENOTSUP and EOPNOTSUPP become
// UNIMPLEMENTED, EAGAIN UNAVAILABLE, ESTALE FAILED_PRECONDITION, ENOSPC
// RESOURCE_EXHAUSTED, EIO, EBADMSG and EUCLEAN DATA_LOSS, ETIMEDOUT
// DEADLINE_EXCEEDED, EINVAL INVALID_ARGUMENT; others as Abseil has them.
absl::Status ErrnoToStatus(int error, absl::string_view message);

// The errno that made `status`, or the nearest one for its code; 0 if OK.
// Unknown trouble is EIO.
int StatusToErrno(const absl::Status& status);

}  // namespace weir

#endif  // WEIR_PROTO_BASE_ERRNO_H_
