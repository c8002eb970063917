// Log lines to stderr: "I 2026-01-02T03:04:05.678Z file.cc:12] text", or as JSON objects.
//
// INFO is a change of state, WARNING degraded but serving, ERROR somebody must
// act. Nothing per request. Put volume=, replica=, epoch= on the line.
#ifndef WEIR_PROTO_BASE_LOG_H_
#define WEIR_PROTO_BASE_LOG_H_

#include <optional>
#include <sstream>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace weir {

enum class LogLevel { kInfo, kWarning, kError };
enum class LogFormat { kText, kJson };

// "info", "warning", "error"; "text", "json". INVALID_ARGUMENT says so.
absl::StatusOr<LogLevel> ParseLogLevel(absl::string_view text);
absl::StatusOr<LogFormat> ParseLogFormat(absl::string_view text);

// What is logged from now on, by all threads: lines of this level or above. At first all, as text.
void SetLogLevel(LogLevel level);
void SetLogFormat(LogFormat format);
// Both by their words; none leaves it as it is. INVALID_ARGUMENT: nothing is changed.
absl::Status SetLog(const std::optional<std::string>& level, const std::optional<std::string>& format);

namespace internal {

// One line, without its end. JSON has time, severity, source and message, and a field for each word of the message that
// is volume=, replica=, epoch=, lane=, snapshot= or store=.
std::string FormatLogLine(LogFormat format, LogLevel level, absl::Time time, absl::string_view source,
                          absl::string_view message);

// Collects one line and writes it whole. Thread-safe between lines.
class LogLine {
 public:
  LogLine(LogLevel level, const char* file, int line);
  ~LogLine();
  std::ostream& stream() { return stream_; }

 private:
  const LogLevel level_;
  const char* const file_;
  const int line_;
  std::ostringstream stream_;
};

inline constexpr LogLevel kLevelINFO = LogLevel::kInfo;
inline constexpr LogLevel kLevelWARNING = LogLevel::kWarning;
inline constexpr LogLevel kLevelERROR = LogLevel::kError;

}  // namespace internal
}  // namespace weir

#define LOG(severity) ::weir::internal::LogLine(::weir::internal::kLevel##severity, __FILE__, __LINE__).stream()

#endif  // WEIR_PROTO_BASE_LOG_H_
