// weir-nbd: one volume as a device of the kernel's NBD client. See --help.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"
#include "client/fuse/background.h"
#include "client/fuse/volume_file.h"
#include "client/nbd_device/keeper.h"
#include "client/nbd_device/netlink.h"
#include "client/nbd_device/server.h"
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
ABSL_FLAG(std::string, note, "", "What /sys/block/nbd*/backend shows between weir:VOLUME: and a number of the device's own.");
ABSL_FLAG(bool, read_only, false, "Make the device read-only.");
ABSL_FLAG(absl::Duration, hold, absl::Minutes(5),
          "How long requests wait for a frontend that is away before they fail. At least 1s.");
ABSL_FLAG(std::string, log, "",
          "Go into the background once the device is there, and log here; the file is locked for as long as it is served. Empty: stay.");
ABSL_FLAG(std::string, refuse, "",
          "Make no device. Answer every request of this one, which nobody serves since both processes of its weir-nbd were killed, with an "
          "error, until it is ended: what its /sys/block/nbd*/backend shows. Wants --volume, no --frontend.");
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

namespace weir::nbd_device {
namespace {

constexpr char kUsage[] =
    "makes a block device of a volume, with the kernel's NBD client, and says which (/dev/nbd0).\n\n"
    "  weir-nbd --frontend=127.0.0.1:7700 --volume=demo &\n\n"
    "Wants root and the kernel's nbd module (modprobe nbd). SIGTERM ends the device, and this, once nobody has it open.\n"
    "The device follows the volume's size when it is told to: the CSI driver does.\n"
    "Exit codes: 0 the device was ended, 1 could not run, 2 wrong usage.";

// How long asking for the size may hold up requests behind the one that asks.
constexpr absl::Duration kControlTimeout = absl::Seconds(3);

int Fail(int code, absl::string_view message) {
  std::fprintf(stderr, "weir-nbd: %s\n", std::string(message).c_str());
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
  return check.Report("weir-nbd");
}

absl::StatusOr<std::unique_ptr<fuse::VolumeFile>> OpenFile(const TlsFiles& tls, const Succession& succession,
                                                           uint32_t* epoch) {
  const std::string frontend = absl::GetFlag(FLAGS_frontend), volume = absl::GetFlag(FLAGS_volume);
  ClientOptions options;
  options.tls = tls;
  options.timeout = absl::GetFlag(FLAGS_hold);
  options.succession = succession;
  ASSIGN_OR_RETURN(std::unique_ptr<Client> client, Client::Connect(frontend, options));
  ASSIGN_OR_RETURN(std::unique_ptr<Volume> opened, client->OpenVolume(volume));
  *epoch = opened->epoch();
  options.timeout = kControlTimeout;
  options.connect_timeout = kControlTimeout;
  ASSIGN_OR_RETURN(std::unique_ptr<Client> control, Client::Connect(frontend, options));
  return std::make_unique<fuse::VolumeFile>(volume, std::move(control), std::move(opened), absl::GetFlag(FLAGS_read_only));
}

// --- the process that serves ---

constexpr int kServerDisconnected = 0;
constexpr int kServerFailed = 1;

// "SIZE EPOCH", or "! CODE MESSAGE".
void Say(int fd, std::string line) {
  for (char& c : line) {
    if (c == '\n') c = ' ';
  }
  line += '\n';
  if (::write(fd, line.data(), line.size()) < 0) LOG(WARNING) << "the keeper is gone";
  ::close(fd);
}

int ServeUntilDisconnected(Server server) {
  const absl::Status served = server.Serve();
  if (served.ok()) return kServerDisconnected;
  LOG(WARNING) << "volume=" << absl::GetFlag(FLAGS_volume) << " " << served;
  return kServerFailed;
}

int Serve(const TlsFiles& tls, const Succession& succession, int socket, int ready) {
  uint32_t epoch = 0;
  absl::StatusOr<std::unique_ptr<fuse::VolumeFile>> file = OpenFile(tls, succession, &epoch);
  if (!file.ok()) {
    Say(ready, absl::StrCat("! ", static_cast<int>(file.status().code()), " ", file.status().message()));
    return kServerFailed;
  }
  Say(ready, absl::StrCat((*file)->size_bytes(), " ", epoch));
  return ServeUntilDisconnected(Server(file->get(), socket));
}

int Refuse(int socket, int ready) {
  Say(ready, "0 0");
  return ServeUntilDisconnected(Server(socket));
}

// --- and the one that keeps it ---

std::string ReadLine(int fd) {
  std::string said;
  char c;
  while (::read(fd, &c, 1) == 1 && c != '\n') said += c;
  return said;
}

absl::StatusOr<ServerProcess::Started> Understand(const std::string& said) {
  ServerProcess::Started started;
  const std::vector<std::string> words = absl::StrSplit(said, absl::MaxSplits(' ', 2));
  int code = 0;
  if (words.size() == 3 && words[0] == "!" && absl::SimpleAtoi(words[1], &code) && code != 0) {
    return absl::Status(static_cast<absl::StatusCode>(code), words[2]);
  }
  if (words.size() == 2 && absl::SimpleAtoi(words[0], &started.size_bytes) && absl::SimpleAtoi(words[1], &started.epoch)) {
    return started;
  }
  return absl::UnavailableError("what is to serve ended before it did");
}

absl::Status LogIsTaken() {
  return absl::UnavailableError(absl::StrCat("another weir-nbd has the log ", absl::GetFlag(FLAGS_log)));
}

sigset_t KeeperSignals() {
  sigset_t set;
  sigemptyset(&set);
  for (int signal_number : {SIGCHLD, SIGTERM, SIGINT}) sigaddset(&set, signal_number);
  return set;
}

// `in_background`: whom to tell, which a server must not keep open.
class ForkedServer final : public ServerProcess {
 public:
  ForkedServer(TlsFiles tls, int ready_in_background) : tls_(std::move(tls)), ready_in_background_(ready_in_background) {
    const sigset_t set = KeeperSignals();
    ::sigprocmask(SIG_BLOCK, &set, nullptr);
  }

