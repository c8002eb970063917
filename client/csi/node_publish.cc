// Node's publishing: a staged volume is shown where its users want it, grows and is measured there.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/csi/answer.h"
#include "client/csi/command.h"
#include "client/csi/file_system.h"
#include "client/csi/loop_device.h"
#include "client/csi/names.h"
#include "client/csi/node.h"
#include "client/csi/volume_state.h"
#include "proto/base/log.h"
#include "proto/base/status_macros.h"

namespace weir::csi {
namespace {

// Statistics are asked for often, and should not wait for a frontend that is away.
constexpr absl::Duration kConditionMax = absl::Seconds(1);

// What a mount stands on. `made`: whether it was not there.
absl::Status MakeMountPoint(const std::string& path, bool folder, bool* made) {
  if (folder) {
    *made = ::mkdir(path.c_str(), 0750) == 0;
  } else {
    const int fd = ::open(path.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0640);
    *made = fd >= 0;
    if (fd >= 0) ::close(fd);
  }
  if (*made) return absl::OkStatus();
  struct stat info;
  const int error = errno;
  if (error == EEXIST && ::stat(path.c_str(), &info) == 0 && folder == S_ISDIR(info.st_mode)) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat("the target path ", path, " cannot be made: ",
                                                    error == EEXIST ? "something else is there" : std::strerror(error)));
}

// The read-only twin of a device; one is enough for all.
absl::StatusOr<std::string> ReadOnlyTwin(const std::string& device, absl::Time deadline) {
  const std::vector<std::string> twins = LoopDevicesOn(device);
  if (!twins.empty()) return twins[0];
  return MakeLoopDevice(device, /*read_only=*/true, deadline);
}

void AddUsage(v1csi::VolumeUsage::Unit unit, uint64_t total, uint64_t available, uint64_t used,
              v1csi::NodeGetVolumeStatsResponse* response) {
  v1csi::VolumeUsage* usage = response->add_usage();
  usage->set_unit(unit);
  usage->set_total(static_cast<int64_t>(total));
  usage->set_available(static_cast<int64_t>(available));
  usage->set_used(static_cast<int64_t>(used));
}

// Without opening it: the kernel may look for partitions then, and wait for whoever serves the device.
absl::StatusOr<uint64_t> BytesOfDevice(const std::string& device) {
  struct stat info;
  uint64_t sectors = 0;
  if (::stat(device.c_str(), &info) == 0) {
    std::ifstream file(absl::StrCat("/sys/dev/block/", major(info.st_rdev), ":", minor(info.st_rdev), "/size"));
    if (file >> sectors) return sectors * 512;
  }
  return absl::InternalError(absl::StrCat("cannot ask the kernel for the size of ", device));
}

absl::Status FileSystemUsage(const std::string& path, v1csi::NodeGetVolumeStatsResponse* response) {
  struct statvfs info;
  if (::statvfs(path.c_str(), &info) != 0) {
    return absl::InternalError(absl::StrCat("the file system at ", path, " does not answer: ", std::strerror(errno)));
  }
  AddUsage(v1csi::VolumeUsage::BYTES, info.f_blocks * info.f_frsize, info.f_bavail * info.f_frsize,
           (info.f_blocks - info.f_bfree) * info.f_frsize, response);
  AddUsage(v1csi::VolumeUsage::INODES, info.f_files, info.f_favail, info.f_files - info.f_ffree, response);
  return absl::OkStatus();
}

absl::Status NotAt(const std::string& id, const std::string& path) {
  return absl::NotFoundError(absl::StrCat("volume ", id.substr(0, 128), " is not at ", path.substr(0, 256)));
}

// NOT_FOUND, as the conformance suites want: no volume is at a path that is none of ours to give, such as "some/path".
absl::Status CheckVolumePath(const std::string& id, const std::string& path) {
  RETURN_IF_ERROR(CheckGiven("volume_path", path));
  return CheckPath("volume_path", path).ok() ? absl::OkStatus() : NotAt(id, path);
}

}  // namespace

