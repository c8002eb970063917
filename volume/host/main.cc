// weir-volume: a frontend process. See --help.
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/reflection.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "proto/base/check.h"
#include "proto/base/config_check.h"
#include "proto/base/flags.h"
#include "proto/base/log.h"
#include "proto/base/signals.h"
#include "proto/wire/reload.h"
#include "volume/host/host.h"
#include "volume/host/nbdkit.h"
#include "volume/host/options.h"

using weir::host::HostOptionHelp;

// One flag for each host option, of the same name and help; empty: the default.
ABSL_FLAG(std::string, catalog, "", HostOptionHelp("catalog"));
ABSL_FLAG(std::string, replicas, "", HostOptionHelp("replicas"));
ABSL_FLAG(std::string, name, "", HostOptionHelp("name"));
ABSL_FLAG(std::string, labels, "", HostOptionHelp("labels"));
ABSL_FLAG(std::string, listen, "", HostOptionHelp("listen"));
ABSL_FLAG(std::string, metrics_listen, "", HostOptionHelp("metrics_listen"));
ABSL_FLAG(std::string, tls_cert, "", HostOptionHelp("tls_cert"));
ABSL_FLAG(std::string, tls_key, "", HostOptionHelp("tls_key"));
ABSL_FLAG(std::string, tls_ca, "", HostOptionHelp("tls_ca"));
ABSL_FLAG(std::string, nbd_tls_cert, "", HostOptionHelp("nbd_tls_cert"));
ABSL_FLAG(std::string, nbd_tls_ca, "", HostOptionHelp("nbd_tls_ca"));
ABSL_FLAG(bool, insecure, false, HostOptionHelp("insecure"));
ABSL_FLAG(bool, insecure_metrics, false, HostOptionHelp("insecure_metrics"));
ABSL_FLAG(std::string, log_level, "", HostOptionHelp("log_level"));
ABSL_FLAG(std::string, log_format, "", HostOptionHelp("log_format"));
ABSL_FLAG(std::string, attach, "", HostOptionHelp("attach"));
ABSL_FLAG(std::string, attach_deadline, "", HostOptionHelp("attach_deadline"));
ABSL_FLAG(std::string, give_up_after, "", HostOptionHelp("give_up_after"));
ABSL_FLAG(std::string, leave_after, "", HostOptionHelp("leave_after"));
ABSL_FLAG(std::string, slow_after, "", HostOptionHelp("slow_after"));
ABSL_FLAG(std::string, replace_after, "", HostOptionHelp("replace_after"));
ABSL_FLAG(std::string, join_bytes_per_second, "", HostOptionHelp("join_bytes_per_second"));
ABSL_FLAG(std::string, scrub_every, "", HostOptionHelp("scrub_every"));
ABSL_FLAG(std::string, scrub_bytes_per_second, "", HostOptionHelp("scrub_bytes_per_second"));
ABSL_FLAG(std::string, hold_deadline, "", HostOptionHelp("hold_deadline"));
ABSL_FLAG(std::string, slow_request_log, "", HostOptionHelp("slow_request_log"));
ABSL_FLAG(std::string, lease, "", HostOptionHelp("lease"));
ABSL_FLAG(std::string, requeue_deadline, "", HostOptionHelp("requeue_deadline"));
ABSL_FLAG(std::string, clone_deadline, "", HostOptionHelp("clone_deadline"));
ABSL_FLAG(std::string, flush_interval, "", HostOptionHelp("flush_interval"));
ABSL_FLAG(std::string, flush_bytes, "", HostOptionHelp("flush_bytes"));
ABSL_FLAG(std::string, replay_bytes_max, "", HostOptionHelp("replay_bytes_max"));
ABSL_FLAG(std::string, unanswered_bytes_max, "",
          HostOptionHelp("unanswered_bytes_max"));

ABSL_FLAG(std::string, nbd_socket, "",
          "Serve NBD on this Unix socket too: the process becomes nbdkit with "
          "our plugin, which serves everything else as well. An export's name "
          "is a volume's.");
ABSL_FLAG(std::string, nbdkit, "nbdkit", "The nbdkit to run.");
ABSL_FLAG(std::string, nbd_plugin, "",
          "The plugin to load; empty: nbdkit-weir-plugin.so beside this "
          "program.");
ABSL_FLAG(std::string, nbd_threads, "64",
          "Requests that nbdkit runs at a time, on each connection.");

ABSL_FLAG(std::string, nbd_default_volume, "",
          "The volume behind the NBD export name \"\"; empty: the only volume, "
          "if there is but one.");

ABSL_FLAG(std::string, config, "",
          "Read flags from this file too, one NAME=VALUE a line; what the command "
          "line says wins.");
