#include "client/fuse/device_program.h"

#include <signal.h>

#include <cstdio>
#include <filesystem>
#include <utility>

#include "absl/flags/flag.h"
#include "proto/base/config_check.h"
#include "proto/base/flags.h"
#include "proto/base/log.h"
#include "proto/base/status_macros.h"
#include "proto/wire/certificates.h"
#include "proto/wire/identity.h"
#include "proto/wire/poller_gate.h"

ABSL_FLAG(std::string, frontend, "", "The frontend's gRPC address, HOST:PORT or unix:PATH. Required.");
ABSL_FLAG(std::string, volume, "", "The volume; it is attached there unless another frontend has it. Required.");
ABSL_FLAG(bool, read_only, false, "Refuse to write; a device is read-only then.");
ABSL_FLAG(absl::Duration, hold, absl::Minutes(5),
          "How long requests wait for a frontend that is away before they fail. At least 1s.");
ABSL_FLAG(std::string, log, "",
          "Go into the background once the volume is served, and log here; weir-nbd locks the file for as long as it serves. "
          "Empty: stay.");
ABSL_FLAG(std::string, log_level, "info",
          "Log what is at least this grave: info, warning or error; taken anew from --config at SIGHUP.");
ABSL_FLAG(std::string, log_format, "text", "text, or json: an object a line; taken anew from --config at SIGHUP.");
ABSL_FLAG(std::string, tls_cert, "",
          "The certificate (PEM) to show, with the URI weir://client among its names; read anew when it changes. "
          "Empty: plain text.");
ABSL_FLAG(std::string, tls_key, "", "Its key (PEM).");
ABSL_FLAG(std::string, tls_ca, "", "The certificates (PEM) that signed the frontend's.");
ABSL_FLAG(bool, insecure, false,
          "Speak to a frontend on another machine in plain text, where the network is trusted; else only to this machine's.");
ABSL_FLAG(std::string, config, "",
          "Read flags from this file too, one NAME=VALUE a line; what the command line says wins.");
ABSL_FLAG(bool, check_config, false,
          "Say what is wrong with the flags, the file and the certificate, and exit: 0 nothing, 1 something.");

namespace weir::fuse {
namespace {

// How long asking for the size may hold up who asks, and requests behind it.
constexpr absl::Duration kControlTimeout = absl::Seconds(3);

DeviceFlags FlagsGiven() {
  DeviceFlags flags;
  flags.frontend = absl::GetFlag(FLAGS_frontend);
  flags.volume = absl::GetFlag(FLAGS_volume);
  flags.read_only = absl::GetFlag(FLAGS_read_only);
  flags.hold = absl::GetFlag(FLAGS_hold);
  flags.log = absl::GetFlag(FLAGS_log);
  const std::string config = absl::GetFlag(FLAGS_config);
  if (!config.empty()) flags.config = std::filesystem::absolute(config).string();
  flags.tls = Absolute({absl::GetFlag(FLAGS_tls_cert), absl::GetFlag(FLAGS_tls_key), absl::GetFlag(FLAGS_tls_ca),
                        absl::GetFlag(FLAGS_insecure)});
  flags.check_config = absl::GetFlag(FLAGS_check_config);
  return flags;
}

// Already before anything is begun.
absl::Status CheckTls(const DeviceFlags& flags) {
  if (flags.frontend.empty()) return absl::OkStatus();
  return flags.tls.given() ? wire::CheckCertificates(flags.tls).status()
                           : wire::CheckDial("frontend", flags.frontend, flags.tls);
}

int CheckConfig(const DeviceProgram& program, const DeviceFlags& flags) {
  ConfigCheck check;
  check.Note(SetLog(absl::GetFlag(FLAGS_log_level), absl::GetFlag(FLAGS_log_format)));
  if (!flags.frontend.empty()) {
    check.Peer("frontend", flags.frontend);
    check.Note(CheckTls(flags));
    check.Note(wire::CheckOwnRole(flags.tls, wire::kClient));
  }
  return check.Report(program.name);
}

}  // namespace

int RunDeviceProgram(const DeviceProgram& program, int argc, char** argv) {
  DescribeProgram(program.name, program.usage, program.main_file, "client/fuse/device_program.cc");
  const absl::StatusOr<std::vector<std::string>> arguments = ParseFlagsAndArguments(argc, argv);
  if (!arguments.ok()) return Fail(program.name, kWrongUsage, arguments.status().message());
  const DeviceFlags flags = FlagsGiven();
  const bool wants_frontend = program.without_frontend == nullptr || !program.without_frontend();
  std::string wrong = program.wrong(*arguments, flags);
  if (flags.hold < absl::Seconds(1)) wrong = "--hold: at least 1s";
  if (flags.volume.empty() || (wants_frontend && flags.frontend.empty())) wrong = "give --frontend and --volume; see --help";
  if (!wrong.empty()) return Fail(program.name, kWrongUsage, wrong);
  if (flags.check_config) return CheckConfig(program, flags);
  absl::Status status = SetLog(absl::GetFlag(FLAGS_log_level), absl::GetFlag(FLAGS_log_format));
  if (status.ok()) status = CheckTls(flags);
  if (!status.ok()) return Fail(program.name, kWrongUsage, status.message());
  ::signal(SIGPIPE, SIG_IGN);
  wire::LetOnePollerWait();
  return program.run(*arguments, flags);
}

int Fail(absl::string_view program, int code, absl::string_view message) {
  std::fprintf(stderr, "%s: %s\n", std::string(program).c_str(), std::string(message).c_str());
  return code;
}

absl::StatusOr<std::unique_ptr<VolumeFile>> OpenFile(const DeviceFlags& flags, const Succession& succession, uint32_t* epoch) {
  ClientOptions options;
  options.tls = flags.tls;
  options.timeout = flags.hold;
  options.succession = succession;
  ASSIGN_OR_RETURN(std::unique_ptr<Client> client, Client::Connect(flags.frontend, options));
  ASSIGN_OR_RETURN(std::unique_ptr<Volume> opened, client->OpenVolume(flags.volume));
  if (epoch != nullptr) *epoch = opened->epoch();
  options.timeout = kControlTimeout;
  options.connect_timeout = kControlTimeout;
  ASSIGN_OR_RETURN(std::unique_ptr<Client> control, Client::Connect(flags.frontend, options));
  return std::make_unique<VolumeFile>(flags.volume, std::move(control), std::move(opened), flags.read_only);
}

}  // namespace weir::fuse