grpc::Status Node::NodePublishVolume(Context* context, const v1csi::NodePublishVolumeRequest* request,
                                     v1csi::NodePublishVolumeResponse*) {
  return Answer(Kind::kChange, "NodePublishVolume", request->volume_id(), Publish(*request, DeadlineOf(*context)));
}

absl::Status Node::Publish(const v1csi::NodePublishVolumeRequest& request, absl::Time deadline) {
  const std::string& id = request.volume_id();
  RETURN_IF_ERROR(CheckGiven("volume_id", id));
  RETURN_IF_ERROR(CheckPath("target_path", request.target_path()));
  if (!request.has_volume_capability()) return CheckGiven("volume_capability", "");
  if (request.staging_target_path().empty()) {
    return absl::FailedPreconditionError("staging_target_path is missing: a volume is staged before it is published");
  }
  RETURN_IF_ERROR(CheckPath("staging_target_path", request.staging_target_path()));
  ASSIGN_OR_RETURN(const Wanted wanted, Understand(id, request.staging_target_path(), request.volume_capability(),
                                                   request.publish_context()));
  ASSIGN_OR_RETURN(const Operations::Held held, operations_.Begin(id));
  ASSIGN_OR_RETURN(const std::optional<Staged> staged, FindStaged(id));
  ASSIGN_OR_RETURN(const std::vector<Mount> mounts, ReadMounts());
  const std::optional<Mount> at_staging = MountAt(mounts, wanted.staging);
  if (!staged.has_value() || (!staged->block() && (!at_staging.has_value() || at_staging->device != staged->number))) {
    RETURN_IF_ERROR(FindVolume(id, deadline).status());
    return absl::FailedPreconditionError(absl::StrCat("volume ", id, " is not staged at ", wanted.staging));
  }
  const std::string target = CanonicalPath(request.target_path());
  const bool read_only = request.readonly() || wanted.read_only_device;
  ASSIGN_OR_RETURN(const bool published, IsPublished(wanted, *staged, target, read_only, mounts));
  if (!published) {
    if (staged->device.note != wanted.note) {
      return absl::FailedPreconditionError(
          absl::StrCat("volume ", id, " is staged with another capability, or at another path"));
    }
    RETURN_IF_ERROR(Show(wanted, *staged, target, read_only, deadline));
  }
  if (wanted.use.mount_group.empty() || read_only) return absl::OkStatus();
  return GiveToGroup(target, wanted.use.mount_group);
}

absl::StatusOr<bool> Node::IsPublished(const Wanted& wanted, const Staged& staged, const std::string& target,
                                       bool read_only, const std::vector<Mount>& mounts) {
  const std::optional<Mount> there = MountAt(mounts, target);
  if (there.has_value()) {
    if (Shows(*there, staged.device, staged.number) && there->read_only == read_only &&
        staged.device.note == wanted.note) {
      return true;
    }
    return absl::AlreadyExistsError(absl::StrCat(target, " shows this volume otherwise, or something else"));
  }
  if (wanted.use.many_paths()) return false;
  for (const Mount& mount : mounts) {
    if (mount.mount_point != wanted.staging && Shows(mount, staged.device, staged.number)) {
      return absl::FailedPreconditionError(absl::StrCat(
          "volume ", wanted.volume, " is published at ", mount.mount_point, ", and its access mode allows one path"));
    }
  }
  return false;
}

absl::Status Node::RemoveTwinIfUnused(const std::string& twin, absl::Time deadline) {
  struct stat info;
  if (::stat(twin.c_str(), &info) != 0) return absl::OkStatus();
  ASSIGN_OR_RETURN(const std::vector<Mount> mounts, ReadMounts());
  for (const Mount& mount : mounts) {
    if (Shows(mount, AttachedDevice{twin, "", true}, info.st_rdev)) return absl::OkStatus();
  }
  return RemoveLoopDevice(twin, deadline);
}

