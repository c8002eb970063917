// Moving long runs of bytes between a volume and files, many requests at once.
#ifndef WEIR_CLIENT_CLI_TRANSFER_H_
#define WEIR_CLIENT_CLI_TRANSFER_H_

#include <cstdint>
#include <functional>
#include <istream>
#include <ostream>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/weir/client.h"

namespace weir::cli {

// Gives the next bytes, at most as many as asked for; fewer only at the end, then none.
using Source = std::function<absl::StatusOr<std::string>(uint64_t bytes_max)>;
using Sink = std::function<absl::Status(const std::string& data)>;

Source PatternSource(uint8_t byte, uint64_t length);
// `length` 0: all there is. Else OUT_OF_RANGE if the stream ends before it.
Source StreamSource(std::istream& in, uint64_t length);

// Writes all of `source` from `offset` on and says how many bytes that was. The
// first error ends it; what was written before stays. INVALID_ARGUMENT: the
// source is empty or ends inside a block. Progress goes to `err`.
absl::StatusOr<uint64_t> WriteAll(Volume& volume, uint64_t offset, bool fua, const Source& source,
                                  std::ostream& err);

// Gives `length` bytes from `offset` on to `sink`, in order.
absl::Status ReadAll(Volume& volume, uint64_t offset, uint64_t length, std::ostream& err,
                     const Sink& sink);

}  // namespace weir::cli

#endif  // WEIR_CLIENT_CLI_TRANSFER_H_