  absl::StatusOr<Started> Start(const Succession& succession) override {
    return Fork([&](int socket, int ready) { return Serve(tls_, succession, socket, ready); });
  }

  absl::StatusOr<Started> StartRefusing() override {
    // So the driver sees that it is not served, and that nobody waits for an answer either.
    if (ready_in_background_ >= 0 && ::flock(STDERR_FILENO, LOCK_SH | LOCK_NB) != 0) return LogIsTaken();
    return Fork(Refuse);
  }

  void Connected() override { ::close(std::exchange(kernel_socket_, -1)); }

  Event Await() override {
    const sigset_t set = KeeperSignals();
    while (true) {
      int status = 0;
      if (::waitpid(pid_, &status, WNOHANG) == pid_) {
        pid_ = -1;
        return WIFEXITED(status) && WEXITSTATUS(status) == kServerDisconnected ? Event::kDisconnected : Event::kDied;
      }
      const int signal_number = ::sigwaitinfo(&set, nullptr);
      if (signal_number == SIGTERM || signal_number == SIGINT) return Event::kTold;
    }
  }

  void Kill() override {
    if (kernel_socket_ >= 0) Connected();
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    pid_ = -1;
  }

  bool Pause(absl::Duration duration) override {
    sigset_t set = KeeperSignals();
    sigdelset(&set, SIGCHLD);
    const timespec length = absl::ToTimespec(duration);
    return ::sigtimedwait(&set, nullptr, &length) > 0;
  }

 private:
  // `serve` gives the exit code of the new process. `ready`: whom it is to tell.
  absl::StatusOr<Started> Fork(const std::function<int(int socket, int ready)>& serve) {
    int sockets[2], ready[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) != 0 || ::pipe2(ready, O_CLOEXEC) != 0) {
      return absl::ResourceExhaustedError(absl::StrCat("no sockets: ", std::strerror(errno)));
    }
    pid_ = ::fork();
    if (pid_ == 0) {
      ::close(sockets[0]);
      ::close(ready[0]);
      if (ready_in_background_ >= 0) ::close(ready_in_background_);
      // It ends with its device: systemd, for one, ends all processes of a unit when the machine goes down, and the device
      // has users then.
      ::signal(SIGTERM, SIG_IGN);
      ::signal(SIGINT, SIG_IGN);
      const sigset_t set = KeeperSignals();
      ::sigprocmask(SIG_UNBLOCK, &set, nullptr);
      // The kernel writes to the device in order to have memory: so this process must not wait for that where it wants some.
      // Asks for CAP_SYS_RESOURCE; without it the device works as long as there is memory.
      ::prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0);
      ::_exit(serve(sockets[1], ready[1]));
    }
    ::close(sockets[1]);
    ::close(ready[1]);
    kernel_socket_ = sockets[0];
    absl::StatusOr<Started> started =
        pid_ < 0 ? absl::ResourceExhaustedError("cannot fork") : Understand(ReadLine(ready[0]));
    ::close(ready[0]);
    if (started.ok()) {
      started->kernel_socket = kernel_socket_;
    } else {
      Kill();
    }
    return started;
  }

