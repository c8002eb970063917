// What weirctl trace prints: where the time of a volume's requests went.
//
// Thread-safety: free functions, safe.
#ifndef WEIR_CLIENT_CLI_TRACE_TEXT_H_
#define WEIR_CLIENT_CLI_TRACE_TEXT_H_

#include <cstdint>
#include <string>

#include "weir/v1/volume.pb.h"

namespace weir::cli {

// "870us", "1.25ms", "3.41s".
std::string TimeText(uint64_t us);

// Three tables: by kind, by kind and replica, and the slowest requests one by one.
std::string TraceText(const std::string& volume, const v1::TraceResponse& trace);

}  // namespace weir::cli

#endif  // WEIR_CLIENT_CLI_TRACE_TEXT_H_
