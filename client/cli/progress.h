// Progress of long work, on standard error.
#ifndef WEIR_CLIENT_CLI_PROGRESS_H_
#define WEIR_CLIENT_CLI_PROGRESS_H_

#include <cstdint>
#include <ostream>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace weir::cli {

// Shows nothing for work that is done within `quiet`, then a line every `quiet`.
// Thread-safety: none; belongs to one thread.
class Progress {
 public:
  // `total_bytes` 0: not known.
  Progress(std::ostream& err, std::string what, uint64_t total_bytes,
           absl::Duration quiet = absl::Seconds(1));
  void Add(uint64_t bytes);

 private:
  std::ostream& err_;
  const std::string what_;
  const uint64_t total_bytes_;
  const absl::Duration quiet_;
  const absl::Time started_;
  absl::Time shown_;
  uint64_t done_bytes_ = 0;
};

// "write: 64MiB of 1GiB (6%), 32MiB/s"
std::string ProgressLine(absl::string_view what, uint64_t done_bytes, uint64_t total_bytes,
                         absl::Duration elapsed);

}  // namespace weir::cli

#endif  // WEIR_CLIENT_CLI_PROGRESS_H_
