// weir-replica: serves one replica's store; `weir-replica probe DIR`: what can be seen of a disk.
//
// Exit codes: 0 after a clean shutdown (SIGTERM, SIGINT), 1 it cannot start, 2 wrong arguments. Those of probe: probe_command.h.
#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "proto/base/config_check.h"
#include "proto/base/flags.h"
#include "proto/base/log.h"
#include "proto/base/signals.h"
#include "proto/base/size.h"
#include "proto/base/status_macros.h"
#include "proto/monitor/monitor_server.h"
#include "proto/wire/certificates.h"
#include "proto/wire/identity.h"
#include "proto/wire/reload.h"
#include "replica/server/probe_command.h"
#include "replica/server/server.h"

ABSL_FLAG(std::string, name, "replica", "this replica's name in logs and in weirctl");
ABSL_FLAG(std::string, listen, "127.0.0.1:7301",
          "serve gRPC here: host:port (port 0: any free one, printed when serving) or unix:PATH");
ABSL_FLAG(std::vector<std::string>, data_dirs, {},
          "comma-separated directories, one per disk; each is a flush domain. Their order is part "
          "of the store's identity. Required");
ABSL_FLAG(std::vector<std::string>, labels, {},
          "with what this replica fails together, NAME=VALUE,...: copies of a volume go to different "
          "zones first, then racks, then whatever else is named");
ABSL_FLAG(std::vector<std::string>, frontends, {},
          "make this replica known to these frontends (host:port or unix:PATH), of which one is enough, with its "
          "labels and space; empty: do not, it is named in their --replicas");
ABSL_FLAG(std::string, advertise, "",
          "where frontends find it, if it registers itself; empty: --listen, with the port it got");
ABSL_FLAG(absl::Duration, registration_lease, absl::Seconds(15),
          "frontends show it as gone once it has not registered itself for so long");
ABSL_FLAG(std::string, metrics_listen, "",
          "serve HTTP here: host:port, with Prometheus text at /metrics, and /healthz and /readyz, which say "
          "whether the store works and is served; empty: do not");
ABSL_FLAG(std::string, tls_cert, "",
          "this replica's certificate (PEM): mutual TLS, unless --listen is a Unix socket; read anew when "
          "it changes. Empty: plain text");
ABSL_FLAG(std::string, tls_key, "", "its key (PEM)");
ABSL_FLAG(std::string, tls_ca, "", "the certificates (PEM) that signed those of the peers");
ABSL_FLAG(bool, insecure, false,
          "plain text for other machines, where the network is trusted: --listen and --frontends without TLS, and "
          "--metrics_listen; else each of these is for this machine only");
ABSL_FLAG(bool, insecure_metrics, false,
          "--metrics_listen, which is never encrypted, may be for other machines, whatever else is not");
ABSL_FLAG(bool, enable_fault_injection, false,
          "let clients make this replica answer errors, late or not at all (weirctl fault)");
ABSL_FLAG(std::string, reserve_bytes, "64MiB",
          "refuse writes with ENOSPC below this much free space in a data directory");
ABSL_FLAG(std::string, space_margin_bytes, "64MiB",
          "tell frontends to refuse new writes while less than this is left above reserve_bytes");
ABSL_FLAG(std::string, memtable_bytes, "16MiB", "write buffer of each data directory");
ABSL_FLAG(std::string, block_cache_bytes, "16MiB", "read cache of each data directory");
ABSL_FLAG(std::string, inflight_bytes_max, "16MiB",
          "payload that a frontend may have unanswered on one stream");
ABSL_FLAG(std::string, unanswered_bytes_max, "16MiB",
          "stop reading from a stream while more than this waits to be answered on it");
ABSL_FLAG(std::string, tail_bytes_max, "128MiB",
          "largest tail of a lane that a takeover may bring to this replica");
ABSL_FLAG(absl::Duration, shutdown_grace, absl::Seconds(2),
          "how long a clean shutdown waits for running calls");
ABSL_FLAG(std::string, log_level, "info",
          "log what is at least this grave: info, warning or error; taken anew from --config at SIGHUP");
ABSL_FLAG(std::string, log_format, "text",
          "text, or json: an object a line; taken anew from --config at SIGHUP");
ABSL_FLAG(std::string, config, "",
          "read flags from this file too, one NAME=VALUE a line; what the command line says wins");
