// One page over HTTP, with libcurl.
#ifndef WEIR_CLIENT_CLI_HTTP_GET_H_
#define WEIR_CLIENT_CLI_HTTP_GET_H_

#include <cstddef>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace weir::cli {

// Blocks until the page is there, at most for `timeout`. UNAVAILABLE says why there is none: nobody listens, an answer that is not
// 200, one of more than `bytes_max`, one that takes too long. No proxy is asked and no redirection followed. Thread-safety: safe.
absl::StatusOr<std::string> HttpGet(const std::string& url, absl::Duration timeout, size_t bytes_max);

}  // namespace weir::cli

#endif  // WEIR_CLIENT_CLI_HTTP_GET_H_
