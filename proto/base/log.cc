#include "proto/base/log.h"

#include <unistd.h>

#include <cstring>
#include <string>

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace weir::internal {

LogLine::LogLine(char severity, const char* file, int line) {
  const char* slash = std::strrchr(file, '/');
  stream_ << severity << ' '
          << absl::FormatTime("%Y-%m-%dT%H:%M:%E3SZ", absl::Now(),
                              absl::UTCTimeZone())
          << ' ' << (slash != nullptr ? slash + 1 : file) << ':' << line
          << "] ";
}

LogLine::~LogLine() {
  stream_ << '\n';
  std::string text = stream_.str();
  // One write, so that lines of several threads do not mix. Nothing can be
  // done about a log that cannot be written.
  [[maybe_unused]] ssize_t written =
      ::write(STDERR_FILENO, text.data(), text.size());
}

}  // namespace weir::internal
