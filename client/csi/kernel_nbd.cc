#include "client/csi/kernel_nbd.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <optional>
#include <system_error>
#include <vector>

#include "absl/base/attributes.h"
#include "absl/base/const_init.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "client/csi/command.h"
#include "client/csi/names.h"
#include "proto/base/log.h"
#include "proto/base/status_macros.h"

namespace weir::csi {
namespace {

constexpr absl::Duration kGonePause = absl::Milliseconds(20);
constexpr size_t kTagDigits = 8;

// Whose lock a log has.
enum class Lock { kNobodys, kOfOneThatRefuses, kOfOneThatServes };

Lock LockOf(const std::string& path) {
  // Else one look would see the other one's lock.
  ABSL_CONST_INIT static absl::Mutex one_at_a_time(absl::kConstInit);
  absl::MutexLock lock(&one_at_a_time);
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return Lock::kNobodys;
  const auto taken = [fd](int how) { return ::flock(fd, how | LOCK_NB) != 0 && errno == EWOULDBLOCK; };
  const Lock found = taken(LOCK_SH) ? Lock::kOfOneThatServes : taken(LOCK_EX) ? Lock::kOfOneThatRefuses : Lock::kNobodys;
  ::close(fd);
  return found;
}

bool IsServed(const std::string& log) { return LockOf(log) == Lock::kOfOneThatServes; }

absl::Status InUse(const std::string& device) {
  return absl::FailedPreconditionError(absl::StrCat(device, " is in use: something is mounted from it or has it open"));
}

// However the folder is spelt.
std::string TagOf(const std::string& state_dir) {
  const std::filesystem::path plain = std::filesystem::path(state_dir).lexically_normal();
  return Sha256Hex((plain.has_filename() ? plain : plain.parent_path()).string()).substr(0, kTagDigits);
}

}  // namespace

KernelNbd::KernelNbd(Options options, nbd_device::NbdKernel* kernel)
    : options_(std::move(options)), tag_(TagOf(options_.state_dir)), kernel_(kernel) {}

absl::Status KernelNbd::CheckNobodyElses(const std::string& volume) {
  for (const nbd_device::NbdDevice& device : nbd_device::DevicesOf(*kernel_, volume)) {
    if (absl::StartsWith(device.backend, nbd_device::BackendPrefix(volume, tag_))) continue;
    return absl::FailedPreconditionError(
        absl::StrCat(device.path(), " is volume ", volume, " already, made by hand or by another driver: end its weir-nbd (kill PID) when it is done with"));
  }
  return absl::OkStatus();
}

absl::StatusOr<AttachedDevice> KernelNbd::Attach(const Request& request, absl::Time deadline) {
  RETURN_IF_ERROR(CheckNobodyElses(request.volume));
  const auto begin = [&]() -> absl::StatusOr<std::string> {
    std::error_code error;
    std::filesystem::create_directories(Folder(request.volume), error);
    if (error) return absl::InternalError(absl::StrCat("cannot make ", Folder(request.volume), ": ", error.message()));
    std::vector<std::string> nbd = {options_.program, "--frontend=" + request.frontend, "--volume=" + request.volume,
                                    "--note=" + tag_ + request.note, "--hold=" + absl::FormatDuration(request.hold),
                                    "--log=" + Log(request.volume)};
    if (request.read_only) nbd.push_back("--read_only");
    for (std::string& flag : AsFlags(options_.tls)) nbd.push_back(std::move(flag));
    ASSIGN_OR_RETURN(const std::string said, RunOrFail(nbd, deadline));
    return std::string(absl::StripAsciiWhitespace(said));
  };
  absl::StatusOr<std::string> device = begin();
  if (!device.ok()) {
    const absl::Status removed = Detach(request.volume, absl::InfiniteFuture());
    if (!removed.ok()) LOG(WARNING) << "volume=" << request.volume << " remains of an attach: " << removed;
    return device.status();
  }
  return AttachedDevice{*std::move(device), request.note, true};
}

absl::StatusOr<std::optional<AttachedDevice>> KernelNbd::Find(const std::string& volume) {
  const std::vector<nbd_device::NbdDevice> devices = DevicesOf(volume);
  if (devices.empty()) return std::optional<AttachedDevice>();
  return std::optional<AttachedDevice>(
      AttachedDevice{devices[0].path(), nbd_device::NoteBehind(devices[0], volume, tag_), IsServed(Log(volume))});
}

absl::Status KernelNbd::Keep(const std::string& volume) {
  for (const nbd_device::NbdDevice& device : DevicesOf(volume)) RETURN_IF_ERROR(kernel_->Keep(device));
  return absl::OkStatus();
}

absl::Status KernelNbd::Fail(const std::string& volume) {
  // In this order: while a device is there whoever serves it has the lock, so this is none that has just been made.
  const std::vector<nbd_device::NbdDevice> devices = DevicesOf(volume);
  if (IsServed(Log(volume))) return absl::OkStatus();
  for (const nbd_device::NbdDevice& device : devices) RETURN_IF_ERROR(kernel_->Disconnect(device));
  return absl::OkStatus();
}

absl::Status KernelNbd::Refuse(const std::string& volume, absl::Time deadline) {
  const std::vector<nbd_device::NbdDevice> devices = DevicesOf(volume);
  if (LockOf(Log(volume)) != Lock::kNobodys) return absl::OkStatus();
  for (const nbd_device::NbdDevice& device : devices) {
    RETURN_IF_ERROR(RunOrFail({options_.program, "--refuse=" + device.backend, "--volume=" + volume, "--log=" + Log(volume)},
                              deadline).status());
  }
  return absl::OkStatus();
}

bool KernelNbd::AwaitGone(const std::string& volume) {
  const absl::Time until = absl::Now() + options_.gone_max;
  while (!DevicesOf(volume).empty()) {
    if (absl::Now() > until) return false;
    absl::SleepFor(kGonePause);
  }
  return true;
}

bool KernelNbd::AwaitEnded(const std::string& volume, absl::Time deadline) {
  const absl::Time until = std::min(deadline, absl::Now() + options_.ended_max);
  while (IsServed(Log(volume))) {
    if (absl::Now() > until) return false;
    absl::SleepFor(kGonePause);
  }
  return true;
}

absl::Status KernelNbd::End(const std::string& volume, const nbd_device::NbdDevice& device) {
  // Nobody serves it: its requests are not to wait until they fail by themselves.
  if (!IsServed(Log(volume))) return kernel_->Disconnect(device);
  const absl::Status told = kernel_->EndOnceUnused(device);
  if (told.ok() && AwaitGone(volume)) return absl::OkStatus();
  // It stays what it was, also for the next who asks for it.
  const absl::Status kept = kernel_->Keep(device);
  if (!kept.ok()) LOG(WARNING) << "volume=" << volume << " " << device.path() << " will end by itself: " << kept;
  return told.ok() ? InUse(device.path()) : told;
}

absl::Status KernelNbd::Detach(const std::string& volume, absl::Time deadline) {
  const std::vector<nbd_device::NbdDevice> devices = DevicesOf(volume);
  for (const nbd_device::NbdDevice& device : devices) RETURN_IF_ERROR(End(volume, device));
  // What was disconnected is there until its last user closes it.
  if (!AwaitGone(volume)) return InUse(devices.empty() ? "its device" : devices[0].path());
  // Another one that took this log would not hear of it, and there would be two.
  if (!AwaitEnded(volume, deadline)) {
    return absl::UnavailableError(absl::StrCat("the weir-nbd of volume ", volume, " has not ended yet"));
  }
  if (::unlink(Log(volume).c_str()) != 0 && errno != ENOENT && errno != ENOTDIR) {
    return absl::InternalError(absl::StrCat("cannot remove ", Log(volume)));
  }
  // Another kind of attach may have something there.
  if (::rmdir(Folder(volume).c_str()) != 0 && errno != ENOENT && errno != ENOTEMPTY && errno != ENOTDIR) {
    return absl::InternalError(absl::StrCat("cannot remove ", Folder(volume)));
  }
  return absl::OkStatus();
}

absl::Status KernelNbd::Resize(const std::string& volume, absl::Time deadline) {
  ASSIGN_OR_RETURN(const uint64_t size_bytes, options_.size_of(volume, deadline));
  for (const nbd_device::NbdDevice& device : DevicesOf(volume)) RETURN_IF_ERROR(kernel_->Resize(device, size_bytes));
  return absl::OkStatus();
}

}  // namespace weir::csi
