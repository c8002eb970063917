// Host options as text: the one way to parse them, for weir-volume's flags and
// for the nbdkit plugin's key=value configuration.
//
// Thread-safety: free functions, safe.
#ifndef WEIR_VOLUME_HOST_OPTIONS_H_
#define WEIR_VOLUME_HOST_OPTIONS_H_

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "proto/base/config_check.h"
#include "volume/host/host.h"

namespace weir::host {

struct HostOptionKey {
  const char* key;   // also the name of weir-volume's flag
  const char* help;  // one sentence or two, with the form of the value
};

// Every key that SetHostOption knows, in the order of a help text.
absl::Span<const HostOptionKey> HostOptionKeys();

// The help of one of them. REQUIRES: there is such a key.
const char* HostOptionHelp(absl::string_view key);

// INVALID_ARGUMENT names the key and says what would be right; NOT_FOUND: no
// such key. Later calls replace earlier ones.
absl::Status SetHostOption(absl::string_view key, absl::string_view value,
                           HostOptions* options);

// --check_config: notes what would keep a host from starting with these, as far as can be seen from here.
void CheckHostOptions(const HostOptions& options, ConfigCheck* check);

}  // namespace weir::host

#endif  // WEIR_VOLUME_HOST_OPTIONS_H_
