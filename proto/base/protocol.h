// The version of what Weir's processes and its client library say to each other.
#ifndef WEIR_PROTO_BASE_PROTOCOL_H_
#define WEIR_PROTO_BASE_PROTOCOL_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace weir {

// Raised when a peer of the version before would be wrong about a message: a field that it may ignore, or
// a call that it may not know, is no reason. A process talks to this version, the one before and
// the one after, so that a cluster is upgraded one process and one version at a time.
inline constexpr uint32_t kProtocol = 1;

// FAILED_PRECONDITION: `peer` is more than one away; says who has to be upgraded. `peers`: its version; 0: it does not
// tell, which is version 1. `peer` is called so: "the frontend".
absl::Status CheckProtocol(uint32_t peers, absl::string_view peer);
// The same for a process of version `ours`.
absl::Status CheckProtocol(uint32_t ours, uint32_t peers, absl::string_view peer);

}  // namespace weir

#endif  // WEIR_PROTO_BASE_PROTOCOL_H_
