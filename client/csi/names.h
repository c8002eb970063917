// Names that callers choose, ids that we make of them, and the tokens of long lists.
//
// Thread-safety: pure functions.
#ifndef WEIR_CLIENT_CSI_NAMES_H_
#define WEIR_CLIENT_CSI_NAMES_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace weir::csi {

// The driver's name, and what its topology keys and context keys begin with.
inline constexpr char kDriverName[] = "csi.weir.dev";
inline constexpr char kTopologyPrefix[] = "csi.weir.dev/";           // and then a label of the node's frontend, or "node"
inline constexpr char kMkfsContextKey[] = "csi.weir.dev/mkfsOptions";  // of a volume_context
inline constexpr char kReadOnlyContextKey[] = "csi.weir.dev/readOnly";  // of a publish_context: "true" or "false"

// INVALID_ARGUMENT: missing, longer than 128 bytes, or with control characters. `what` is for the message.
absl::Status CheckName(absl::string_view what, absl::string_view name);

// INVALID_ARGUMENT: missing.
absl::Status CheckGiven(absl::string_view what, absl::string_view value);

// INVALID_ARGUMENT: missing, not absolute, or longer than the system allows.
absl::Status CheckPath(absl::string_view what, absl::string_view path);

// Whether a volume of Weir can have this name: [a-z0-9][a-z0-9._-]{0,62}.
bool IsVolumeName(absl::string_view name);

// The one name of Weir's for a caller's name: itself if it can be, else its legible part and a hash.
std::string VolumeNameOf(absl::string_view name);

// 64 hex digits.
std::string Sha256Hex(absl::string_view bytes);

// A snapshot's id says whose it is: "VOLUME@SNAPSHOT".
struct SnapshotName {
  std::string volume;
  std::string snapshot;
};
// NOT_FOUND: it cannot be one.
absl::StatusOr<SnapshotName> SnapshotNameOf(absl::string_view id);

// The token of a page that ends with `last`, and back. ABORTED: it is none of ours.
std::string TokenAfter(absl::string_view last);
absl::StatusOr<std::string> AfterOfToken(absl::string_view token);

}  // namespace weir::csi

#endif  // WEIR_CLIENT_CSI_NAMES_H_
