// weir-csi: the CSI driver. See --help.
#include <sys/stat.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <iostream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "client/csi/chosen_attach.h"
#include "client/csi/command.h"
#include "client/csi/controller.h"
#include "client/csi/frontends.h"
#include "client/csi/fuse_loop.h"
#include "client/csi/identity.h"
#include "client/csi/kernel_nbd.h"
#include "client/csi/node.h"
#include "client/nbd_device/netlink.h"
#include "grpcpp/health_check_service_interface.h"
#include "grpcpp/security/server_credentials.h"
#include "grpcpp/server.h"
#include "grpcpp/server_builder.h"
#include "proto/base/check.h"
#include "proto/base/config_check.h"
#include "proto/base/config_file.h"
#include "proto/base/log.h"
#include "proto/base/signals.h"
#include "proto/base/status_macros.h"
#include "proto/base/tls_files.h"
#include "proto/base/version.h"
#include "proto/metrics/call_metrics.h"
#include "proto/metrics/process.h"
#include "proto/monitor/monitor_server.h"
#include "proto/monitor/shared_check.h"
#include "proto/wire/certificates.h"
#include "proto/wire/identity.h"
#include "proto/wire/reload.h"
#include "proto/wire/transport.h"

namespace weir::csi {
namespace {

constexpr char kDescription[] =
    "weir-csi: Weir's volumes for Kubernetes and other users of the Container Storage Interface.\n"
    "\n"
    "  weir-csi --mode=all --endpoint=unix:/run/weir/csi.sock --node-id=NODE --frontends=127.0.0.1:7700\n"
    "\n"
    "The node's frontend is the weir-volume whose --name is the node's; its --labels are the node's topology.\n"
    "SIGTERM and SIGINT end it; what is mounted stays, and the next driver finds it. SIGHUP has it look at its certificate and\n"
    "the log's flags in --config anew.\n"
    "Exit codes: 0 ended by a signal, 1 could not run, 2 wrong usage.";

// Calls that wait for a mount or a frontend each hold a thread.
constexpr int kThreadsMax = 64;
// A CSI request is a few KB: names, capabilities, attributes.
constexpr size_t kMessageBytesMax = 1 << 20;
constexpr absl::Duration kShutdownGrace = absl::Seconds(5);
// For a frontend to take a connection, before /readyz says that none does.
constexpr absl::Duration kReadyDeadline = absl::Seconds(2);
constexpr absl::Duration kModprobeMax = absl::Seconds(10);

struct Flags {
  std::string mode = "all";
  std::string endpoint;
  std::string metrics_listen;
  bool insecure_metrics = false;
  std::string node_id;
  std::vector<std::string> frontends;
  std::string state_dir = "/run/weir-csi";
  std::string attach = "auto";
  std::string fuse_program;
  std::string nbd_program;
  int64_t volumes_max = 0;
  std::string log_level = "info";
  std::string log_format = "text";
  std::string config;
  bool check_config = false;
  TlsFiles tls;
};

void AddFlags(CLI::App& app, Flags& flags) {
  app.add_option("--mode", flags.mode, "what to serve: controller, node or all")
      ->check(CLI::IsMember({"controller", "node", "all"}))
      ->capture_default_str();
  app.add_option("--endpoint", flags.endpoint, "where to serve: unix:PATH.sock")
      ->envname("CSI_ENDPOINT")
      ->required();
  app.add_option("--metrics-listen,--metrics_listen", flags.metrics_listen,
                 "serve HTTP here: Prometheus text at /metrics, /healthz, and /readyz, which says whether a frontend can be reached; "
                 "empty: do not")
      ->type_name("HOST:PORT");
  app.add_flag("--insecure-metrics,--insecure_metrics", flags.insecure_metrics,
               "--metrics-listen, which is never encrypted, may be for other machines; else it is for this machine only");
  app.add_option("--node-id,--node_id", flags.node_id, "this node: its frontend's --name; not for mode controller")
      ->type_name("ID");
  app.add_option("--frontends", flags.frontends,
                 "addresses of VolumeServices to ask, the first that answers; the others are found by these")
      ->delimiter(',')
      ->type_name("HOST:PORT,...")
      ->required();
  app.add_option("--tls_cert,--tls-cert", flags.tls.cert,
                 "the driver's certificate (PEM) for frontends, with the URI weir://csi among its names, and on a node weir://client "
                 "too: weir-nbd and weir-fuse, which read and write, show it as well; empty: plain text")
      ->type_name("FILE");
  app.add_option("--tls_key,--tls-key", flags.tls.key, "its key (PEM)")->type_name("FILE");
  app.add_option("--tls_ca,--tls-ca", flags.tls.ca, "the certificates (PEM) that signed the frontends'")->type_name("FILE");
  app.add_flag("--insecure", flags.tls.insecure,
               "speak to frontends on other machines in plain text, where the network is trusted; else only to this machine's");
  app.add_option("--state-dir,--state_dir", flags.state_dir, "where devices are attached; gone with the machine's memory")
      ->type_name("DIR")
      ->capture_default_str();
  app.add_option("--attach", flags.attach,
                 "how a volume becomes a block device: nbd, by the kernel's NBD client; fuse-loop, by FUSE and a loop device; or auto: nbd "
                 "where the node has that module")
      ->check(CLI::IsMember({"auto", "nbd", "fuse-loop"}))
      ->capture_default_str();
  app.add_option("--nbd-program,--nbd_program", flags.nbd_program, "weir-nbd; empty: the one beside this program")
      ->type_name("PATH");
  app.add_option("--fuse-program,--fuse_program", flags.fuse_program, "weir-fuse; empty: the one beside this program")
      ->type_name("PATH");
  app.add_option("--max-volumes,--max_volumes", flags.volumes_max, "how many volumes a node may have; 0: no limit")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 20))
      ->capture_default_str();
  app.add_option("--log_level,--log-level", flags.log_level,
                 "log what is at least this grave: info, warning or error; taken anew from --config at SIGHUP")
      ->check(CLI::IsMember({"info", "warning", "error"}))
      ->capture_default_str();
  app.add_option("--log_format,--log-format", flags.log_format,
                 "text, or json: an object a line; taken anew from --config at SIGHUP")
      ->check(CLI::IsMember({"text", "json"}))
      ->capture_default_str();
  app.add_option("--config", flags.config, "read flags from this file too, one NAME=VALUE a line; what the command line says wins")
      ->type_name("FILE");
  app.add_flag("--check_config,--check-config", flags.check_config,
               "say what is wrong with the flags, the file, folders and certificates, and exit: 0 nothing, 1 something");
}