ABSL_FLAG(bool, check_config, false,
          "say what is wrong with the flags, the file, the directories and the certificates, and exit: 0 nothing, 1 "
          "something. Changes nothing, and may be used while the replica runs");

namespace weir::replica {
namespace {

constexpr int kExitCannotStart = 1;
constexpr int kExitUsage = 2;

int Usage(absl::string_view why) {
  std::cerr << "weir-replica: " << why << "; see weir-replica --help\n";
  return kExitUsage;
}

absl::Status ParseSizeFlag(absl::string_view name, const std::string& text, uint64_t* bytes) {
  const absl::StatusOr<uint64_t> size = ParseSize(text);
  if (!size.ok()) {
    return absl::InvalidArgumentError(absl::StrCat("--", name, "=", text, ": ",
                                                   std::string(size.status().message())));
  }
  *bytes = *size;
  return absl::OkStatus();
}

absl::StatusOr<ServerOptions> OptionsFromFlags() {
  ServerOptions options;
  options.name = absl::GetFlag(FLAGS_name);
  options.listen = absl::GetFlag(FLAGS_listen);
  options.metrics_listen = absl::GetFlag(FLAGS_metrics_listen);
  options.tls = {absl::GetFlag(FLAGS_tls_cert), absl::GetFlag(FLAGS_tls_key), absl::GetFlag(FLAGS_tls_ca)};
  options.tls.insecure = absl::GetFlag(FLAGS_insecure);
  options.insecure_metrics = absl::GetFlag(FLAGS_insecure_metrics);
  options.enable_fault_injection = absl::GetFlag(FLAGS_enable_fault_injection);
  options.shutdown_grace = absl::GetFlag(FLAGS_shutdown_grace);
  options.frontends = absl::GetFlag(FLAGS_frontends);
  options.advertise = absl::GetFlag(FLAGS_advertise);
  options.registration_lease = absl::GetFlag(FLAGS_registration_lease);
  for (const std::string& label : absl::GetFlag(FLAGS_labels)) {
    const std::pair<std::string, std::string> pair = absl::StrSplit(label, absl::MaxSplits('=', 1));
    if (!options.labels.insert(pair).second) {
      return absl::InvalidArgumentError(
          absl::StrCat("--labels names '", pair.first, "' twice; give NAME=VALUE,NAME=VALUE..."));
    }
  }
  options.store.data_dirs = absl::GetFlag(FLAGS_data_dirs);
  if (options.store.data_dirs.empty()) {
    return absl::InvalidArgumentError("--data_dirs is required");
  }
  uint64_t inflight_bytes_max = 0;
  RETURN_IF_ERROR(ParseSizeFlag("reserve_bytes", absl::GetFlag(FLAGS_reserve_bytes),
                                &options.store.reserve_bytes));
  RETURN_IF_ERROR(ParseSizeFlag("space_margin_bytes", absl::GetFlag(FLAGS_space_margin_bytes),
                                &options.space_margin_bytes));
  RETURN_IF_ERROR(ParseSizeFlag("memtable_bytes", absl::GetFlag(FLAGS_memtable_bytes),
                                &options.store.memtable_bytes));
  RETURN_IF_ERROR(ParseSizeFlag("block_cache_bytes", absl::GetFlag(FLAGS_block_cache_bytes),
                                &options.store.block_cache_bytes));
  RETURN_IF_ERROR(ParseSizeFlag("inflight_bytes_max", absl::GetFlag(FLAGS_inflight_bytes_max),
                                &inflight_bytes_max));
  RETURN_IF_ERROR(ParseSizeFlag("unanswered_bytes_max",
                                absl::GetFlag(FLAGS_unanswered_bytes_max),
                                &options.unanswered_bytes_max));
  RETURN_IF_ERROR(ParseSizeFlag("tail_bytes_max", absl::GetFlag(FLAGS_tail_bytes_max),
                                &options.tail_bytes_max));
  if (inflight_bytes_max > UINT32_MAX) {
    return absl::InvalidArgumentError("--inflight_bytes_max must be below 4GiB");
  }
  options.inflight_bytes_max = static_cast<uint32_t>(inflight_bytes_max);
  RETURN_IF_ERROR(options.Validate());
  RETURN_IF_ERROR(options.store.Validate());
  return options;
}

int CheckConfig() {
  ConfigCheck check;
  check.Note(SetLog(absl::GetFlag(FLAGS_log_level), absl::GetFlag(FLAGS_log_format)));
  const absl::StatusOr<ServerOptions> options = OptionsFromFlags();
  check.Note(options.status());
  for (const std::string& directory : absl::GetFlag(FLAGS_data_dirs)) check.Folder("data_dirs", directory);
  check.Listen("listen", absl::GetFlag(FLAGS_listen));
  check.Listen("metrics_listen", absl::GetFlag(FLAGS_metrics_listen));
  for (const std::string& frontend : absl::GetFlag(FLAGS_frontends)) check.Peer("frontends", frontend);
  if (options.ok()) {
    check.Note(wire::UseTls(options->tls));
    // Whoever does not register calls nobody, and needs no role.
    if (!options->frontends.empty()) check.Note(wire::CheckOwnRole(options->tls, wire::kReplica));
    const bool advertises = !options->advertise.empty();
    check.Note(wire::CheckOwnHost(options->tls, advertises ? "advertise" : "listen", advertises ? options->advertise : options->listen));
    for (const std::string& frontend : options->frontends) check.Note(wire::CheckDial("frontends", frontend, options->tls));
    if (!options->tls.given()) check.Note(wire::CheckListen(options->listen, options->tls.insecure));
    check.Note(monitor::CheckMetricsListen(options->metrics_listen, options->tls.insecure || options->insecure_metrics));
  }
  return check.Report("weir-replica");
}

int Main() {
  if (absl::GetFlag(FLAGS_check_config)) return CheckConfig();
  const absl::StatusOr<ServerOptions> options = OptionsFromFlags();
  if (!options.ok()) {
    const absl::string_view message = options.status().message();
    return Usage(std::string(message.data(), message.size()));
  }
  const absl::Status log = SetLog(absl::GetFlag(FLAGS_log_level), absl::GetFlag(FLAGS_log_format));
  if (!log.ok()) return Usage(log.message());
  // gRPC's own log lines would bury ours; GRPC_VERBOSITY in the environment wins.
  setenv("GRPC_VERBOSITY", "NONE", /*overwrite=*/0);
  // Debian's Abseil checks every lock, gRPC's included, under one global lock.
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  const Signals signals;
  absl::StatusOr<std::unique_ptr<Server>> server = Server::Start(*options);
  if (!server.ok()) {
    LOG(ERROR) << "replica=" << options->name
               << " cannot start: " << std::string(server.status().message());
    return kExitCannotStart;
  }
  LOG(INFO) << "serving replica=" << options->name << " listen=" << (*server)->address()
            << " metrics="
            << ((*server)->metrics_address().empty() ? "-" : (*server)->metrics_address());
  const int signal_number = signals.AwaitStop([] { wire::Reload(absl::GetFlag(FLAGS_config)); });
  LOG(INFO) << "replica=" << options->name << " stopping on signal " << signal_number;
  server->reset();
  LOG(INFO) << "replica=" << options->name << " stopped";
  return 0;
}

constexpr char kUsage[] =
    "serves one replica of Weir volumes.\n\n"
    "  weir-replica --name=r1 --listen=127.0.0.1:7301 --data_dirs=/disk1/weir,/disk2/weir "
    "--metrics_listen=127.0.0.1:9301\n\n"
    "  weir-replica probe DIR    what can be seen of the disk below a directory; see weir-replica probe --help\n\n"
    "Directories that are empty become a new store. SIGTERM and SIGINT stop it cleanly, SIGHUP has it look at its "
    "certificates and the log's flags in --config anew.\n"
    "Exit codes: 0 clean shutdown, 1 cannot start (the last line says why), 2 wrong arguments.";

}  // namespace
}  // namespace weir::replica

int main(int argc, char** argv) {
  if (argc > 1 && std::string(argv[1]) == "probe") {
    return weir::replica::ProbeCommand(argc - 1, argv + 1, std::cout, std::cerr);
  }
  weir::DescribeProgram("weir-replica", weir::replica::kUsage, "replica/server/main.cc");
  const absl::Status parsed = weir::ParseFlags(argc, argv);
  if (!parsed.ok()) return weir::replica::Usage(parsed.message());
  return weir::replica::Main();
}
