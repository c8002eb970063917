// absl::Status <-> grpc::Status, with the errno.
//
// Codes are numbered alike. An errno that the code alone does not give (EIO
// and EBADMSG are both DATA_LOSS) travels as a google.rpc.ErrorInfo in the
// status's details, where other gRPC clients can read it too. What an errno
// means is known to proto/base/errno alone.
//
// Thread-safety: free functions, safe.
#ifndef WEIR_PROTO_WIRE_STATUS_H_
#define WEIR_PROTO_WIRE_STATUS_H_

#include "absl/status/status.h"
#include "grpcpp/support/status.h"

namespace weir::wire {

// Messages are cut at 2 KiB: they travel as an HTTP/2 header, and those are limited.
grpc::Status ToGrpc(const absl::Status& status);

// StatusToErrno of the result is the errno that the sender had. Details that
// are not ours, or damaged, are ignored.
absl::Status FromGrpc(const grpc::Status& status);

}  // namespace weir::wire

#endif  // WEIR_PROTO_WIRE_STATUS_H_
