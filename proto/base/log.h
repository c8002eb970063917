// Log lines to stderr: "I 2026-01-02T03:04:05.678Z file.cc:12] text".
//
// INFO is a change of state, WARNING degraded but serving, ERROR somebody must
// act. Nothing per request. Put volume=, replica=, epoch= on the line.
#ifndef WEIR_PROTO_BASE_LOG_H_
#define WEIR_PROTO_BASE_LOG_H_

#include <sstream>

namespace weir::internal {

// Collects one line and writes it whole. Thread-safe between lines.
class LogLine {
 public:
  LogLine(char severity, const char* file, int line);
  ~LogLine();
  std::ostream& stream() { return stream_; }

 private:
  std::ostringstream stream_;
};

inline constexpr char kSeverityINFO = 'I';
inline constexpr char kSeverityWARNING = 'W';
inline constexpr char kSeverityERROR = 'E';

}  // namespace weir::internal

#define LOG(severity)                                                      \
  ::weir::internal::LogLine(::weir::internal::kSeverity##severity, __FILE__, \
                            __LINE__)                                      \
      .stream()

#endif  // WEIR_PROTO_BASE_LOG_H_
