// How a call of the driver ends: the status for the caller, a line for the log.
//
// Thread-safety: free functions, safe.
#ifndef WEIR_CLIENT_CSI_ANSWER_H_
#define WEIR_CLIENT_CSI_ANSWER_H_

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "grpcpp/server_context.h"
#include "grpcpp/support/status.h"

namespace weir::csi {

// Whether a call that went well is worth a line: it has changed something.
enum class Kind { kChange, kQuestion };

// The status as CSI has it: code and message, no details. What is logged of a call is its name, the
// volume's or snapshot's id and the message: nothing else of a request, since that may hold secrets.
grpc::Status Answer(Kind kind, absl::string_view call, absl::string_view id, const absl::Status& status);

// When the caller gives up, or a minute from now.
absl::Time DeadlineOf(const grpc::ServerContext& context);

}  // namespace weir::csi

#endif  // WEIR_CLIENT_CSI_ANSWER_H_
