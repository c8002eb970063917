// A volume's table as text, after device-mapper's `dmsetup table`:
//
//   # volume demo, 1GiB
//   0 2097152 replica replica1 127.0.0.1:7701 in_sync
//
// One line a target: start and length in 512-byte sectors (each target holds
// the whole volume), the kind, the replica's name, its address and state. What
// `table show` prints, `table load` takes back.
//
// Thread-safety: free functions, safe.
#ifndef WEIR_CLIENT_CLI_TABLE_TEXT_H_
#define WEIR_CLIENT_CLI_TABLE_TEXT_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "weir/v1/volume.pb.h"

namespace weir::cli {

std::string FormatTable(const v1::Volume& volume);

// Text as above, or the JSON of a weir.v1.Table or weir.v1.Volume. INVALID_ARGUMENT names the
// line, also where the length is not that of a volume of `size_bytes`.
absl::StatusOr<v1::Table> ParseTable(absl::string_view text, uint64_t size_bytes);

}  // namespace weir::cli

#endif  // WEIR_CLIENT_CLI_TABLE_TEXT_H_
