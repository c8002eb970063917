#include "client/cli/output.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"
#include "google/protobuf/util/json_util.h"
#include "proto/base/check.h"
#include "proto/base/size.h"

namespace weir::cli {
namespace {

constexpr size_t kLineBytes = 16;

// What to do, where the message itself does not say.
absl::string_view Advice(absl::StatusCode code) {
  switch (code) {
    case absl::StatusCode::kNotFound:
      return "see 'weirctl volume list' and 'weirctl replica list'";
    case absl::StatusCode::kUnavailable:
      return "check that the process runs, then try again";
    case absl::StatusCode::kDeadlineExceeded:
      return "see 'weirctl explain VOLUME' for what it waits for";
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kAborted:
      return "see 'weirctl volume show' for the volume's state";
    case absl::StatusCode::kInvalidArgument:
      return "see --help";
    case absl::StatusCode::kResourceExhausted:
      return "free space or add some, then try again";
    case absl::StatusCode::kPermissionDenied:
      return "use a certificate that may do this (--tls_cert)";
    default:
      return "see 'weirctl explain VOLUME' and the log of the process";
  }
}

std::string HexLine(absl::string_view line, uint64_t offset) {
  std::string text = absl::StrFormat("%08x ", offset);
  for (size_t i = 0; i < kLineBytes; ++i) {
    if (i % 8 == 0) text.push_back(' ');
    absl::StrAppend(
        &text, i < line.size() ? absl::StrFormat("%02x ", static_cast<uint8_t>(line[i])) : "   ");
  }
  text += " |";
  for (char c : line) text.push_back(absl::ascii_isprint(c) ? c : '.');
  return text + "|\n";
}

}  // namespace

std::string TextTable::ToString() const {
  std::vector<size_t> widths(rows_[0].size(), 0);
  for (const auto& row : rows_) {
    CHECK_EQ(row.size(), widths.size());
    for (size_t i = 0; i < row.size(); ++i) {
      widths[i] = std::max({widths[i], row[i].size(), size_t{1}});
    }
  }
  std::string text;
  for (const auto& row : rows_) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      const std::string& cell = row[i].empty() ? "-" : row[i];
      line += cell + std::string(widths[i] - cell.size() + 2, ' ');
    }
    absl::StripTrailingAsciiWhitespace(&line);
    text += line + "\n";
  }
  return text;
}

std::string ToJson(const google::protobuf::Message& message) {
  google::protobuf::util::JsonPrintOptions options;
  options.add_whitespace = true;
  options.always_print_primitive_fields = true;
  options.preserve_proto_field_names = true;
  std::string json;
  auto status = google::protobuf::util::MessageToJsonString(message, &json, options);
  CHECK(status.ok());  // every message of ours has a JSON form
  return json;
}

std::string ErrorLine(const absl::Status& status) {
  std::string message(status.message());
  for (char& c : message) {
    if (absl::ascii_iscntrl(c)) c = ' ';
  }
  if (message.empty()) message = absl::StatusCodeToString(status.code());
  if (message.find("; ") == std::string::npos) {
    absl::StrAppend(&message, "; ", Advice(status.code()));
  }
  return absl::StrCat("weirctl: ", message, "\n");
}

std::string JoinText(const v1::Target& target) {
  std::string text = absl::StrCat(FormatSize(target.join_bytes_copied()), " copied, ",
                                  FormatSize(target.join_bytes_left()), " to go");
  if (target.join_seconds_left() > 0) {
    absl::StrAppend(&text, ", some ",
                    absl::FormatDuration(absl::Seconds(target.join_seconds_left())));
  }
  return text;
}

std::string ScrubText(const v1::ScrubStatus& scrub) {
  auto after = [](uint64_t seconds) { return absl::FormatDuration(absl::Seconds(seconds)); };
  std::string text = scrub.state();
  if (scrub.state() == "stopped") absl::StrAppend(&text, " (", scrub.stopped_because(), ")");
  if (scrub.state() != "none") {
    if (scrub.state() != "running") absl::StrAppend(&text, " ", after(scrub.seconds_ago()), " ago");
    absl::StrAppend(&text, ", ", FormatSize(scrub.bytes_done()), " of ",
                    FormatSize(scrub.bytes_total()), " compared, ", scrub.bad_blocks(),
                    " bad blocks, ", scrub.repaired_blocks(), " repaired, ",
                    scrub.waiting_blocks(), " waiting, ", scrub.left_blocks(), " left");
    if (scrub.skipped_blocks() > 0) {
      absl::StrAppend(&text, ", ", scrub.skipped_blocks(), " skipped, being written to");
    }
  }
  if (scrub.seconds_left() > 0) absl::StrAppend(&text, ", some ", after(scrub.seconds_left()));
  if (scrub.seconds_to_next() > 0) {
    absl::StrAppend(&text, "; next in ", after(scrub.seconds_to_next()));
  }
  return text;
}

std::string HexDump(absl::string_view bytes, uint64_t offset) {
  std::string text;
  bool repeating = false;
  for (size_t at = 0; at < bytes.size(); at += kLineBytes) {
    const absl::string_view line = bytes.substr(at, kLineBytes);
    if (at > 0 && line == bytes.substr(at - kLineBytes, kLineBytes)) {
      if (!repeating) text += "*\n";
      repeating = true;
      continue;
    }
    repeating = false;
    text += HexLine(line, offset + at);
  }
  return absl::StrCat(text, absl::StrFormat("%08x\n", offset + bytes.size()));
}

absl::StatusOr<uint8_t> ParsePattern(absl::string_view text) {
  if (text.size() == 3 && text.front() == '\'' && text.back() == '\'') {
    return static_cast<uint8_t>(text[1]);
  }
  uint32_t byte = 0;
  absl::string_view digits = text;
  const bool parsed = absl::ConsumePrefix(&digits, "0x") ? absl::SimpleHexAtoi(digits, &byte)
                                                         : absl::SimpleAtoi(digits, &byte);
  if (!parsed || byte > 0xff) {
    return absl::InvalidArgumentError(
        absl::StrCat("--pattern=", text, " is not a byte; write 0x5a, 90 or \"'z'\""));
  }
  return static_cast<uint8_t>(byte);
}

}  // namespace weir::cli
