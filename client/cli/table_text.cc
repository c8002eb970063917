#include "client/cli/table_text.h"

#include <vector>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "google/protobuf/util/json_util.h"
#include "proto/base/size.h"
#include "proto/base/status_macros.h"

namespace weir::cli {
namespace {

constexpr uint64_t kSectorBytes = 512;  // dm's unit

absl::StatusOr<v1::Target> ParseTarget(absl::string_view line, uint64_t sectors) {
  std::vector<std::string> words = absl::StrSplit(line, absl::ByAnyChar(" \t"), absl::SkipEmpty());
  if (words.size() != 6 || words[2] != "replica") {
    return absl::InvalidArgumentError("is not '0 SECTORS replica NAME ADDRESS in_sync|joining|out'");
  }
  uint64_t start = 0;
  uint64_t length = 0;
  if (!absl::SimpleAtoi(words[0], &start) || start != 0 || !absl::SimpleAtoi(words[1], &length) ||
      length != sectors) {
    return absl::InvalidArgumentError(
        absl::StrCat("does not cover the volume; it must begin with '0 ", sectors, "'"));
  }
  v1::Target target;
  target.set_replica(words[3]);
  target.set_address(words[4]);
  target.set_state(words[5]);
  return target;
}

absl::Status CheckTarget(const v1::Target& target) {
  if (target.replica().empty() || target.address().empty()) {
    return absl::InvalidArgumentError("names no replica, or not its address");
  }
  for (absl::string_view state : {"in_sync", "joining", "out"}) {
    if (target.state() == state) return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("has state '", target.state(), "'; use in_sync, joining or out"));
}

absl::StatusOr<v1::Table> ReadJson(absl::string_view text) {
  const std::string json(text);
  v1::Table table;
  auto status = google::protobuf::util::JsonStringToMessage(json, &table);
  if (status.ok()) return table;
  v1::Volume volume;  // what `volume show --output=json` prints
  if (google::protobuf::util::JsonStringToMessage(json, &volume).ok()) {
    return volume.table();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("is not the JSON of a table: ",
                   std::string(status.message().data(), status.message().size())));
}

absl::StatusOr<v1::Table> ParseJson(absl::string_view text) {
  ASSIGN_OR_RETURN(v1::Table table, ReadJson(text));
  for (int i = 0; i < table.targets_size(); ++i) {
    const absl::Status status = CheckTarget(table.targets(i));
    if (status.ok()) continue;
    return absl::InvalidArgumentError(absl::StrCat("target ", i + 1, " ", status.message()));
  }
  return table;
}

absl::StatusOr<v1::Table> ParseLines(absl::string_view text, uint64_t size_bytes) {
  v1::Table table;
  int number = 0;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    ++number;
    line = absl::StripAsciiWhitespace(line);
    if (line.empty() || line.front() == '#') continue;
    auto target = ParseTarget(line, size_bytes / kSectorBytes);
    const absl::Status status = target.ok() ? CheckTarget(*target) : target.status();
    if (!status.ok()) {
      return absl::InvalidArgumentError(absl::StrCat("line ", number, " ", status.message()));
    }
    *table.add_targets() = *std::move(target);
  }
  return table;
}

}  // namespace

std::string FormatTable(const v1::Volume& volume) {
  std::string text =
      absl::StrCat("# volume ", volume.name(), ", ", FormatSize(volume.size_bytes()), "\n");
  for (const v1::Target& target : volume.table().targets()) {
    absl::StrAppend(&text, "0 ", volume.size_bytes() / kSectorBytes, " replica ", target.replica(),
                    " ", target.address(), " ", target.state(), "\n");
  }
  return text;
}

absl::StatusOr<v1::Table> ParseTable(absl::string_view text, uint64_t size_bytes) {
  text = absl::StripAsciiWhitespace(text);
  const bool json = !text.empty() && text.front() == '{';
  ASSIGN_OR_RETURN(v1::Table table, json ? ParseJson(text) : ParseLines(text, size_bytes));
  if (table.targets().empty()) {
    return absl::InvalidArgumentError("holds no target; take what 'weirctl table show' prints");
  }
  return table;
}

}  // namespace weir::cli