absl::Status Node::Show(const Wanted& wanted, const Staged& staged, const std::string& target, bool read_only,
                        absl::Time deadline) {
  std::string source = wanted.staging;
  if (wanted.use.block) {
    source = staged.device.path;
    // A bind mount of a node that is read-only does not keep anybody from writing to the device.
    if (read_only && !wanted.read_only_device) {
      ASSIGN_OR_RETURN(source, ReadOnlyTwin(staged.device.path, deadline));
    }
  }
  bool made = false;
  absl::Status shown = MakeMountPoint(target, !wanted.use.block, &made);
  if (shown.ok()) shown = BindMount(source, target, read_only);
  if (shown.ok()) return shown;
  absl::Status undone = made ? RemoveMountPoint(target) : absl::OkStatus();
  // A twin that another path uses stays.
  if (wanted.use.block && source != staged.device.path) undone.Update(RemoveTwinIfUnused(source, deadline));
  if (!undone.ok()) LOG(WARNING) << "volume=" << wanted.volume << " remains of a failed NodePublishVolume: " << undone;
  return shown;
}

grpc::Status Node::NodeUnpublishVolume(Context* context, const v1csi::NodeUnpublishVolumeRequest* request,
                                       v1csi::NodeUnpublishVolumeResponse*) {
  return Answer(Kind::kChange, "NodeUnpublishVolume", request->volume_id(),
                Unpublish(request->volume_id(), request->target_path(), DeadlineOf(*context)));
}

absl::Status Node::Unpublish(const std::string& id, const std::string& path, absl::Time deadline) {
  RETURN_IF_ERROR(CheckGiven("volume_id", id));
  RETURN_IF_ERROR(CheckPath("target_path", path));
  ASSIGN_OR_RETURN(const Operations::Held held, operations_.Begin(id));
  const std::string target = CanonicalPath(path);
  RETURN_IF_ERROR(UnmountAll(target));
  RETURN_IF_ERROR(RemoveMountPoint(target));
  ASSIGN_OR_RETURN(const std::optional<Staged> staged, FindStaged(id));
  if (!staged.has_value()) return absl::OkStatus();
  for (const std::string& twin : LoopDevicesOn(staged->device.path)) {
    RETURN_IF_ERROR(RemoveTwinIfUnused(twin, deadline));
  }
  return absl::OkStatus();
}

// --- growing ---

grpc::Status Node::NodeExpandVolume(Context* context, const v1csi::NodeExpandVolumeRequest* request,
                                    v1csi::NodeExpandVolumeResponse* response) {
  return Answer(Kind::kChange, "NodeExpandVolume", request->volume_id(),
                Expand(*request, DeadlineOf(*context), response));
}

absl::Status Node::Expand(const v1csi::NodeExpandVolumeRequest& request, absl::Time deadline,
                          v1csi::NodeExpandVolumeResponse* response) {
  const std::string& id = request.volume_id();
  RETURN_IF_ERROR(CheckGiven("volume_id", id));
  RETURN_IF_ERROR(CheckVolumePath(id, request.volume_path()));
  ASSIGN_OR_RETURN(const Operations::Held held, operations_.Begin(id));
  ASSIGN_OR_RETURN(const std::optional<Staged> staged, FindStaged(id));
  ASSIGN_OR_RETURN(const std::vector<Mount> mounts, ReadMounts());
  const std::optional<Mount> mount = MountAt(mounts, CanonicalPath(request.volume_path()));
  // A block volume that is staged is nowhere to be seen yet.
  const bool unseen = staged.has_value() && staged->block() && IsNoteOf(staged->device.note, CanonicalPath(request.volume_path()));
  if (!staged.has_value() || (!unseen && (!mount.has_value() || !Shows(*mount, staged->device, staged->number)))) {
    return NotAt(id, request.volume_path());
  }
  RETURN_IF_ERROR(attach_->Resize(id, deadline));
  for (const std::string& twin : LoopDevicesOn(staged->device.path)) {
    RETURN_IF_ERROR(RunOrFail({"losetup", "-c", twin}, deadline).status());
  }
  ASSIGN_OR_RETURN(uint64_t bytes, BytesOfDevice(staged->device.path));
  const uint64_t required = static_cast<uint64_t>(std::max<int64_t>(0, request.capacity_range().required_bytes()));
  if (bytes < required) {
    return absl::OutOfRangeError(absl::StrCat("volume ", id, " has ", bytes, " bytes: ControllerExpandVolume comes first"));
  }
  if (!staged->block() && mount->read_only_super) {
    ASSIGN_OR_RETURN(const uint64_t used,
                     FileSystemBytes(staged->device.path, mount->mount_point, mount->fs_type, deadline));
    if (used < (required > 0 ? required : bytes)) {
      return absl::FailedPreconditionError(absl::StrCat("volume ", id, " is mounted read-only: its file system cannot grow"));
    }
    bytes = used;
  } else if (!staged->block()) {
    RETURN_IF_ERROR(GrowFileSystem(staged->device.path, mount->mount_point, mount->fs_type, deadline));
  }
  response->set_capacity_bytes(static_cast<int64_t>(bytes));
  return absl::OkStatus();
}

