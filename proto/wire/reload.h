// What SIGHUP does in every process.
#ifndef WEIR_PROTO_WIRE_RELOAD_H_
#define WEIR_PROTO_WIRE_RELOAD_H_

#include <string>

#include "absl/status/status.h"

namespace weir::wire {

// Takes log_level and log_format anew from `config`, the file of --config (empty: there is none), and says in the
// log what the certificates' files are now; new ones are taken by themselves, see identity.h. What is wrong is
// an ERROR line, and everything stays as it was. Other flags need a restart.
// Thread-safety: safe. Reads files.
void Reload(const std::string& config);

// The first half, in a process that has no identity: nothing is said if all is well. INVALID_ARGUMENT: the log goes on as before.
absl::Status ReloadLog(const std::string& config);

}  // namespace weir::wire

#endif  // WEIR_PROTO_WIRE_RELOAD_H_