  const TlsFiles tls_;
  const int ready_in_background_;
  pid_t pid_ = -1;
  int kernel_socket_ = -1;
};

// Of a device: enough that no two on one machine have the same.
constexpr size_t kInstanceDigits = 12;

std::string RandomId() {
  std::random_device chance;
  return absl::StrFormat("%08x%08x%08x%08x", chance(), chance(), chance(), chance());
}

int Keep(const TlsFiles& tls, int ready) {
  Keeper::Options options;
  options.backend = absl::GetFlag(FLAGS_refuse);
  const bool refuses = !options.backend.empty();
  // By this the driver knows that the device is served; whoever serves has the file too, and the lock with it.
  if (!refuses && ready >= 0 && ::flock(STDERR_FILENO, LOCK_EX | LOCK_NB) != 0) {
    Tell(ready, false, LogIsTaken().message());
    return 1;
  }
  if (!refuses) options.backend = BackendOf(absl::GetFlag(FLAGS_volume), absl::GetFlag(FLAGS_note), RandomId().substr(0, kInstanceDigits));
  options.server_flags = ServerFlags(absl::GetFlag(FLAGS_read_only));
  options.hold = absl::GetFlag(FLAGS_hold);
  options.client = RandomId();
  NetlinkKernel kernel;
  ForkedServer server(tls, ready);
  bool told = false;
  Keeper keeper(options, &kernel, &server);
  const auto is_there = [&](const NbdDevice& device) {
    LOG(INFO) << "volume=" << absl::GetFlag(FLAGS_volume) << " is " << device.path() << (refuses ? ", and fails" : "");
    told = true;
    if (ready >= 0) return Tell(ready, true, device.path());
    std::printf("%s\n", device.path().c_str());
    std::fflush(stdout);
    return true;
  };
  const absl::Status status = refuses ? keeper.Refuse(is_there) : keeper.Run(is_there);
  if (status.ok()) return 0;
  if (!told) {
    Tell(ready, false, status.message());
    return Fail(1, status.message());
  }
  LOG(ERROR) << "volume=" << absl::GetFlag(FLAGS_volume) << " is no device any more: " << status;
  return 1;
}

int Main(const std::vector<std::string>& arguments) {
  const std::string refuse = absl::GetFlag(FLAGS_refuse);
  if (!arguments.empty() || (absl::GetFlag(FLAGS_frontend).empty() && refuse.empty()) || absl::GetFlag(FLAGS_volume).empty()) {
    return Fail(2, "give --frontend and --volume; see --help");
  }
  if (!refuse.empty() && !absl::StartsWith(refuse, BackendPrefix(absl::GetFlag(FLAGS_volume), ""))) {
    return Fail(2, "--refuse: that is no device of --volume");
  }
  if (absl::GetFlag(FLAGS_hold) < absl::Seconds(1)) return Fail(2, "--hold: at least 1s");
  const TlsFiles tls = Tls();
  // Already here, where nothing is begun yet.
  const absl::Status certificate = !refuse.empty() ? absl::OkStatus()
                                   : tls.given()   ? wire::CheckCertificates(tls).status()
                                                   : wire::CheckDial("frontend", absl::GetFlag(FLAGS_frontend), tls);
  if (absl::GetFlag(FLAGS_check_config)) return CheckConfig(certificate);
  if (!certificate.ok()) return Fail(2, certificate.message());
  ::signal(SIGPIPE, SIG_IGN);
  // In the foreground too: a terminal that is closed is not to take the device from under its users.
  ::signal(SIGHUP, SIG_IGN);
  const std::string log = absl::GetFlag(FLAGS_log);
  return Keep(tls, log.empty() ? -1 : GoIntoBackground("weir-nbd", log));
}

}  // namespace
}  // namespace weir::nbd_device

int main(int argc, char** argv) {
  weir::DescribeProgram("weir-nbd", weir::nbd_device::kUsage, "client/nbd_device/main.cc");
  const absl::StatusOr<std::vector<std::string>> arguments = weir::ParseFlagsAndArguments(argc, argv);
  return arguments.ok() ? weir::nbd_device::Main(*arguments) : weir::nbd_device::Fail(2, arguments.status().message());
}
