#include "client/cli/app.h"

#include <algorithm>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "client/cli/commands.h"
#include "client/cli/context.h"
#include "client/cli/output.h"
#include "proto/base/size.h"
#include "proto/base/version.h"

namespace weir::cli {
namespace {

constexpr char kDescription[] =
    "weirctl: create, use, watch and repair Weir volumes.\n"
    "\n"
    "It finds the cluster by --cluster=DIR (or WEIR_CLUSTER=DIR), from DIR/cluster.env that\n"
    "ops/cluster wrote, or by --volume_addr and --replica_addrs.";

constexpr char kFooter[] =
    "Examples:\n"
    "  weirctl --cluster=/tmp/weir volume create demo --size=1GiB\n"
    "  weirctl --cluster=/tmp/weir volume list --output=json\n"
    "  weirctl --cluster=/tmp/weir explain demo\n"
    "\n"
    "Every sub-command has --help, with examples.\n"
    "Exit codes: 0 done, 1 the operation failed, 2 the command line is wrong.";

void AddCommonFlags(CLI::App& app, Context& context) {
  app.add_option("--cluster", context.cluster_dir, "directory with the cluster's cluster.env")
      ->envname("WEIR_CLUSTER")
      ->type_name("DIR");
  app.add_option("--volume_addr,--volume-addr", context.volume_addr, "the frontend's address")
      ->type_name("HOST:PORT");
  app.add_option("--frontend", context.frontend,
                 "which of the cluster's frontends; else the one that has the volume")
      ->type_name("NAME");
  app.add_option("--replica_addrs,--replica-addrs", context.replica_addrs,
                 "the replicas' names and addresses")
      ->type_name("NAME=HOST:PORT,...");
  app.add_option("--tls_cert,--tls-cert", context.tls.cert,
                 "the certificate (PEM) to show, with the URI weir://admin or weir://viewer among its names; "
                 "else the cluster's, if it has TLS")
      ->envname("WEIR_TLS_CERT")
      ->type_name("FILE");
  app.add_option("--tls_key,--tls-key", context.tls.key, "its key (PEM)")->envname("WEIR_TLS_KEY")->type_name("FILE");
  app.add_option("--tls_ca,--tls-ca", context.tls.ca, "the certificates (PEM) that signed those of the processes")
      ->envname("WEIR_TLS_CA")
      ->type_name("FILE");
  app.add_flag("--insecure", context.tls.insecure,
               "speak to other machines in plain text, where the network is trusted; else only to this one")
      ->envname("WEIR_INSECURE");
  app.add_option("--output", context.output, "how to print: table or json")
      ->type_name("FORMAT")
      ->check(CLI::IsMember({"table", "json"}));
  app.add_option("--timeout", context.timeout_s, "seconds to wait for an answer")
      ->type_name("SECONDS")
      ->check(CLI::Range(0.1, 86400.0))
      ->capture_default_str();
}

// The command line up to its deepest command, for "see weirctl volume --help".
std::string DeepestCommand(const CLI::App& app) {
  std::string command = "weirctl";
  for (const CLI::App* at = &app; !at->get_subcommands().empty();) {
    at = at->get_subcommands().front();
    absl::StrAppend(&command, " ", at->get_name());
  }
  return command;
}

int UsageError(const CLI::App& app, const std::string& what, std::ostream& err) {
  std::string line = what;
  std::replace(line.begin(), line.end(), '\n', ' ');
  err << "weirctl: " << line << "; see '" << DeepestCommand(app) << " --help'\n";
  return kExitUsage;
}

}  // namespace

CLI::App* AddGroup(CLI::App& app, const std::string& name, const std::string& description,
                   const std::string& examples) {
  CLI::App* group = app.add_subcommand(name, description);
  group->footer("Examples:\n" + examples);
  group->require_subcommand(1);
  group->fallthrough();
  return group;
}

CLI::App* AddCommand(CLI::App* group, Context& context, const std::string& name,
                     const std::string& description, std::function<absl::Status()> body) {
  CLI::App* command = group->add_subcommand(name, description);
  command->fallthrough();
  command->callback([&context, body = std::move(body)] { context.action = body; });
  return command;
}

CLI::Option* AddSize(CLI::App* command, const std::string& flag, uint64_t& bytes,
                     const std::string& description) {
  auto store = [&bytes](const std::string& text) { bytes = ParseSize(text).value_or(0); };
  auto check = [](const std::string& text) {
    return std::string(ParseSize(text).status().message());  // empty: good
  };
  return command->add_option_function<std::string>(flag, store, description)
      ->type_name("SIZE")
      ->check(check, "", "");
}

int Run(const std::vector<std::string>& arguments, std::istream& in, std::ostream& out,
        std::ostream& err) {
  Context context(in, out, err);
  CLI::App app(kDescription, "weirctl");
  app.set_version_flag("--version", absl::StrCat("weirctl ", kVersion));
  app.footer(kFooter);
  app.require_subcommand(1);
  AddCommonFlags(app, context);
  AddVolumeCommands(app, context);
  AddSnapshotCommands(app, context);
  AddReplicaCommands(app, context);
  AddCatalogCommands(app, context);
  AddTableCommands(app, context);
  AddIoCommands(app, context);
  AddFaultCommands(app, context);
  AddChaosCommand(app, context);
  AddScrubCommand(app, context);
  AddTopCommand(app, context);
  AddTraceCommand(app, context);

  std::vector<std::string> reversed(arguments.rbegin(), arguments.rend());  // CLI11's order
  try {
    app.parse(reversed);
  } catch (const CLI::CallForHelp&) {
    const CLI::App* at = &app;
    while (!at->get_subcommands().empty()) at = at->get_subcommands().front();
    // It puts the command's own name behind.
    const std::string command = DeepestCommand(app);
    out << at->help(at->get_parent() == nullptr ? "" : command.substr(0, command.rfind(' ')));
    return kExitOk;
  } catch (const CLI::CallForVersion& version) {
    out << version.what() << "\n";
    return kExitOk;
  } catch (const CLI::RequiredError& error) {
    // CLI11 says only that a sub-command is missing, also where one is misspelt.
    const std::vector<std::string> unknown = app.remaining(/*recurse=*/true);
    return UsageError(app,
                      unknown.empty() ? std::string(error.what())
                                      : absl::StrCat("'", unknown.front(), "' is not known here"),
                      err);
  } catch (const CLI::ParseError& error) {
    return UsageError(app, error.what(), err);
  }
  absl::Status status = context.action();
  out.flush();
  if (status.ok()) return kExitOk;
  if (context.usage_error) return UsageError(app, std::string(status.message()), err);
  err << ErrorLine(status);
  return kExitFailed;
}

}  // namespace weir::cli
