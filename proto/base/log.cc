#include "proto/base/log.h"

#include <unistd.h>

#include <atomic>
#include <cstring>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "proto/base/status_macros.h"

namespace weir {
namespace {

std::atomic<LogLevel> log_level{LogLevel::kInfo};
std::atomic<LogFormat> log_format{LogFormat::kText};

constexpr const char* kLevels[] = {"info", "warning", "error"};
constexpr const char* kSeverities[] = {"INFO", "WARNING", "ERROR"};
constexpr const char* kFields[] = {"volume", "replica", "epoch", "lane", "snapshot", "store"};

void AppendString(absl::string_view text, std::string* json) {
  json->push_back('"');
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      absl::StrAppend(json, "\\", std::string(1, c));
    } else if (absl::ascii_iscntrl(static_cast<unsigned char>(c))) {
      absl::StrAppendFormat(json, "\\u%04x", static_cast<unsigned char>(c));
    } else {
      json->push_back(c);
    }
  }
  json->push_back('"');
}

void AppendField(absl::string_view name, absl::string_view value, std::string* json) {
  absl::StrAppend(json, json->empty() ? "{" : ",", "\"", name, "\":");
  AppendString(value, json);
}

// The value of the first word "NAME=..." of `message`, without punctuation after it; empty: there is none.
absl::string_view ValueOf(absl::string_view name, absl::string_view message) {
  for (absl::string_view word : absl::StrSplit(message, ' ')) {
    if (!absl::ConsumePrefix(&word, name) || !absl::ConsumePrefix(&word, "=")) continue;
    while (!word.empty() && std::strchr(",;:.)", word.back()) != nullptr) word.remove_suffix(1);
    return word;
  }
  return "";
}

}  // namespace

absl::StatusOr<LogLevel> ParseLogLevel(absl::string_view text) {
  for (const LogLevel level : {LogLevel::kInfo, LogLevel::kWarning, LogLevel::kError}) {
    if (text == kLevels[static_cast<int>(level)]) return level;
  }
  return absl::InvalidArgumentError(absl::StrCat("log_level=", text, ": give info, warning or error"));
}

absl::StatusOr<LogFormat> ParseLogFormat(absl::string_view text) {
  if (text == "text") return LogFormat::kText;
  if (text == "json") return LogFormat::kJson;
  return absl::InvalidArgumentError(absl::StrCat("log_format=", text, ": give text or json"));
}

void SetLogLevel(LogLevel level) { log_level.store(level, std::memory_order_relaxed); }
void SetLogFormat(LogFormat format) { log_format.store(format, std::memory_order_relaxed); }

absl::Status SetLog(const std::optional<std::string>& level, const std::optional<std::string>& format) {
  LogLevel new_level = log_level.load(std::memory_order_relaxed);
  LogFormat new_format = log_format.load(std::memory_order_relaxed);
  if (level.has_value()) {
    ASSIGN_OR_RETURN(new_level, ParseLogLevel(*level));
  }
  if (format.has_value()) {
    ASSIGN_OR_RETURN(new_format, ParseLogFormat(*format));
  }
  SetLogLevel(new_level);
  SetLogFormat(new_format);
  return absl::OkStatus();
}

namespace internal {

std::string FormatLogLine(LogFormat format, LogLevel level, absl::Time time, absl::string_view source,
                          absl::string_view message) {
  const char* severity = kSeverities[static_cast<int>(level)];
  const std::string when = absl::FormatTime("%Y-%m-%dT%H:%M:%E3SZ", time, absl::UTCTimeZone());
  if (format == LogFormat::kText) {
    return absl::StrCat(absl::string_view(severity, 1), " ", when, " ", source, "] ", message);
  }
  std::string json;
  AppendField("time", when, &json);
  AppendField("severity", severity, &json);
  AppendField("source", source, &json);
  for (const char* field : kFields) {
    const absl::string_view value = ValueOf(field, message);
    if (!value.empty()) AppendField(field, value, &json);
  }
  AppendField("message", message, &json);
  return json + "}";
}

LogLine::LogLine(LogLevel level, const char* file, int line) : level_(level), file_(file), line_(line) {}

LogLine::~LogLine() {
  if (level_ < log_level.load(std::memory_order_relaxed)) return;
  const char* slash = std::strrchr(file_, '/');
  std::string text = FormatLogLine(log_format.load(std::memory_order_relaxed), level_, absl::Now(),
                                   absl::StrCat(slash != nullptr ? slash + 1 : file_, ":", line_), stream_.str());
  text += '\n';
  // One write, so that lines of several threads do not mix. Nothing can be
  // done about a log that cannot be written.
  [[maybe_unused]] ssize_t written = ::write(STDERR_FILENO, text.data(), text.size());
}

}  // namespace internal
}  // namespace weir
