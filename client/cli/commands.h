// weirctl's commands, one function a group, chaos, scrub, top and trace alone. Each adds a sub-command with its
// flags and help to `app`; parsing it sets `context.action`.
#ifndef WEIR_CLIENT_CLI_COMMANDS_H_
#define WEIR_CLIENT_CLI_COMMANDS_H_

#include <functional>
#include <string>

#include "CLI/App.hpp"
#include "absl/status/status.h"
#include "client/cli/context.h"

namespace weir::cli {

void AddVolumeCommands(CLI::App& app, Context& context);
void AddSnapshotCommands(CLI::App& app, Context& context);
// clone, flatten, restore: of the group `volume`.
void AddCloneCommands(CLI::App* volumes, Context& context);
void AddCatalogCommands(CLI::App& app, Context& context);
void AddReplicaCommands(CLI::App& app, Context& context);
void AddTableCommands(CLI::App& app, Context& context);
void AddIoCommands(CLI::App& app, Context& context);
void AddFaultCommands(CLI::App& app, Context& context);
void AddChaosCommand(CLI::App& app, Context& context);
void AddScrubCommand(CLI::App& app, Context& context);
void AddTopCommand(CLI::App& app, Context& context);
void AddTraceCommand(CLI::App& app, Context& context);

// A group such as `volume`, which needs a sub-command.
CLI::App* AddGroup(CLI::App& app, const std::string& name, const std::string& description,
                   const std::string& examples);

// A command with a body. Takes the common flags in any place.
CLI::App* AddCommand(CLI::App* group, Context& context, const std::string& name,
                     const std::string& description, std::function<absl::Status()> body);

// A size such as 64MiB, parsed by proto/base/size.h.
CLI::Option* AddSize(CLI::App* command, const std::string& flag, uint64_t& bytes,
                     const std::string& description);

}  // namespace weir::cli

#endif  // WEIR_CLIENT_CLI_COMMANDS_H_
