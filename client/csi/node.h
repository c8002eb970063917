// CSI's Node service: a volume becomes a device, a mounted file system, and shows up where its users want it.
//
// It keeps nothing: what is staged and published is what the mount table and the attach say. So a driver that is
// started again goes on where the last one was, and every call may be repeated.
//
//   staged, block:     the device is attached
//   staged, mount:     ... and its file system mounted at the staging path
//   published, block:  the device's node is bind-mounted on a file at the target path
//   published, mount:  the staging path is bind-mounted on a folder there
#ifndef WEIR_CLIENT_CSI_NODE_H_
#define WEIR_CLIENT_CSI_NODE_H_

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/csi/attach.h"
#include "client/csi/frontends.h"
#include "client/csi/mounts.h"
#include "client/csi/operations.h"
#include "client/csi/use.h"
#include "csi/v1/csi.grpc.pb.h"
#include "weir/v1/volume.pb.h"

namespace weir::csi {

// Thread-safety: safe. `frontends` and `attach` outlive it.
class Node final : public v1csi::Node::Service {
 public:
  // `node`: this node's name, which is its frontend's. `volumes_max` 0: no limit.
  Node(std::string node, int64_t volumes_max, Frontends* frontends, BlockAttach* attach)
      : node_(std::move(node)), volumes_max_(volumes_max), frontends_(frontends), attach_(attach) {}

  using Context = grpc::ServerContext;

  grpc::Status NodeGetCapabilities(Context* context, const v1csi::NodeGetCapabilitiesRequest* request,
                                   v1csi::NodeGetCapabilitiesResponse* response) override;
  grpc::Status NodeGetInfo(Context* context, const v1csi::NodeGetInfoRequest* request,
                           v1csi::NodeGetInfoResponse* response) override;
  grpc::Status NodeStageVolume(Context* context, const v1csi::NodeStageVolumeRequest* request,
                               v1csi::NodeStageVolumeResponse* response) override;
  grpc::Status NodeUnstageVolume(Context* context, const v1csi::NodeUnstageVolumeRequest* request,
                                 v1csi::NodeUnstageVolumeResponse* response) override;
  grpc::Status NodePublishVolume(Context* context, const v1csi::NodePublishVolumeRequest* request,
                                 v1csi::NodePublishVolumeResponse* response) override;
  grpc::Status NodeUnpublishVolume(Context* context, const v1csi::NodeUnpublishVolumeRequest* request,
                                   v1csi::NodeUnpublishVolumeResponse* response) override;
  grpc::Status NodeExpandVolume(Context* context, const v1csi::NodeExpandVolumeRequest* request,
                                v1csi::NodeExpandVolumeResponse* response) override;
  grpc::Status NodeGetVolumeStats(Context* context, const v1csi::NodeGetVolumeStatsRequest* request,
                                  v1csi::NodeGetVolumeStatsResponse* response) override;

 private:
  // A device that is attached, as the mount table shows it.
  struct Staged {
    AttachedDevice device;
    dev_t number = 0;
    bool block() const { return device.note[0] == 'b'; }
  };
  // What a call asks for, understood.
  struct Wanted {
    std::string volume;
    std::string staging;  // canonical
    Use use;
    bool read_only_device = false;  // the controller has published it so
    std::string note;
    std::string mkfs_options;
    absl::Duration hold = BlockAttach::Request().hold;
  };

  absl::Status Info(absl::Time deadline, v1csi::NodeGetInfoResponse* response);
  // NOT_FOUND.
  absl::StatusOr<v1::Volume> FindVolume(const std::string& id, absl::Time deadline);
  absl::StatusOr<std::optional<Staged>> FindStaged(const std::string& id);

  // node_stage.cc
  static absl::StatusOr<Wanted> Understand(const std::string& id, const std::string& staging,
                                           const v1csi::VolumeCapability& capability,
                                           const google::protobuf::Map<std::string, std::string>& publish_context);
  absl::Status Stage(const v1csi::NodeStageVolumeRequest& request, absl::Time deadline);
  absl::StatusOr<AttachedDevice> AttachFor(const Wanted& wanted, absl::Time deadline);
  absl::Status StageFileSystem(const Wanted& wanted, const std::string& device, absl::Time deadline);
  absl::Status Unstage(const std::string& id, const std::string& staging, absl::Time deadline);
  // The file system.
  absl::Status UnmountStaged(const std::string& id, const std::string& staging);

  // node_publish.cc
  absl::Status Publish(const v1csi::NodePublishVolumeRequest& request, absl::Time deadline);
  // What is at the target already: OK and true, it is published so; ALREADY_EXISTS: otherwise.
  static absl::StatusOr<bool> IsPublished(const Wanted& wanted, const Staged& staged, const std::string& target,
                                          bool read_only, const std::vector<Mount>& mounts);
  absl::Status Show(const Wanted& wanted, const Staged& staged, const std::string& target, bool read_only,
                    absl::Time deadline);
  // Other paths may show it too; then it stays.
  static absl::Status RemoveTwinIfUnused(const std::string& twin, absl::Time deadline);
  absl::Status Unpublish(const std::string& id, const std::string& path, absl::Time deadline);
  absl::Status Expand(const v1csi::NodeExpandVolumeRequest& request, absl::Time deadline,
                      v1csi::NodeExpandVolumeResponse* response);
  absl::Status Stats(const std::string& id, const std::string& path, absl::Time deadline,
                     v1csi::NodeGetVolumeStatsResponse* response);
  v1csi::VolumeCondition Condition(const std::string& id, const Staged& staged, const Mount& mount,
                                   absl::Time deadline);

  const std::string node_;
  const int64_t volumes_max_;
  Frontends* const frontends_;
  BlockAttach* const attach_;
  Operations operations_;  // by volume
};

// What `path` is, by the mount table's spelling: its folder without links. The path itself need not be there.
std::string CanonicalPath(const std::string& path);

// Whether a mount shows this device: its file system, or the node of it, or of a loop device that stands on it.
bool Shows(const Mount& mount, const AttachedDevice& device, dev_t number);

// What says for what a device is attached: 'b' or 'm', where it is staged, and how.
std::string NoteOf(const std::string& staging, const Use& use, bool read_only_device);
// Whether it is for this staging path.
bool IsNoteOf(const std::string& note, const std::string& staging);

}  // namespace weir::csi

#endif  // WEIR_CLIENT_CSI_NODE_H_
