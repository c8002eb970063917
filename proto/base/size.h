// Sizes and times as people write them: "64MiB", "1GiB", "4096"; "90s", "5m".
#ifndef WEIR_PROTO_BASE_SIZE_H_
#define WEIR_PROTO_BASE_SIZE_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace weir {

// Digits and an optional KiB, MiB, GiB, TiB (or K, M, G, T; all powers of
// 1024). INVALID_ARGUMENT says what would be right.
absl::StatusOr<uint64_t> ParseSize(absl::string_view text);

// The largest unit that divides `bytes` evenly, else one decimal: "1GiB", "1.5GiB", "512B".
std::string FormatSize(uint64_t bytes);

// Whole seconds, as 90s, 5m, 1h30m, or 0. INVALID_ARGUMENT says what would be right.
absl::StatusOr<uint32_t> ParseSeconds(absl::string_view text);

}  // namespace weir

#endif  // WEIR_PROTO_BASE_SIZE_H_
