#include "proto/base/config_file.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "proto/base/status_macros.h"

namespace weir {
namespace {

constexpr char kConfig[] = "config";

// "listen" of "--listen=x", "-listen" and "--listen"; empty: not a flag.
std::string NameOf(absl::string_view argument) {
  if (!absl::ConsumePrefix(&argument, "-")) return "";
  absl::ConsumePrefix(&argument, "-");
  return absl::StrReplaceAll(argument.substr(0, argument.find('=')), {{"-", "_"}});
}

absl::StatusOr<std::string> ReadFile(const std::string& path) {
  const auto failed = [&] { return absl::InvalidArgumentError(absl::StrCat("--config=", path, ": ", std::strerror(errno))); };
  FILE* file = std::fopen(path.c_str(), "re");
  if (file == nullptr) return failed();
  std::string text;
  char buffer[4096];
  for (size_t got; (got = std::fread(buffer, 1, sizeof(buffer), file)) > 0;) text.append(buffer, got);
  const absl::Status status = std::ferror(file) != 0 ? failed() : absl::OkStatus();
  std::fclose(file);
  RETURN_IF_ERROR(status);
  return text;
}

}  // namespace

absl::StatusOr<std::vector<std::pair<std::string, std::string>>> ParseConfig(absl::string_view file,
                                                                             absl::string_view text) {
  std::vector<std::pair<std::string, std::string>> flags;
  std::set<std::string> names;
  int number = 0;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    ++number;
    line = absl::StripAsciiWhitespace(line);
    if (line.empty() || line[0] == '#') continue;
    const std::pair<absl::string_view, absl::string_view> pair = absl::StrSplit(line, absl::MaxSplits('=', 1));
    const std::string name = absl::StrReplaceAll(absl::StripAsciiWhitespace(pair.first), {{"-", "_"}});
    if (line.find('=') == absl::string_view::npos || name.empty() || name[0] == '_' || name == kConfig) {
      return absl::InvalidArgumentError(absl::StrCat(
          file, ":", number, ": '", line, "' is not NAME=VALUE, such as listen=10.0.0.1:7701 (flags without their dashes)"));
    }
    if (!names.insert(name).second) {
      return absl::InvalidArgumentError(absl::StrCat(file, ":", number, ": ", name, " is given twice; one line a flag"));
    }
    flags.emplace_back(name, absl::StripAsciiWhitespace(pair.second));
  }
  return flags;
}

absl::StatusOr<std::vector<std::pair<std::string, std::string>>> ReadConfig(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  return ParseConfig(path, text);
}

absl::StatusOr<std::vector<std::string>> WithConfigFile(std::vector<std::string> arguments) {
  std::set<std::string> given;
  std::string path;
  for (size_t i = 1; i < arguments.size(); ++i) {
    const std::string name = NameOf(arguments[i]);
    if (name != kConfig) {
      given.insert(name);
      continue;
    }
    if (!given.insert(name).second) return absl::InvalidArgumentError("--config is given twice");
    const size_t value = arguments[i].find('=');
    if (value != std::string::npos) path = arguments[i].substr(value + 1);
    if (path.empty()) return absl::InvalidArgumentError("--config: give it as --config=FILE");
  }
  if (path.empty()) return arguments;
  ASSIGN_OR_RETURN(const auto flags, ReadConfig(path));
  std::vector<std::string> all = {arguments[0]};
  for (const auto& [name, value] : flags) {
    if (given.count(name) == 0) all.push_back(absl::StrCat("--", name, "=", value));
  }
  all.insert(all.end(), arguments.begin() + 1, arguments.end());
  return all;
}

std::vector<char*> ArgvOf(std::vector<std::string>& words) {
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  return argv;
}

}  // namespace weir