int Fail(int code, const std::string& message) {
  std::cerr << "weir-csi: " << message << "\n";
  return code;
}

// "unix:/a.sock" and "unix:///a.sock"; empty: neither.
std::string SocketPath(const std::string& endpoint) {
  absl::string_view path = endpoint;
  if (!absl::ConsumePrefix(&path, "unix://") && !absl::ConsumePrefix(&path, "unix:")) return "";
  if (!absl::StartsWith(path, "/") || !absl::EndsWith(path, ".sock")) return "";
  return std::string(path);
}

std::string ProgramBeside(const std::string& name) {
  char self[4096];
  const ssize_t length = ::readlink("/proc/self/exe", self, sizeof(self) - 1);
  const std::string program(self, length > 0 ? static_cast<size_t>(length) : 0);
  return program.substr(0, program.rfind('/') + 1) + name;
}

// Null without --metrics_listen. `frontends` outlives it.
absl::StatusOr<std::unique_ptr<monitor::MonitorServer>> StartMonitor(
    const Flags& flags, std::shared_ptr<metrics::CallMetrics> calls, Frontends* frontends) {
  if (flags.metrics_listen.empty()) return nullptr;
  auto reached = std::make_shared<monitor::SharedCheck>(
      monitor::SharedCheck::Options{.whom = "the frontends"},
      [frontends] { return frontends->Live(absl::Now() + kReadyDeadline).status(); });
  monitor::MonitorServer::Options options;
  options.listen = flags.metrics_listen;
  options.insecure = flags.insecure_metrics;
  options.metrics = {std::move(calls), std::make_shared<metrics::ProcessCollector>("weir-csi")};
  options.ready = [reached] { return reached->Get(); };
  return monitor::MonitorServer::Start(std::move(options));
}

