// Programs of the node that the driver runs: mkfs, losetup and their like.
//
// Thread-safety: free functions, safe.
#ifndef WEIR_CLIENT_CSI_COMMAND_H_
#define WEIR_CLIENT_CSI_COMMAND_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace weir::csi {

struct CommandResult {
  int exit_code = 0;
  std::string out;
  std::string err;
};

// Runs `argv` (found in PATH, without a shell) with an empty input, and waits until it has ended and closed its
// outputs. INTERNAL: it cannot be run, or a signal ended it. DEADLINE_EXCEEDED: it was killed.
absl::StatusOr<CommandResult> RunCommand(const std::vector<std::string>& argv, absl::Time deadline);

// As RunCommand; its output. INTERNAL: it ended with another code than 0; the message has what it said.
absl::StatusOr<std::string> RunOrFail(const std::vector<std::string>& argv, absl::Time deadline);

// The message of a program that failed.
absl::Status CommandError(const std::vector<std::string>& argv, const CommandResult& result);

}  // namespace weir::csi

#endif  // WEIR_CLIENT_CSI_COMMAND_H_
