#include "client/csi/use.h"

#include <cstdint>

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "proto/base/status_macros.h"

namespace weir::csi {
namespace {

using AccessMode = v1csi::VolumeCapability::AccessMode;

constexpr size_t kFlagBytesMax = 4096;
constexpr char kDefaultFileSystem[] = "ext4";

absl::Status CheckMode(AccessMode::Mode mode) {
  switch (mode) {
    case AccessMode::SINGLE_NODE_WRITER:
    case AccessMode::SINGLE_NODE_READER_ONLY:
    case AccessMode::SINGLE_NODE_SINGLE_WRITER:
    case AccessMode::SINGLE_NODE_MULTI_WRITER:
      return absl::OkStatus();
    case AccessMode::UNKNOWN:
      return absl::InvalidArgumentError("the capability's access mode is missing");
    case AccessMode::MULTI_NODE_READER_ONLY:
    case AccessMode::MULTI_NODE_SINGLE_WRITER:
    case AccessMode::MULTI_NODE_MULTI_WRITER:
      return absl::UnimplementedError(absl::StrCat(
          "access mode ", AccessMode::Mode_Name(mode), ": a volume is used on one node at a time"));
    default:
      return absl::InvalidArgumentError("the capability's access mode is not known");
  }
}

absl::Status ReadMount(const v1csi::VolumeCapability::MountVolume& mount, Use* use) {
  use->fs_type = mount.fs_type().empty() ? kDefaultFileSystem : mount.fs_type();
  size_t bytes = 0;
  for (const std::string& flag : mount.mount_flags()) {
    bytes += flag.size();
    if (flag.empty() || flag.find('\0') != std::string::npos) {
      return absl::InvalidArgumentError("a mount flag is empty, or has a zero byte in it");
    }
    use->mount_flags.push_back(flag);
  }
  if (bytes > kFlagBytesMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("mount flags of ", bytes, " bytes; at most ", kFlagBytesMax));
  }
  use->mount_group = mount.volume_mount_group();
  uint32_t group = 0;
  if (!use->mount_group.empty() && !absl::SimpleAtoi(use->mount_group, &group)) {
    return absl::InvalidArgumentError("volume_mount_group must be a group's number");
  }
  if (use->fs_type != "ext4" && use->fs_type != "xfs") {
    return absl::UnimplementedError(absl::StrCat("file system '", absl::CHexEscape(use->fs_type.substr(0, 32)),
                                                 "': there are ext4 and xfs"));
  }
  return absl::OkStatus();
}

}  // namespace

bool Use::reads_only() const { return mode == AccessMode::SINGLE_NODE_READER_ONLY; }

bool Use::many_paths() const { return mode == AccessMode::SINGLE_NODE_MULTI_WRITER; }

std::string Use::kind() const { return block ? "block" : absl::StrCat("mount ", fs_type); }

std::string Use::ToText() const {
  std::string text = absl::StrCat(kind(), " ", AccessMode::Mode_Name(mode), " group=", mount_group);
  // A flag may hold anything, a comma too.
  for (const std::string& flag : mount_flags) absl::StrAppend(&text, " ", flag.size(), ":", flag);
  return text;
}

absl::StatusOr<Use> UseOf(const v1csi::VolumeCapability& capability) {
  Use use;
  if (!capability.has_access_mode()) return CheckMode(AccessMode::UNKNOWN);
  if (!capability.has_block() && !capability.has_mount()) {
    return absl::InvalidArgumentError("the capability's access type, block or mount, is missing");
  }
  use.mode = capability.access_mode().mode();
  use.block = capability.has_block();
  // What is incomplete comes before what cannot be done.
  const absl::Status mode = CheckMode(use.mode);
  if (absl::IsInvalidArgument(mode)) return mode;
  if (!use.block) RETURN_IF_ERROR(ReadMount(capability.mount(), &use));
  RETURN_IF_ERROR(mode);
  return use;
}

absl::StatusOr<std::vector<Use>> UsesOf(
    const google::protobuf::RepeatedPtrField<v1csi::VolumeCapability>& capabilities) {
  if (capabilities.empty()) return absl::InvalidArgumentError("volume_capabilities are missing");
  std::vector<Use> uses;
  for (const v1csi::VolumeCapability& capability : capabilities) {
    absl::StatusOr<Use> use = UseOf(capability);
    if (!use.ok()) return absl::InvalidArgumentError(use.status().message());
    uses.push_back(*std::move(use));
  }
  return uses;
}

}  // namespace weir::csi
