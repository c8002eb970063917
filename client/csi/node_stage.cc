// Node's staging: the device, and the file system on it.
#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/csi/answer.h"
#include "client/csi/file_system.h"
#include "client/csi/loop_device.h"
#include "client/csi/names.h"
#include "client/csi/node.h"
#include "client/csi/volume_state.h"
#include "proto/base/log.h"
#include "proto/base/status_macros.h"

namespace weir::csi {
namespace {

std::string ValueOf(const google::protobuf::Map<std::string, std::string>& map, const char* key) {
  const auto found = map.find(key);
  return found == map.end() ? "" : found->second;
}

bool IsFolder(const std::string& path) {
  struct stat info;
  return ::stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode);
}

// As long as its frontend holds requests; the kernel wants a number for "for ever".
absl::Duration HoldOf(const v1::Volume& volume) {
  if (!volume.has_hold_deadline_s()) return BlockAttach::Request().hold;
  return volume.hold_deadline_s() == 0 ? absl::Hours(24 * 365) : absl::Seconds(volume.hold_deadline_s());
}

// The first mount of the device, if there is one.
absl::StatusOr<std::optional<Mount>> AnyMountOf(const AttachedDevice& device, dev_t number) {
  ASSIGN_OR_RETURN(const std::vector<Mount> mounts, ReadMounts());
  for (const Mount& mount : mounts) {
    if (Shows(mount, device, number)) return std::optional<Mount>(mount);
  }
  return std::optional<Mount>();
}

}  // namespace

absl::StatusOr<Node::Wanted> Node::Understand(
    const std::string& id, const std::string& staging, const v1csi::VolumeCapability& capability,
    const google::protobuf::Map<std::string, std::string>& publish_context) {
  absl::StatusOr<Use> use = UseOf(capability);
  if (absl::IsUnimplemented(use.status())) return absl::FailedPreconditionError(use.status().message());
  RETURN_IF_ERROR(use.status());
  Wanted wanted;
  wanted.volume = id;
  wanted.staging = CanonicalPath(staging);
  wanted.use = *std::move(use);
  wanted.read_only_device = wanted.use.reads_only() || ValueOf(publish_context, kReadOnlyContextKey) == "true";
  wanted.note = NoteOf(wanted.staging, wanted.use, wanted.read_only_device);
  return wanted;
}

grpc::Status Node::NodeStageVolume(Context* context, const v1csi::NodeStageVolumeRequest* request,
                                   v1csi::NodeStageVolumeResponse*) {
  return Answer(Kind::kChange, "NodeStageVolume", request->volume_id(), Stage(*request, DeadlineOf(*context)));
}

absl::Status Node::Stage(const v1csi::NodeStageVolumeRequest& request, absl::Time deadline) {
  const std::string& id = request.volume_id();
  RETURN_IF_ERROR(CheckGiven("volume_id", id));
  RETURN_IF_ERROR(CheckPath("staging_target_path", request.staging_target_path()));
  if (!request.has_volume_capability()) return CheckGiven("volume_capability", "");
  ASSIGN_OR_RETURN(Wanted wanted, Understand(id, request.staging_target_path(), request.volume_capability(),
                                             request.publish_context()));
  wanted.mkfs_options = ValueOf(request.volume_context(), kMkfsContextKey);
  ASSIGN_OR_RETURN(const Operations::Held held, operations_.Begin(id));
  ASSIGN_OR_RETURN(const v1::Volume volume, FindVolume(id, deadline));
  if (AttributeOf(volume, kNodeAttribute) != node_) {
    return absl::FailedPreconditionError(absl::StrCat("volume ", id, " is not published to this node, ", node_));
  }
  if (!IsFolder(wanted.staging)) {
    return absl::FailedPreconditionError(absl::StrCat("there is no folder at the staging path ", wanted.staging));
  }
  wanted.hold = HoldOf(volume);
  ASSIGN_OR_RETURN(const AttachedDevice device, AttachFor(wanted, deadline));
  if (wanted.use.block) return absl::OkStatus();
  const absl::Status staged = StageFileSystem(wanted, device.path, deadline);
  if (staged.ok()) return absl::OkStatus();
  // Nothing half-made stays: the caller may come again with other words, or not at all.
  absl::Status undone = UnmountStaged(id, wanted.staging);
  if (undone.ok()) undone = attach_->Detach(id, absl::InfiniteFuture());
  if (!undone.ok()) LOG(WARNING) << "volume=" << id << " remains of a failed NodeStageVolume: " << undone;
  return staged;
}

