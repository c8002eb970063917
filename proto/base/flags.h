// The command line of a process whose flags are Abseil's.
#ifndef WEIR_PROTO_BASE_FLAGS_H_
#define WEIR_PROTO_BASE_FLAGS_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace weir {

// What --help and --version say: `name`, such as "weir-volume"; `usage`, which follows the name and a colon; the flags that
// `main_file`, such as "volume/host/main.cc", defines, and `shared_file`, unless that is null. Before ParseFlags; the texts are
// constants.
void DescribeProgram(const char* name, const char* usage, const char* main_file, const char* shared_file = nullptr);

// Sets the flags, from the file that --config=FILE names too. Ends the process after --help and --version with 0,
// and with 2 on a flag that there is not or whose value does not parse. INVALID_ARGUMENT: the file, or an argument
// that is no flag. Once a process, from main.
absl::Status ParseFlags(int argc, char** argv);
// The same for a program that takes arguments which are no flags: these.
absl::StatusOr<std::vector<std::string>> ParseFlagsAndArguments(int argc, char** argv);

}  // namespace weir

#endif  // WEIR_PROTO_BASE_FLAGS_H_
