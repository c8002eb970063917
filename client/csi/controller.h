// CSI's Controller service: volumes are made, listed, published and deleted.
//
// A name of the caller's leads to one volume of Weir's (VolumeNameOf), and all that has to be known of it
// later lies in the volume's attributes. So the driver keeps nothing, any instance of it may be asked, and a
// call that was cut off is simply made again.
#ifndef WEIR_CLIENT_CSI_CONTROLLER_H_
#define WEIR_CLIENT_CSI_CONTROLLER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/csi/frontends.h"
#include "client/csi/names.h"
#include "client/csi/operations.h"
#include "client/csi/parameters.h"
#include "client/csi/use.h"
#include "csi/v1/csi.grpc.pb.h"
#include "weir/v1/volume.pb.h"

namespace weir::csi {

// Thread-safety: safe. `frontends` outlives it.
class Controller final : public v1csi::Controller::Service {
 public:
  // `volumes_max`: how many a node may have published; 0: no limit.
  Controller(Frontends* frontends, int64_t volumes_max) : frontends_(frontends), volumes_max_(volumes_max) {}

  using Context = grpc::ServerContext;

  grpc::Status ControllerGetCapabilities(Context* context, const v1csi::ControllerGetCapabilitiesRequest* request,
                                         v1csi::ControllerGetCapabilitiesResponse* response) override;
  grpc::Status CreateVolume(Context* context, const v1csi::CreateVolumeRequest* request,
                            v1csi::CreateVolumeResponse* response) override;
  grpc::Status DeleteVolume(Context* context, const v1csi::DeleteVolumeRequest* request,
                            v1csi::DeleteVolumeResponse* response) override;
  grpc::Status ControllerPublishVolume(Context* context, const v1csi::ControllerPublishVolumeRequest* request,
                                       v1csi::ControllerPublishVolumeResponse* response) override;
  grpc::Status ControllerUnpublishVolume(Context* context, const v1csi::ControllerUnpublishVolumeRequest* request,
                                         v1csi::ControllerUnpublishVolumeResponse* response) override;
  grpc::Status ValidateVolumeCapabilities(Context* context, const v1csi::ValidateVolumeCapabilitiesRequest* request,
                                          v1csi::ValidateVolumeCapabilitiesResponse* response) override;
  grpc::Status ListVolumes(Context* context, const v1csi::ListVolumesRequest* request,
                           v1csi::ListVolumesResponse* response) override;
  grpc::Status ControllerGetVolume(Context* context, const v1csi::ControllerGetVolumeRequest* request,
                                   v1csi::ControllerGetVolumeResponse* response) override;
  grpc::Status ControllerExpandVolume(Context* context, const v1csi::ControllerExpandVolumeRequest* request,
                                      v1csi::ControllerExpandVolumeResponse* response) override;
  grpc::Status CreateSnapshot(Context* context, const v1csi::CreateSnapshotRequest* request,
                              v1csi::CreateSnapshotResponse* response) override;
  grpc::Status DeleteSnapshot(Context* context, const v1csi::DeleteSnapshotRequest* request,
                              v1csi::DeleteSnapshotResponse* response) override;
  grpc::Status ListSnapshots(Context* context, const v1csi::ListSnapshotsRequest* request,
                             v1csi::ListSnapshotsResponse* response) override;
  grpc::Status GetSnapshot(Context* context, const v1csi::GetSnapshotRequest* request,
                           v1csi::GetSnapshotResponse* response) override;
  grpc::Status GetCapacity(Context* context, const v1csi::GetCapacityRequest* request,
                           v1csi::GetCapacityResponse* response) override;

 private:
  // What CreateVolume has understood of its request.
  struct Wanted {
    std::string name;  // of Weir's volume
    std::vector<Use> uses;
    Parameters parameters;
    uint64_t size_bytes = 0;
    bool begun = false;  // a creation that was cut off goes on, with the size that it has
    // What it begins as; no volume: empty. No snapshot: as the volume is then.
    SnapshotName source;
  };

