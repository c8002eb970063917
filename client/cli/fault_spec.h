// Faults as people write them: --op=write --error=EIO,DELAY=50 --count=3.
//
// Thread-safety: free functions, safe.
#ifndef WEIR_CLIENT_CLI_FAULT_SPEC_H_
#define WEIR_CLIENT_CLI_FAULT_SPEC_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "weir/v1/replica.pb.h"

namespace weir::cli {

// `op`: read, write (discards and zeroes too) or flush; file-write or file-sync, which take EIO or ENOSPC alone. `error`: EIO, ENOSPC,
// EOPNOTSUPP, REQUEUE or DROP, DELAY=ms, or one of those and a delay, with a comma between.
// `flush_nr` does not go with read and write. `count` 0: until cleared.
absl::StatusOr<v1::Fault> ParseFault(absl::string_view op, absl::string_view error,
                                     std::optional<uint32_t> flush_nr, uint64_t count);

// What `--op` and `--error` would say.
std::string FaultOpText(const v1::Fault& fault);
std::string FaultErrorText(const v1::Fault& fault);

}  // namespace weir::cli

#endif  // WEIR_CLIENT_CLI_FAULT_SPEC_H_
