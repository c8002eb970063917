#include "proto/base/flags.h"

#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <string>
#include <utility>
#include <vector>

#include "absl/flags/parse.h"
#include "absl/flags/usage.h"
#include "absl/flags/usage_config.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "proto/base/config_file.h"
#include "proto/base/status_macros.h"
#include "proto/base/version.h"

namespace weir {
namespace {

constexpr int kExitUsage = 2;

// Abseil ends the process itself, with 1, both on --help and on a flag that it
// does not know. Scripts are promised 0 and 2.
bool parsing = true;
bool help_wanted = false;  // or the version

void PromiseExitCodes(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    if (absl::StartsWith(argv[i], "--help") || absl::StartsWith(argv[i], "--version")) help_wanted = true;
  }
  std::atexit([] {
    if (!parsing) return;
    std::cout.flush();
    std::fflush(stdout);
    std::_Exit(help_wanted ? 0 : kExitUsage);
  });
}

}  // namespace

void DescribeProgram(const char* name, const char* usage, const char* main_file, const char* shared_file) {
  absl::FlagsUsageConfig config;
  config.contains_helpshort_flags = [main_file, shared_file](absl::string_view file) {
    return absl::EndsWith(file, main_file) || (shared_file != nullptr && absl::EndsWith(file, shared_file));
  };
  config.contains_help_flags = config.contains_helpshort_flags;
  config.version_string = [name] { return absl::StrCat(name, " ", kVersion, "\n"); };
  absl::SetFlagsUsageConfig(std::move(config));
  absl::SetProgramUsageMessage(usage);
}

absl::StatusOr<std::vector<std::string>> ParseFlagsAndArguments(int argc, char** argv) {
  ASSIGN_OR_RETURN(std::vector<std::string> words, WithConfigFile({argv, argv + argc}));
  PromiseExitCodes(argc, argv);
  const std::vector<char*> rest = absl::ParseCommandLine(static_cast<int>(words.size()), ArgvOf(words).data());
  parsing = false;
  return std::vector<std::string>(rest.begin() + 1, rest.end());
}

absl::Status ParseFlags(int argc, char** argv) {
  ASSIGN_OR_RETURN(const std::vector<std::string> arguments, ParseFlagsAndArguments(argc, argv));
  if (arguments.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("unexpected argument '", arguments[0], "'"));
}

}  // namespace weir
