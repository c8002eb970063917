#include "client/csi/fuse_loop.h"

#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <system_error>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "client/csi/command.h"
#include "client/csi/loop_device.h"
#include "client/csi/mounts.h"
#include "proto/base/log.h"
#include "proto/base/status_macros.h"

namespace weir::csi {
namespace {

constexpr char kFuseType[] = "fuse.weir";

// What the mount table shows: "weir:VOLUME:NOTE".
std::string SourceOf(const std::string& volume, const std::string& note) {
  return absl::StrCat("weir:", volume, ":", note);
}

bool Serves(const std::string& mount_point) {
  struct statvfs info;
  return ::statvfs(mount_point.c_str(), &info) == 0;
}

}  // namespace

absl::StatusOr<AttachedDevice> FuseLoop::Attach(const Request& request, absl::Time deadline) {
  const auto begin = [&]() -> absl::StatusOr<std::string> {
    std::error_code error;
    std::filesystem::create_directories(MountPoint(request.volume), error);
    if (error) {
      return absl::InternalError(absl::StrCat("cannot make ", MountPoint(request.volume), ": ", error.message()));
    }
    std::vector<std::string> fuse = {program_,
                                     "--frontend=" + request.frontend,
                                     "--volume=" + request.volume,
                                     "--source=" + SourceOf(request.volume, request.note),
                                     "--hold=" + absl::FormatDuration(request.hold),
                                     "--log=" + Folder(request.volume) + "/log"};
    if (request.read_only) fuse.push_back("--read_only");
    for (std::string& flag : AsFlags(tls_)) fuse.push_back(std::move(flag));
    fuse.push_back(MountPoint(request.volume));
    RETURN_IF_ERROR(RunOrFail(fuse, deadline).status());
    return MakeLoopDevice(File(request.volume), request.read_only, deadline);
  };
  absl::StatusOr<std::string> device = begin();
  if (!device.ok()) {
    const absl::Status removed = Detach(request.volume, absl::InfiniteFuture());
    if (!removed.ok()) LOG(WARNING) << "volume=" << request.volume << " remains of an attach: " << removed;
    return device.status();
  }
  return AttachedDevice{*std::move(device), request.note, true};
}

absl::StatusOr<std::optional<AttachedDevice>> FuseLoop::Find(const std::string& volume) {
  ASSIGN_OR_RETURN(const std::vector<Mount> mounts, ReadMounts());
  const std::optional<Mount> mount = MountAt(mounts, MountPoint(volume));
  const std::vector<std::string> devices = LoopDevicesOn(File(volume));
  const std::string prefix = SourceOf(volume, "");
  if (!mount.has_value() || mount->fs_type != kFuseType || mount->source.compare(0, prefix.size(), prefix) != 0 ||
      devices.empty()) {
    return std::optional<AttachedDevice>();
  }
  return std::optional<AttachedDevice>(
      AttachedDevice{devices[0], mount->source.substr(prefix.size()), Serves(MountPoint(volume))});
}

absl::Status FuseLoop::Detach(const std::string& volume, absl::Time deadline) {
  // The loop device first: without its file mounted it could not be told which one it is.
  for (const std::string& device : LoopDevicesOn(File(volume))) RETURN_IF_ERROR(RemoveLoopDevice(device, deadline));
  RETURN_IF_ERROR(UnmountAll(MountPoint(volume)));
  RETURN_IF_ERROR(RemoveMountPoint(MountPoint(volume)));
  if (::unlink((Folder(volume) + "/log").c_str()) != 0 && errno != ENOENT && errno != ENOTDIR) {
    return absl::InternalError(absl::StrCat("cannot remove ", Folder(volume), "/log"));
  }
  return RemoveMountPoint(Folder(volume));
}

absl::Status FuseLoop::Resize(const std::string& volume, absl::Time deadline) {
  // Looking at the file makes weir-fuse ask for its size, and the kernel believe it.
  struct stat info;
  if (::stat(File(volume).c_str(), &info) != 0) {
    return absl::UnavailableError(absl::StrCat(File(volume), " does not answer: weir-fuse is gone"));
  }
  for (const std::string& device : LoopDevicesOn(File(volume))) {
    RETURN_IF_ERROR(RunOrFail({"losetup", "-c", device}, deadline).status());
  }
  return absl::OkStatus();
}

}  // namespace weir::csi
