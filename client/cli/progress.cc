#include "client/cli/progress.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "proto/base/size.h"

namespace weir::cli {

Progress::Progress(std::ostream& err, std::string what, uint64_t total_bytes, absl::Duration quiet)
    : err_(err),
      what_(std::move(what)),
      total_bytes_(total_bytes),
      quiet_(quiet),
      started_(absl::Now()),
      shown_(started_) {}

void Progress::Add(uint64_t bytes) {
  done_bytes_ += bytes;
  const absl::Time now = absl::Now();
  if (now - shown_ < quiet_) return;
  shown_ = now;
  err_ << ProgressLine(what_, done_bytes_, total_bytes_, now - started_) << std::endl;
}

std::string ProgressLine(absl::string_view what, uint64_t done_bytes, uint64_t total_bytes,
                         absl::Duration elapsed) {
  std::string line = absl::StrCat(what, ": ", FormatSize(done_bytes));
  if (total_bytes != 0) {
    absl::StrAppend(&line, " of ", FormatSize(total_bytes), " (", done_bytes * 100 / total_bytes,
                    "%)");
  }
  const double seconds = absl::ToDoubleSeconds(elapsed);
  if (seconds > 0) {
    absl::StrAppend(&line, ", ", FormatSize(static_cast<uint64_t>(done_bytes / seconds)), "/s");
  }
  return line;
}

}  // namespace weir::cli
