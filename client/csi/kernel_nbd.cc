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

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/csi/command.h"
#include "client/csi/mounts.h"
#include "proto/base/log.h"
#include "proto/base/status_macros.h"

namespace weir::csi {
namespace {

constexpr absl::Duration kGonePause = absl::Milliseconds(20);

// Whether somebody has it locked.
bool IsLocked(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  const bool locked = ::flock(fd, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
  ::close(fd);
  return locked;
}

}  // namespace

absl::StatusOr<AttachedDevice> KernelNbd::Attach(const Request& request, absl::Time deadline) {
  const auto begin = [&]() -> absl::StatusOr<std::string> {
    std::error_code error;
    std::filesystem::create_directories(Folder(request.volume), error);
    if (error) return absl::InternalError(absl::StrCat("cannot make ", Folder(request.volume), ": ", error.message()));
    std::vector<std::string> nbd = {options_.program, "--frontend=" + request.frontend, "--volume=" + request.volume,
                                    "--note=" + request.note, "--log=" + Log(request.volume)};
    if (request.read_only) nbd.push_back("--read_only");
    if (options_.tls.given()) {
      nbd.insert(nbd.end(), {"--tls_cert=" + options_.tls.cert, "--tls_key=" + options_.tls.key,
                             "--tls_ca=" + options_.tls.ca});
    }
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
  const std::vector<nbd_device::NbdDevice> devices = nbd_device::DevicesOf(*kernel_, volume);
  if (devices.empty()) return std::optional<AttachedDevice>();
  const std::string note = devices[0].backend.substr(nbd_device::BackendOf(volume, "").size());
  return std::optional<AttachedDevice>(AttachedDevice{devices[0].path(), note, IsLocked(Log(volume))});
}

bool KernelNbd::AwaitGone(const std::string& volume) {
  const absl::Time until = absl::Now() + options_.gone_max;
  while (!nbd_device::DevicesOf(*kernel_, volume).empty()) {
    if (absl::Now() > until) return false;
    absl::SleepFor(kGonePause);
  }
  // Its process is about to end, and nothing waits for it; but nothing is left once it has.
  while (IsLocked(Log(volume)) && absl::Now() < until) absl::SleepFor(kGonePause);
  return true;
}

absl::Status KernelNbd::End(const std::string& volume, const nbd_device::NbdDevice& device) {
  // Nobody serves it: its requests are not to wait until they fail by themselves.
  if (!IsLocked(Log(volume))) return kernel_->Disconnect(device);
  RETURN_IF_ERROR(kernel_->EndOnceUnused(device));
  if (AwaitGone(volume)) return absl::OkStatus();
  // It stays what it was, also for the next who asks for it.
  const absl::Status kept = kernel_->Keep(device);
  if (!kept.ok()) LOG(WARNING) << "volume=" << volume << " " << device.path() << " will end by itself: " << kept;
  return absl::FailedPreconditionError(
      absl::StrCat(device.path(), " is in use: something is mounted from it or has it open"));
}

absl::Status KernelNbd::Detach(const std::string& volume, absl::Time) {
  for (const nbd_device::NbdDevice& device : nbd_device::DevicesOf(*kernel_, volume)) {
    RETURN_IF_ERROR(End(volume, device));
  }
  if (!AwaitGone(volume)) return absl::InternalError(absl::StrCat("the device of volume ", volume, " does not end"));
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
  for (const nbd_device::NbdDevice& device : nbd_device::DevicesOf(*kernel_, volume)) {
    RETURN_IF_ERROR(kernel_->Resize(device, size_bytes));
  }
  return absl::OkStatus();
}

}  // namespace weir::csi
