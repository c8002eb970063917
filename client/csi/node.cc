#include "client/csi/node.h"

#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <filesystem>

#include "absl/strings/str_cat.h"
#include "client/csi/answer.h"
#include "client/csi/loop_device.h"
#include "client/csi/names.h"
#include "proto/base/status_macros.h"

namespace weir::csi {
namespace {

constexpr size_t kPathDigits = 16;
constexpr size_t kUseDigits = 32;

dev_t NumberOf(const std::string& device) {
  struct stat info;
  return ::stat(device.c_str(), &info) == 0 ? info.st_rdev : 0;
}

std::string PathDigits(const std::string& staging) { return Sha256Hex(staging).substr(0, kPathDigits); }

}  // namespace

std::string CanonicalPath(const std::string& path) {
  const std::filesystem::path plain = std::filesystem::path(path).lexically_normal();
  const std::filesystem::path leaf = plain.has_filename() ? plain : plain.parent_path();
  char resolved[PATH_MAX];
  if (::realpath(leaf.parent_path().c_str(), resolved) == nullptr) return leaf.string();
  return (std::filesystem::path(resolved) / leaf.filename()).string();
}

bool Shows(const Mount& mount, const AttachedDevice& device, dev_t number) {
  if (mount.device == number) return true;
  // A bind mount of a device's node: the file system is that of /dev, and what is seen is the node. No other
  // file system is looked at, since one may be a network's that hangs.
  struct stat info;
  if (mount.root == "/" || (mount.fs_type != "devtmpfs" && mount.fs_type != "tmpfs") || ::stat(mount.mount_point.c_str(), &info) != 0 || !S_ISBLK(info.st_mode)) return false;
  if (info.st_rdev == number) return true;
  for (const std::string& twin : LoopDevicesOn(device.path)) {
    if (NumberOf(twin) == info.st_rdev) return true;
  }
  return false;
}

std::string NoteOf(const std::string& staging, const Use& use, bool read_only_device) {
  // Of the group nothing: users of one volume may want different ones.
  Use without_group = use;
  without_group.mount_group.clear();
  const std::string text = absl::StrCat(without_group.ToText(), read_only_device ? " ro" : " rw");
  return absl::StrCat(use.block ? "b" : "m", PathDigits(staging), Sha256Hex(text).substr(0, kUseDigits));
}

bool IsNoteOf(const std::string& note, const std::string& staging) {
  return note.size() == 1 + kPathDigits + kUseDigits && note.compare(1, kPathDigits, PathDigits(staging)) == 0;
}

grpc::Status Node::NodeGetCapabilities(Context*, const v1csi::NodeGetCapabilitiesRequest*,
                                       v1csi::NodeGetCapabilitiesResponse* response) {
  using Rpc = v1csi::NodeServiceCapability::RPC;
  for (const auto type : {Rpc::STAGE_UNSTAGE_VOLUME, Rpc::GET_VOLUME_STATS, Rpc::VOLUME_CONDITION,
                          Rpc::SINGLE_NODE_MULTI_WRITER, Rpc::VOLUME_MOUNT_GROUP,
                          Rpc::EXPAND_VOLUME}) {
    response->add_capabilities()->mutable_rpc()->set_type(type);
  }
  return grpc::Status::OK;
}

grpc::Status Node::NodeGetInfo(Context* context, const v1csi::NodeGetInfoRequest*,
                               v1csi::NodeGetInfoResponse* response) {
  return Answer(Kind::kQuestion, "NodeGetInfo", "", Info(DeadlineOf(*context), response));
}

absl::Status Node::Info(absl::Time deadline, v1csi::NodeGetInfoResponse* response) {
  ASSIGN_OR_RETURN(const v1::FrontendSummary frontend, frontends_->OfNode(node_, deadline));
  response->set_node_id(node_);
  response->set_max_volumes_per_node(volumes_max_);
  for (const auto& [key, value] : PlaceOf(frontend)) {
    (*response->mutable_accessible_topology()->mutable_segments())[key] = value;
  }
  return absl::OkStatus();
}

absl::StatusOr<v1::Volume> Node::FindVolume(const std::string& id, absl::Time deadline) {
  if (!IsVolumeName(id)) return absl::NotFoundError(absl::StrCat("there is no volume '", id.substr(0, 128), "'"));
  return frontends_->GetVolume(id, deadline);
}

absl::StatusOr<std::optional<Node::Staged>> Node::FindStaged(const std::string& id) {
  // Else it could lead out of the folder in which the attach looks.
  if (!IsVolumeName(id)) return std::optional<Staged>();
  ASSIGN_OR_RETURN(std::optional<AttachedDevice> device, attach_->Find(id));
  if (!device.has_value() || device->note.empty()) return std::optional<Staged>();
  Staged staged;
  staged.number = NumberOf(device->path);
  staged.device = *std::move(device);
  return std::optional<Staged>(std::move(staged));
}

}  // namespace weir::csi
