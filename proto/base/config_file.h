// A file of flags, for --config=FILE: one a line, "listen=10.0.0.1:7701", as on the command line but without the
// dashes. Blank lines and lines that begin with # say nothing; a value goes to the end of its line, with no quotes.
//
// Thread-safety: free functions, safe.
#ifndef WEIR_PROTO_BASE_CONFIG_FILE_H_
#define WEIR_PROTO_BASE_CONFIG_FILE_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace weir {

// (name, value) of each line of `text`, in order; '-' in a name is '_'. `file`: for messages.
// INVALID_ARGUMENT names the line: it is not NAME=VALUE, or a name is given twice.
absl::StatusOr<std::vector<std::pair<std::string, std::string>>> ParseConfig(absl::string_view file,
                                                                             absl::string_view text);

// Of the file at `path`. INVALID_ARGUMENT: also if it cannot be read.
absl::StatusOr<std::vector<std::pair<std::string, std::string>>> ReadConfig(const std::string& path);

// The arguments of a process, its name first, with those of the file that its --config=FILE names put before the
// others. What the command line says itself is left out of them: it wins. Without --config: as they are.
// INVALID_ARGUMENT: the file cannot be read, or is not as above; --config is given twice, or without a file.
absl::StatusOr<std::vector<std::string>> WithConfigFile(std::vector<std::string> arguments);

// As main gets them, ended by a null; valid while `words` is, and unchanged.
std::vector<char*> ArgvOf(std::vector<std::string>& words);

}  // namespace weir

#endif  // WEIR_PROTO_BASE_CONFIG_FILE_H_