// Two sockets at one path are different files.
ino_t InodeOf(const std::string& path) {
  struct stat info;
  return ::stat(path.c_str(), &info) == 0 ? info.st_ino : 0;
}

std::string FuseProgram(const Flags& flags) {
  return flags.fuse_program.empty() ? ProgramBeside("weir-fuse") : flags.fuse_program;
}

std::string NbdProgram(const Flags& flags) {
  return flags.nbd_program.empty() ? ProgramBeside("weir-nbd") : flags.nbd_program;
}

// To load the module is the node's business, but a driver that may does it.
absl::Status NbdAvailable(nbd_device::NbdKernel& kernel) {
  absl::Status available = kernel.Available();
  if (available.ok()) return available;
  const absl::StatusOr<std::string> loaded = RunOrFail({"modprobe", "nbd"}, absl::Now() + kModprobeMax);
  return loaded.ok() ? kernel.Available() : available;
}

// Both ways to attach, and which one new devices take.
struct Attaches {
  Attaches(const Flags& flags, Frontends* frontends)
      : nbd({flags.state_dir, NbdProgram(flags), flags.tls,
             [frontends](const std::string& volume, absl::Time deadline) -> absl::StatusOr<uint64_t> {
               ASSIGN_OR_RETURN(const v1::Volume found, frontends->GetVolume(volume, deadline));
               return found.size_bytes();
             }},
            &kernel),
        fuse_loop(flags.state_dir, FuseProgram(flags), flags.tls),
        chosen(*ParseChoice(flags.attach), &nbd, &fuse_loop, [this] { return NbdAvailable(kernel); }) {}

  nbd_device::NetlinkKernel kernel;
  KernelNbd nbd;
  FuseLoop fuse_loop;
  ChosenAttach chosen;
};

int CheckConfig(const Flags& flags, const std::string& socket) {
  ConfigCheck check;
  check.Listen("endpoint", "unix:" + socket);
  check.Listen("metrics_listen", flags.metrics_listen);
  check.Note(monitor::CheckMetricsListen(flags.metrics_listen, flags.insecure_metrics));
  for (const std::string& frontend : flags.frontends) {
    check.Peer("frontends", frontend);
    check.Note(wire::CheckDial("frontends", frontend, flags.tls));
  }
  check.Note(wire::UseTls(flags.tls));
  check.Note(wire::CheckOwnRole(flags.tls, wire::kCsi));
  // weir-nbd and weir-fuse show it as well.
  if (flags.mode != "controller") check.Note(wire::CheckOwnRole(flags.tls, wire::kClient));
  if (flags.mode != "controller") {
    check.Folder("state_dir", flags.state_dir);
    if (flags.attach != "nbd") check.Program("fuse_program", FuseProgram(flags));
    if (flags.attach != "fuse-loop") check.Program("nbd_program", NbdProgram(flags));
    if (flags.attach == "nbd") check.Note(nbd_device::NetlinkKernel().Available());
  }
  return check.Report("weir-csi");
}