absl::StatusOr<AttachedDevice> Node::AttachFor(const Wanted& wanted, absl::Time deadline) {
  const std::string& id = wanted.volume;
  ASSIGN_OR_RETURN(const std::optional<Staged> staged, FindStaged(id));
  if (staged.has_value()) {
    const AttachedDevice& device = staged->device;
    if (device.note == wanted.note && device.serves) {
      // A driver that was killed in the middle of NodeUnstageVolume may have told it to end.
      const absl::Status kept = attach_->Keep(id);
      if (kept.ok()) return device;
      LOG(WARNING) << "volume=" << id << " " << device.path << " is attached anew: " << kept;
    }
    ASSIGN_OR_RETURN(const std::optional<Mount> mount, AnyMountOf(device, staged->number));
    if (device.note != wanted.note && (staged->block() || mount.has_value())) {
      return absl::AlreadyExistsError(absl::StrCat("volume ", id, " is staged at another path, or with another capability"));
    }
    if (mount.has_value() && mount->mount_point != wanted.staging) {
      return absl::FailedPreconditionError(absl::StrCat(
          "what served volume ", id, " on this node is gone, and ", mount->mount_point, " still shows it: unpublish it first"));
    }
    RETURN_IF_ERROR(UnmountStaged(id, wanted.staging));
  }
  // Remains of a call that was cut off, if there are any.
  RETURN_IF_ERROR(attach_->Detach(id, deadline));
  ASSIGN_OR_RETURN(const v1::FrontendSummary frontend, frontends_->OfNode(node_, deadline));
  return attach_->Attach({id, frontend.address(), wanted.note, wanted.read_only_device, wanted.hold}, deadline);
}

absl::Status Node::StageFileSystem(const Wanted& wanted, const std::string& device, absl::Time deadline) {
  struct stat info;
  ASSIGN_OR_RETURN(const std::vector<Mount> mounts, ReadMounts());
  const std::optional<Mount> mount = MountAt(mounts, wanted.staging);
  if (mount.has_value()) {
    if (::stat(device.c_str(), &info) == 0 && mount->device == info.st_rdev) return absl::OkStatus();
    return absl::FailedPreconditionError(absl::StrCat("something else is mounted at ", wanted.staging));
  }
  ASSIGN_OR_RETURN(const std::string content, ContentOf(device, deadline));
  if (content.empty()) {
    if (wanted.read_only_device) {
      return absl::FailedPreconditionError(
          absl::StrCat("volume ", wanted.volume, " is empty, and read-only here: it cannot be formatted"));
    }
    RETURN_IF_ERROR(Format(device, wanted.use.fs_type, wanted.mkfs_options, deadline));
  } else if (content != wanted.use.fs_type) {
    return absl::FailedPreconditionError(
        absl::StrCat("volume ", wanted.volume, " holds ", content, ", not ", wanted.use.fs_type, "; it is left as it is"));
  } else if (!wanted.read_only_device) {
    RETURN_IF_ERROR(CheckFileSystem(device, wanted.use.fs_type, deadline));
  }
  const auto mount_it = [&] {
    return MountFileSystem(device, wanted.staging, wanted.use.fs_type, wanted.use.mount_flags, wanted.read_only_device,
                           deadline);
  };
  RETURN_IF_ERROR(mount_it());
  if (wanted.read_only_device) return absl::OkStatus();
  // The volume may have grown while it was not mounted, or was made from a smaller one.
  absl::Status grown = GrowFileSystem(device, wanted.staging, wanted.use.fs_type, deadline);
  if (!grown.ok()) {
    // So that the next call, too, finds that there is something to do.
    RETURN_IF_ERROR(UnmountAll(wanted.staging));
    if (!absl::IsFailedPrecondition(grown)) return grown;
    RETURN_IF_ERROR(GrowUnmounted(device, deadline));
    RETURN_IF_ERROR(mount_it());
  }
  if (wanted.use.mount_group.empty()) return absl::OkStatus();
  return GiveToGroup(wanted.staging, wanted.use.mount_group);
}

grpc::Status Node::NodeUnstageVolume(Context* context, const v1csi::NodeUnstageVolumeRequest* request,
                                     v1csi::NodeUnstageVolumeResponse*) {
  return Answer(Kind::kChange, "NodeUnstageVolume", request->volume_id(),
                Unstage(request->volume_id(), request->staging_target_path(), DeadlineOf(*context)));
}

absl::Status Node::Unstage(const std::string& id, const std::string& path, absl::Time deadline) {
  RETURN_IF_ERROR(CheckGiven("volume_id", id));
  RETURN_IF_ERROR(CheckPath("staging_target_path", path));
  if (!IsVolumeName(id)) return absl::OkStatus();  // never staged
  ASSIGN_OR_RETURN(const Operations::Held held, operations_.Begin(id));
  const std::string staging = CanonicalPath(path);
  ASSIGN_OR_RETURN(const std::optional<Staged> staged, FindStaged(id));
  if (staged.has_value()) {
    if (!IsNoteOf(staged->device.note, staging)) return absl::OkStatus();  // it is staged elsewhere
    ASSIGN_OR_RETURN(const std::vector<Mount> mounts, ReadMounts());
    for (const Mount& mount : mounts) {
      if (mount.mount_point != staging && Shows(mount, staged->device, staged->number)) {
        return absl::FailedPreconditionError(
            absl::StrCat("volume ", id, " is still published at ", mount.mount_point));
      }
    }
    if (!staged->block()) RETURN_IF_ERROR(UnmountStaged(id, staging));
    // Only block volumes have such; of what has failed the number may be another volume's by now.
    const std::vector<std::string> twins = staged->block() ? LoopDevicesOn(staged->device.path) : std::vector<std::string>();
    for (const std::string& twin : twins) RETURN_IF_ERROR(RemoveLoopDevice(twin, deadline));
  }
  return attach_->Detach(id, deadline);
}

absl::Status Node::UnmountStaged(const std::string& id, const std::string& staging) {
  // Unmounting writes, and would wait for ever where nobody answers.
  RETURN_IF_ERROR(attach_->Fail(id));
  return UnmountAll(staging);
}

}  // namespace weir::csi
