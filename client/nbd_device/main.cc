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
#include "client/fuse/device_program.h"
#include "client/fuse/volume_file.h"
#include "client/nbd_device/keeper.h"
#include "client/nbd_device/netlink.h"
#include "client/nbd_device/server.h"
#include "client/weir/client.h"
#include "proto/base/log.h"
#include "proto/wire/reload.h"
#include "proto/wire/reload_thread.h"

ABSL_FLAG(std::string, note, "", "What /sys/block/nbd*/backend shows between weir:VOLUME: and a number of the device's own.");
ABSL_FLAG(std::string, refuse, "",
          "Make no device. Answer every request of this one, which nobody serves since both processes of its weir-nbd were killed, with an "
          "error, until it is ended: what its /sys/block/nbd*/backend shows. Wants --volume, no --frontend.");

namespace weir::nbd_device {
namespace {

using fuse::DeviceFlags;
using fuse::Fail;

constexpr char kName[] = "weir-nbd";
constexpr char kUsage[] =
    "makes a block device of a volume, with the kernel's NBD client, and says which (/dev/nbd0).\n\n"
    "  weir-nbd --frontend=127.0.0.1:7700 --volume=demo &\n\n"
    "Wants root and the kernel's nbd module (modprobe nbd). SIGTERM ends the device, and this, once nobody has it open.\n"
    "The device follows the volume's size when it is told to: the CSI driver does. SIGHUP has it look at its certificate and at the log's flags in --config anew.\n"
    "Exit codes: 0 the device was ended, 1 could not run, 2 wrong usage.";

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

int ServeUntilDisconnected(const DeviceFlags& flags, Server server) {
  const absl::Status served = server.Serve();
  if (served.ok()) return kServerDisconnected;
  LOG(WARNING) << "volume=" << flags.volume << " " << served;
  return kServerFailed;
}

int Serve(const DeviceFlags& flags, const Succession& succession, int socket, int ready) {
  const wire::ReloadThread reload(flags.config);
  uint32_t epoch = 0;
  absl::StatusOr<std::unique_ptr<fuse::VolumeFile>> file = OpenFile(flags, succession, &epoch);
  if (!file.ok()) {
    Say(ready, absl::StrCat("! ", static_cast<int>(file.status().code()), " ", file.status().message()));
    return kServerFailed;
  }
  Say(ready, absl::StrCat((*file)->size_bytes(), " ", epoch));
  return ServeUntilDisconnected(flags, Server(file->get(), socket));
}

int Refuse(const DeviceFlags& flags, int socket, int ready) {
  Say(ready, "0 0");
  return ServeUntilDisconnected(flags, Server(socket));
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

absl::Status LogIsTaken(const DeviceFlags& flags) {
  return absl::UnavailableError(absl::StrCat("another weir-nbd has the log ", flags.log));
}

sigset_t KeeperSignals() {
  sigset_t set;
  sigemptyset(&set);
  for (int signal_number : {SIGCHLD, SIGTERM, SIGINT, SIGHUP}) sigaddset(&set, signal_number);
  return set;
}

// `in_background`: whom to tell, which a server must not keep open.
class ForkedServer final : public ServerProcess {
 public:
  ForkedServer(DeviceFlags flags, int ready_in_background) : flags_(std::move(flags)), ready_in_background_(ready_in_background) {
    const sigset_t set = KeeperSignals();
    ::sigprocmask(SIG_BLOCK, &set, nullptr);
  }

  absl::StatusOr<Started> Start(const Succession& succession) override {
    return Fork([&](int socket, int ready) { return Serve(flags_, succession, socket, ready); });
  }

  absl::StatusOr<Started> StartRefusing() override {
    // So the driver sees that it is not served, and that nobody waits for an answer either.
    if (ready_in_background_ >= 0 && ::flock(STDERR_FILENO, LOCK_SH | LOCK_NB) != 0) return LogIsTaken(flags_);
    return Fork([&](int socket, int ready) { return Refuse(flags_, socket, ready); });
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
      if (signal_number == SIGHUP) Reload();
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
    sigdelset(&set, SIGHUP);
    const timespec length = absl::ToTimespec(duration);
    return ::sigtimedwait(&set, nullptr, &length) > 0;
  }

 private:
  // The server has the certificate, and says what becomes of it.
  void Reload() {
    const absl::Status log = wire::ReloadLog(flags_.config);
    if (!log.ok()) LOG(ERROR) << "SIGHUP: the log goes on as before: " << log.message();
    if (pid_ > 0) ::kill(pid_, SIGHUP);
  }

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

  const DeviceFlags flags_;
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

int Keep(const DeviceFlags& flags, int ready) {
  Keeper::Options options;
  options.backend = absl::GetFlag(FLAGS_refuse);
  const bool refuses = !options.backend.empty();
  // By this the driver knows that the device is served; whoever serves has the file too, and the lock with it.
  if (!refuses && ready >= 0 && ::flock(STDERR_FILENO, LOCK_EX | LOCK_NB) != 0) {
    Tell(ready, false, LogIsTaken(flags).message());
    return 1;
  }
  if (!refuses) options.backend = BackendOf(flags.volume, absl::GetFlag(FLAGS_note), RandomId().substr(0, kInstanceDigits));
  options.server_flags = ServerFlags(flags.read_only);
  options.hold = flags.hold;
  options.client = RandomId();
  NetlinkKernel kernel;
  ForkedServer server(flags, ready);
  bool told = false;
  Keeper keeper(options, &kernel, &server);
  const auto is_there = [&](const NbdDevice& device) {
    LOG(INFO) << "volume=" << flags.volume << " is " << device.path() << (refuses ? ", and fails" : "");
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
    return Fail(kName, fuse::kCannotRun, status.message());
  }
  LOG(ERROR) << "volume=" << flags.volume << " is no device any more: " << status;
  return 1;
}

bool Refuses() { return !absl::GetFlag(FLAGS_refuse).empty(); }

std::string Wrong(const std::vector<std::string>& arguments, const DeviceFlags& flags) {
  if (!arguments.empty()) return "give --frontend and --volume, and nothing else; see --help";
  const bool ours = !Refuses() || absl::StartsWith(absl::GetFlag(FLAGS_refuse), BackendPrefix(flags.volume, ""));
  return ours ? "" : "--refuse: that is no device of --volume";
}

int Main(const std::vector<std::string>&, const DeviceFlags& flags) {
  // Until somebody takes it. In the foreground too: a terminal that is closed is not to take the device from under its users.
  ::signal(SIGHUP, SIG_IGN);
  return Keep(flags, flags.log.empty() ? -1 : GoIntoBackground(kName, flags.log));
}

}  // namespace
}  // namespace weir::nbd_device

int main(int argc, char** argv) {
  using namespace weir::nbd_device;
  return weir::fuse::RunDeviceProgram({kName, kUsage, "client/nbd_device/main.cc", Wrong, Main, Refuses}, argc, argv);
}