// --- statistics ---

grpc::Status Node::NodeGetVolumeStats(Context* context, const v1csi::NodeGetVolumeStatsRequest* request,
                                      v1csi::NodeGetVolumeStatsResponse* response) {
  return Answer(Kind::kQuestion, "NodeGetVolumeStats", request->volume_id(),
                Stats(request->volume_id(), request->volume_path(), DeadlineOf(*context), response));
}

absl::Status Node::Stats(const std::string& id, const std::string& path, absl::Time deadline,
                         v1csi::NodeGetVolumeStatsResponse* response) {
  RETURN_IF_ERROR(CheckGiven("volume_id", id));
  RETURN_IF_ERROR(CheckVolumePath(id, path));
  ASSIGN_OR_RETURN(const std::optional<Staged> staged, FindStaged(id));
  ASSIGN_OR_RETURN(const std::vector<Mount> mounts, ReadMounts());
  const std::optional<Mount> mount = MountAt(mounts, CanonicalPath(path));
  if (!staged.has_value() || !mount.has_value() || !Shows(*mount, staged->device, staged->number)) {
    return NotAt(id, path);
  }
  *response->mutable_volume_condition() = Condition(id, *staged, *mount, deadline);
  if (staged->block()) {
    ASSIGN_OR_RETURN(const uint64_t bytes, BytesOfDevice(staged->device.path));
    AddUsage(v1csi::VolumeUsage::BYTES, bytes, 0, 0, response);
    return absl::OkStatus();
  }
  return FileSystemUsage(mount->mount_point, response);
}

v1csi::VolumeCondition Node::Condition(const std::string& id, const Staged& staged, const Mount& mount,
                                       absl::Time deadline) {
  v1csi::VolumeCondition condition;
  condition.set_abnormal(true);
  if (!staged.device.serves) {
    // So that those who wait for an answer get an error, and can be ended: else NodeUnstageVolume, which sees to that, would
    // never be called. Where the device's own node is published the number is not to become another volume's.
    const absl::Status failed = staged.block() ? attach_->Refuse(id, deadline) : attach_->Fail(id);
    if (!failed.ok()) LOG(WARNING) << "volume=" << id << " requests may wait for ever: " << failed;
    condition.set_message("what serves the device on this node is gone: every request fails until it is staged anew");
    return condition;
  }
  if (!staged.block() && mount.read_only_super && !mount.read_only) {
    condition.set_message("the file system has gone read-only after an error; see the kernel's log");
    return condition;
  }
  const absl::StatusOr<v1::Volume> volume =
      frontends_->GetVolume(id, std::min(deadline, absl::Now() + kConditionMax));
  if (volume.ok()) return ConditionOf(*volume);
  condition.set_message(absl::StrCat("the frontend does not answer, requests may wait: ", volume.status().message()));
  return condition;
}

}  // namespace weir::csi