  // controller.cc
  absl::StatusOr<Wanted> Understand(const v1csi::CreateVolumeRequest& request);
  absl::Status Create(const v1csi::CreateVolumeRequest& request, absl::Time deadline, v1csi::Volume* volume);
  // What is to be made can be, and will be reachable from where it is wanted.
  absl::Status CheckRoom(const v1csi::CreateVolumeRequest& request, const Parameters& parameters, uint64_t size_bytes,
                         absl::Time deadline);
  // NOT_FOUND: the source is not there. Its size, and the frontend to ask for a clone.
  struct Source {
    uint64_t size_bytes = 0;
    std::string address;
  };
  absl::StatusOr<Source> FindSource(const SnapshotName& name, absl::Time deadline);
  // Asks for the volume, as it was understood. ALREADY_EXISTS: another instance of the driver was faster.
  absl::StatusOr<v1::Volume> Make(const v1csi::CreateVolumeRequest& request, const Wanted& wanted, absl::Time deadline);
  absl::Status CheckTopology(const v1csi::TopologyRequirement& topology, absl::Time deadline);
  absl::Status Delete(const std::string& id, absl::Time deadline);
  absl::Status Validate(const v1csi::ValidateVolumeCapabilitiesRequest& request, absl::Time deadline,
                        v1csi::ValidateVolumeCapabilitiesResponse* response);
  absl::Status List(const v1csi::ListVolumesRequest& request, absl::Time deadline,
                    v1csi::ListVolumesResponse* response);
  absl::Status Get(const std::string& id, absl::Time deadline, v1csi::ControllerGetVolumeResponse* response);
  absl::Status Capacity(const v1csi::GetCapacityRequest& request, absl::Time deadline,
                        v1csi::GetCapacityResponse* response);
  // NOT_FOUND, also for what cannot be a name of a volume.
  absl::StatusOr<v1::Volume> Find(const std::string& id, absl::Time deadline);
  absl::StatusOr<std::vector<v1::Volume>> Volumes(absl::Time deadline);
  absl::StatusOr<std::vector<v1::ReplicaSummary>> Replicas(absl::Time deadline);

  // controller_publish.cc
  absl::Status Publish(const v1csi::ControllerPublishVolumeRequest& request, absl::Time deadline,
                       v1csi::ControllerPublishVolumeResponse* response);
  // Writes down that the volume is on `node`, unless another one was faster: ABORTED.
  absl::Status Claim(const std::string& id, const std::string& node, const std::string& published,
                     absl::Time deadline);
  absl::Status Unclaim(const std::string& id, const std::string& node, absl::Time deadline);
  absl::Status CheckNodeHasRoom(const std::string& node, absl::Time deadline);
  absl::Status Unpublish(const std::string& id, const std::string& node, absl::Time deadline);
  // Has the node's frontend flush and let go, if it is there; else the next one that takes the volume over will
  // fence it.
  void LetGoOnNode(const std::string& id, const std::string& node, absl::Time deadline);
  // No frontend has the volume any more. The address of the one that may delete it.
  absl::StatusOr<std::string> LetGo(const v1::Volume& volume, absl::Time deadline);

  // controller_snapshots.cc
  // By id. `volume` empty: of all.
  absl::StatusOr<std::vector<v1::Snapshot>> Snapshots(const std::string& volume, absl::Time deadline);
  absl::Status TakeSnapshot(const v1csi::CreateSnapshotRequest& request, absl::Time deadline,
                            v1csi::Snapshot* snapshot);
  absl::Status DropSnapshot(const std::string& id, absl::Time deadline);
  absl::Status ShowSnapshots(const v1csi::ListSnapshotsRequest& request, absl::Time deadline,
                             v1csi::ListSnapshotsResponse* response);
  absl::Status ShowSnapshot(const std::string& id, absl::Time deadline, v1csi::Snapshot* snapshot);

  // controller_expand.cc
  absl::Status Expand(const v1csi::ControllerExpandVolumeRequest& request, absl::Time deadline,
                      v1csi::ControllerExpandVolumeResponse* response);
  // The frontend that has the volume; any, if none has. UNAVAILABLE: that one does not answer, and a node uses it.
  absl::StatusOr<std::string> AddressFor(const v1::Volume& volume, absl::Time deadline);

  Frontends* const frontends_;
  const int64_t volumes_max_;
  Operations operations_;  // by volume
};

}  // namespace weir::csi

#endif  // WEIR_CLIENT_CSI_CONTROLLER_H_