ABSL_FLAG(bool, check_config, false,
          "Say what is wrong with the flags, the file, the catalog's syntax, folders "
          "and certificates, and exit: 0 nothing, 1 something. Changes nothing, and "
          "may be used while the frontend runs.");

namespace {

constexpr char kUsage[] =
    "serves Weir volumes.\n\n"
    "  weir-volume --catalog=embedded:/var/lib/weir/catalog \\\n"
    "      --replicas=replica1=10.0.0.1:7001,replica2=10.0.0.2:7001,"
    "replica3=10.0.0.3:7001 \\\n"
    "      --listen=127.0.0.1:7100 --metrics_listen=127.0.0.1:7101 "
    "--nbd_socket=/run/weir/nbd\n\n"
    "Control it with weirctl. SIGTERM and SIGINT detach all volumes, with a "
    "flush, and stop it; SIGHUP has it look at its certificates and the log's "
    "flags in --config anew.\n"
    "Exit codes: 0 stopped cleanly, 1 could not run, 2 wrong usage.";

int Fail(int code, const absl::Status& status) {
  std::fprintf(stderr, "weir-volume: %s\n",
               std::string(status.message()).c_str());
  return code;
}

absl::Status NothingToServe() {
  return absl::InvalidArgumentError(
      "nothing to serve; give --listen=HOST:PORT or --nbd_socket=PATH (see "
      "--help)");
}

// (key, value) of each host option that was given.
std::vector<std::pair<std::string, std::string>> GivenOptions() {
  std::vector<std::pair<std::string, std::string>> given;
  for (const weir::host::HostOptionKey& option : weir::host::HostOptionKeys()) {
    const absl::CommandLineFlag* flag = absl::FindCommandLineFlag(option.key);
    CHECK(flag != nullptr);  // no option without its flag
    const std::string value = flag->CurrentValue();
    if (!value.empty()) given.emplace_back(option.key, value);
  }
  return given;
}

int CheckConfig() {
  weir::ConfigCheck check;
  weir::host::HostOptions options;
  for (const auto& [key, value] : GivenOptions()) {
    check.Note(weir::host::SetHostOption(key, value, &options));
  }
  weir::host::CheckHostOptions(options, &check);
  if (!absl::GetFlag(FLAGS_nbd_socket).empty()) {
    check.Listen("nbd_socket", absl::StrCat("unix:", absl::GetFlag(FLAGS_nbd_socket)));
    check.Program("nbdkit", absl::GetFlag(FLAGS_nbdkit));
    std::string plugin = absl::GetFlag(FLAGS_nbd_plugin);
    check.Note(weir::host::FindPlugin(&plugin));
  } else if (options.listen.empty()) {
    check.Note(NothingToServe());
  }
  return check.Report("weir-volume");
}

int Serve(weir::host::HostOptions options, const weir::Signals& signals) {
  if (options.listen.empty()) {
    return Fail(2, NothingToServe());
  }
  const std::string listen = options.listen;
  absl::StatusOr<std::unique_ptr<weir::host::Host>> host =
      weir::host::Host::Start(std::move(options));
  if (!host.ok()) return Fail(1, host.status());
  LOG(INFO) << "weir-volume serves on " << listen << " (port "
            << (*host)->port() << "), metrics on port "
            << (*host)->metrics_port();
  const int signal_number =
      signals.AwaitStop([] { weir::wire::Reload(absl::GetFlag(FLAGS_config)); });
  LOG(INFO) << "weir-volume stops on signal " << signal_number;
  host->reset();
  LOG(INFO) << "weir-volume has stopped";
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  weir::DescribeProgram("weir-volume", kUsage, "volume/host/main.cc");
  const absl::Status parsed = weir::ParseFlags(argc, argv);
  if (!parsed.ok()) return Fail(2, parsed);
  if (absl::GetFlag(FLAGS_check_config)) return CheckConfig();
  weir::host::HostOptions options;
  const auto given = GivenOptions();
  for (const auto& [key, value] : given) {
    const absl::Status status = weir::host::SetHostOption(key, value, &options);
    if (!status.ok()) return Fail(2, status);
  }
  const absl::Status valid = options.Validate();
  if (!valid.ok()) return Fail(2, valid);

  if (!absl::GetFlag(FLAGS_nbd_socket).empty()) {
    // Returns only if it fails.
    return Fail(1, weir::host::BecomeNbdkit({absl::GetFlag(FLAGS_nbdkit),
                                             absl::GetFlag(FLAGS_nbd_plugin),
                                             absl::GetFlag(FLAGS_nbd_socket),
                                             absl::GetFlag(FLAGS_nbd_threads),
                                             absl::GetFlag(
                                                 FLAGS_nbd_default_volume),
                                             absl::GetFlag(FLAGS_config)},
                                            given));
  }
  const weir::Signals signals;
  return Serve(std::move(options), signals);
}