int Serve(const Flags& flags, const std::string& socket, const Signals& signals) {
  absl::Status secured = wire::UseTls(flags.tls);
  for (const std::string& frontend : flags.frontends) secured.Update(wire::CheckDial("frontends", frontend, flags.tls));
  if (!secured.ok()) return Fail(2, std::string(secured.message()));
  Frontends frontends(flags.frontends);
  Attaches attaches(flags, &frontends);
  Identity identity(&frontends);
  Controller controller(&frontends, flags.volumes_max);
  Node node(flags.node_id, flags.volumes_max, &frontends, &attaches.chosen);
  const auto calls = std::make_shared<metrics::CallMetrics>("csi");

  grpc::EnableDefaultHealthCheckService(true);
  grpc::ServerBuilder builder;
  builder.AddListeningPort("unix:" + socket, grpc::InsecureServerCredentials());
  wire::SetServerLimits({.message_bytes_max = kMessageBytesMax, .sync_threads_max = kThreadsMax}, &builder);
  builder.RegisterService(&identity);
  if (flags.mode != "node") builder.RegisterService(&controller);
  if (flags.mode != "controller") builder.RegisterService(&node);
  std::vector<std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>> interceptors;
  interceptors.push_back(metrics::CountCalls(calls));
  builder.experimental().SetInterceptorCreators(std::move(interceptors));
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr) return Fail(1, absl::StrCat("cannot serve on ", socket, ": is its folder there, and writable?"));
  server->GetHealthCheckService()->SetServingStatus(::csi::v1::Identity::service_full_name(), true);
  const ino_t inode = InodeOf(socket);
  const auto monitor = StartMonitor(flags, calls, &frontends);
  if (!monitor.ok()) return Fail(1, std::string(monitor.status().message()));
  if (flags.mode != "controller" && flags.attach != "fuse-loop") {
    const absl::Status available = NbdAvailable(attaches.kernel);
    LOG(INFO) << "--attach=" << flags.attach << ": " << (available.ok() ? "by the kernel's NBD client" : available.message());
  }
  LOG(INFO) << "weir-csi serves " << flags.mode << " on " << socket << " as node '" << flags.node_id << "', metrics on "
            << (*monitor == nullptr ? "no port" : absl::StrCat("port ", (*monitor)->port()));
  const int signal_number = signals.AwaitStop([&flags] { wire::Reload(flags.config); });
  LOG(INFO) << "weir-csi ends on signal " << signal_number;
  server->Shutdown(absl::ToChronoTime(absl::Now() + kShutdownGrace));
  // Unless the next driver serves there by now.
  if (InodeOf(socket) == inode) ::unlink(socket.c_str());
  return 0;
}

int Run(int argc, char** argv) {
  Flags flags;
  CLI::App app(kDescription, "weir-csi");
  app.set_version_flag("--version", absl::StrCat("weir-csi ", kVersion));
  AddFlags(app, flags);
  absl::StatusOr<std::vector<std::string>> words = WithConfigFile({argv, argv + argc});
  if (!words.ok()) return Fail(2, std::string(words.status().message()));
  try {
    app.parse(static_cast<int>(words->size()), ArgvOf(*words).data());
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);
    return Fail(2, absl::StrCat(error.what(), "; see weir-csi --help"));
  }
  const std::string socket = SocketPath(flags.endpoint);
  if (socket.empty()) return Fail(2, "--endpoint: give unix:/PATH that ends in .sock");
  if (flags.mode != "controller" && flags.node_id.empty()) return Fail(2, "--node-id is missing");
  if (flags.state_dir.empty() || flags.state_dir[0] != '/') return Fail(2, "--state-dir: give an absolute path");
  flags.tls = Absolute(flags.tls);  // weir-nbd and weir-fuse read them in another folder
  if (flags.check_config) return CheckConfig(flags, socket);
  // Sockets and folders are for this user alone.
  ::umask(077);
  CHECK(SetLog(flags.log_level, flags.log_format).ok());  // the parser has looked at both
  const Signals signals;
  return Serve(flags, socket, signals);
}

}  // namespace
}  // namespace weir::csi

int main(int argc, char** argv) { return weir::csi::Run(argc, argv); }
