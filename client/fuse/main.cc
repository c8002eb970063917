// weir-fuse: one volume as a file, MOUNT_POINT/volume. See --help.
#include <signal.h>

#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "client/fuse/background.h"
#include "client/fuse/file_system.h"
#include "client/fuse/volume_file.h"
#include "client/weir/client.h"
#include "proto/base/config_check.h"
#include "proto/base/flags.h"
#include "proto/base/log.h"
#include "proto/base/status_macros.h"
#include "proto/base/tls_files.h"
#include "proto/wire/certificates.h"
#include "proto/wire/identity.h"

ABSL_FLAG(std::string, frontend, "", "The frontend's gRPC address, HOST:PORT or unix:PATH. Required.");
ABSL_FLAG(std::string, volume, "", "The volume; it is attached there unless another frontend has it. Required.");
ABSL_FLAG(std::string, source, "", "What the mount table shows as the device; empty: weir:VOLUME.");
ABSL_FLAG(bool, read_only, false, "Refuse to write.");
ABSL_FLAG(absl::Duration, hold, absl::Minutes(5),
          "How long requests wait for a frontend that is away before they fail.");
ABSL_FLAG(std::string, log, "", "Go into the background once it is mounted, and log here. Empty: stay.");
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

constexpr char kUsage[] =
    "shows a volume as the file MOUNT_POINT/volume, until that is unmounted.\n\n"
    "  weir-fuse --frontend=127.0.0.1:7700 --volume=demo MOUNT_POINT &\n"
    "  losetup -f --show --direct-io=on --sector-size=4096 MOUNT_POINT/volume\n\n"
    "Requests are multiples of 4096 bytes. When the volume has grown, stat MOUNT_POINT/volume, then losetup -c.\n"
    "Exit codes: 0 it was unmounted, 1 could not run, 2 wrong usage.";

// How long asking for the size may hold up who looks at the file.
constexpr absl::Duration kControlTimeout = absl::Seconds(3);

int Fail(int code, absl::string_view message) {
  std::fprintf(stderr, "weir-fuse: %s\n", std::string(message).c_str());
  return code;
}

TlsFiles Tls() {
  // Absolute: in the background it is in another folder.
  return Absolute({absl::GetFlag(FLAGS_tls_cert), absl::GetFlag(FLAGS_tls_key), absl::GetFlag(FLAGS_tls_ca),
                   absl::GetFlag(FLAGS_insecure)});
}

int CheckConfig(const absl::Status& certificate) {
  ConfigCheck check;
  check.Peer("frontend", absl::GetFlag(FLAGS_frontend));
  check.Note(certificate);
  return check.Report("weir-fuse");
}

absl::StatusOr<std::unique_ptr<VolumeFile>> OpenFile(const TlsFiles& tls) {
  const std::string frontend = absl::GetFlag(FLAGS_frontend), volume = absl::GetFlag(FLAGS_volume);
  ClientOptions options;
  options.tls = tls;
  options.timeout = absl::GetFlag(FLAGS_hold);
  ASSIGN_OR_RETURN(std::unique_ptr<Client> client, Client::Connect(frontend, options));
  ASSIGN_OR_RETURN(std::unique_ptr<Volume> opened, client->OpenVolume(volume));
  options.timeout = kControlTimeout;
  options.connect_timeout = kControlTimeout;
  ASSIGN_OR_RETURN(std::unique_ptr<Client> control, Client::Connect(frontend, options));
  return std::make_unique<VolumeFile>(volume, std::move(control), std::move(opened),
                                      absl::GetFlag(FLAGS_read_only));
}

int Serve(const std::string& mount_point, const TlsFiles& tls, int ready) {
  std::string source = absl::GetFlag(FLAGS_source);
  if (source.empty()) source = absl::StrCat("weir:", absl::GetFlag(FLAGS_volume));
  absl::StatusOr<std::unique_ptr<VolumeFile>> file = OpenFile(tls);
  absl::Status status = file.status();
  if (status.ok()) {
    absl::StatusOr<std::unique_ptr<FileSystem>> system = FileSystem::Mount(file->get(), mount_point, source);
    status = system.status();
    if (status.ok()) {
      LOG(INFO) << "volume=" << absl::GetFlag(FLAGS_volume) << " is mounted on " << mount_point;
      if (!Tell(std::exchange(ready, -1), true, "")) LOG(WARNING) << "who started this is gone";
      status = (*system)->Serve();
    }
  }
  if (status.ok()) return 0;
  Tell(ready, false, status.message());
  return Fail(1, status.message());
}

int Main(const std::vector<std::string>& arguments) {
  const bool checks = absl::GetFlag(FLAGS_check_config);
  if (arguments.size() > 1 || (arguments.empty() && !checks) || absl::GetFlag(FLAGS_frontend).empty() ||
      absl::GetFlag(FLAGS_volume).empty()) {
    return Fail(2, "give --frontend, --volume and one MOUNT_POINT; see --help");
  }
  const TlsFiles tls = Tls();
  // Already here, where nothing is begun yet.
  const absl::Status certificate = tls.given() ? wire::CheckCertificates(tls).status()
                                               : wire::CheckDial("frontend", absl::GetFlag(FLAGS_frontend), tls);
  if (checks) return CheckConfig(certificate);
  if (!certificate.ok()) return Fail(2, certificate.message());
  char* const mount_point = ::realpath(arguments.front().c_str(), nullptr);
  if (mount_point == nullptr) return Fail(1, absl::StrCat("there is no directory ", arguments.front()));
  ::signal(SIGPIPE, SIG_IGN);
  const std::string log = absl::GetFlag(FLAGS_log);
  return Serve(mount_point, tls, log.empty() ? -1 : GoIntoBackground("weir-fuse", log));
}

}  // namespace
}  // namespace weir::fuse

int main(int argc, char** argv) {
  weir::DescribeProgram("weir-fuse", weir::fuse::kUsage, "client/fuse/main.cc");
  const absl::StatusOr<std::vector<std::string>> arguments = weir::ParseFlagsAndArguments(argc, argv);
  return arguments.ok() ? weir::fuse::Main(*arguments) : weir::fuse::Fail(2, arguments.status().message());
}
