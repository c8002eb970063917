// Controller's growing: the volume, while it is used; the node then lets device and file system follow.
#include "absl/strings/str_cat.h"
#include "client/csi/answer.h"
#include "client/csi/controller.h"
#include "client/csi/names.h"
#include "client/csi/volume_state.h"
#include "proto/base/size.h"
#include "proto/base/status_macros.h"

namespace weir::csi {

grpc::Status Controller::ControllerExpandVolume(Context* context, const v1csi::ControllerExpandVolumeRequest* request,
                                                v1csi::ControllerExpandVolumeResponse* response) {
  return Answer(Kind::kChange, "ControllerExpandVolume", request->volume_id(),
                Expand(*request, DeadlineOf(*context), response));
}

absl::Status Controller::Expand(const v1csi::ControllerExpandVolumeRequest& request, absl::Time deadline,
                                v1csi::ControllerExpandVolumeResponse* response) {
  const std::string& id = request.volume_id();
  RETURN_IF_ERROR(CheckGiven("volume_id", id));
  if (!request.has_capacity_range()) return CheckGiven("capacity_range", "");
  if (request.has_volume_capability()) {
    const absl::StatusOr<Use> use = UseOf(request.volume_capability());
    if (!use.ok()) return absl::InvalidArgumentError(use.status().message());
  }
  ASSIGN_OR_RETURN(const uint64_t wanted, SizeFor(request.capacity_range(), {}, 0));
  ASSIGN_OR_RETURN(const Operations::Held held, operations_.Begin(id));
  ASSIGN_OR_RETURN(const v1::Volume volume, Find(id, deadline));
  RETURN_IF_ERROR(CheckNotBeingDeleted(volume));
  uint64_t size_bytes = volume.size_bytes();
  const int64_t limit = request.capacity_range().limit_bytes();
  if (limit > 0 && size_bytes > static_cast<uint64_t>(limit)) {
    return absl::OutOfRangeError(absl::StrCat("volume ", id, " has ", FormatSize(size_bytes),
                                              " already, and never becomes smaller"));
  }
  if (!IsInRange(size_bytes, request.capacity_range())) {
    ASSIGN_OR_RETURN(const std::string address, AddressFor(volume, deadline));
    v1::ExpandVolumeRequest expand;
    expand.set_name(id);
    expand.set_size_bytes(wanted);
    ASSIGN_OR_RETURN(const v1::ExpandVolumeResponse expanded,
                     frontends_->CallAt(address, &Frontends::Stub::ExpandVolume, expand, deadline));
    size_bytes = expanded.volume().size_bytes();
  }
  response->set_capacity_bytes(static_cast<int64_t>(size_bytes));
  // A device too, since it is the node's.
  response->set_node_expansion_required(true);
  return absl::OkStatus();
}

absl::StatusOr<std::string> Controller::AddressFor(const v1::Volume& volume, absl::Time deadline) {
  const std::string& owner = volume.frontend_address();
  if (owner.empty()) return frontends_->Live(deadline);
  if (frontends_->IsLive(owner, deadline)) return owner;
  // A dead one that had it last, and that no node has any more, is taken over from.
  if (AttributeOf(volume, kNodeAttribute).empty()) return LetGo(volume, deadline);
  return absl::UnavailableError(absl::StrCat("volume ", volume.name(), " is at frontend ", volume.frontend(), " (", owner,
                                             "), which does not answer"));
}

}  // namespace weir::csi
