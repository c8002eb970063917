// Controller's publishing. A volume is on one node at a time: its frontend has it, and its attributes name
// the node. The attribute is claimed first, by compare-and-set, so of two nodes one gets it; the frontend
// then takes the volume over, which raises the epoch and so fences whoever had it before, dead, hanging or alive.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/csi/answer.h"
#include "client/csi/controller.h"
#include "client/csi/names.h"
#include "client/csi/volume_state.h"
#include "proto/base/log.h"
#include "proto/base/status_macros.h"

namespace weir::csi {
namespace {

// A frontend that has been asked to let go flushes first. Whoever waits for us should not wait long for
// one that cannot: the volume is fenced at the next takeover all the same.
constexpr absl::Duration kLetGoMax = absl::Seconds(5);

}  // namespace

grpc::Status Controller::ControllerPublishVolume(Context* context,
                                                 const v1csi::ControllerPublishVolumeRequest* request,
                                                 v1csi::ControllerPublishVolumeResponse* response) {
  return Answer(Kind::kChange, "ControllerPublishVolume", request->volume_id(),
                Publish(*request, DeadlineOf(*context), response));
}

absl::Status Controller::Publish(const v1csi::ControllerPublishVolumeRequest& request, absl::Time deadline,
                                 v1csi::ControllerPublishVolumeResponse* response) {
  const std::string& id = request.volume_id();
  const std::string& node = request.node_id();
  RETURN_IF_ERROR(CheckGiven("volume_id", id));
  RETURN_IF_ERROR(CheckGiven("node_id", node));
  if (!request.has_volume_capability()) return CheckGiven("volume_capability", "");
  const absl::StatusOr<Use> use = UseOf(request.volume_capability());
  if (!use.ok()) return absl::InvalidArgumentError(use.status().message());
  ASSIGN_OR_RETURN(const Operations::Held held, operations_.Begin(id));
  ASSIGN_OR_RETURN(const v1::Volume volume, Find(id, deadline));
  ASSIGN_OR_RETURN(const v1::FrontendSummary frontend, frontends_->OfNode(node, deadline));
  RETURN_IF_ERROR(CheckNotBeingDeleted(volume));

  const bool read_only = request.readonly() || use->reads_only();
  const std::string published = PublishedText(*use, read_only);
  const std::string before = AttributeOf(volume, kNodeAttribute);
  if (!before.empty() && before != node) {
    return absl::FailedPreconditionError(
        absl::StrCat("volume ", id, " is published to node ", before, "; unpublish it there first"));
  }
  if (before == node && AttributeOf(volume, kPublishedAttribute) != published) {
    return absl::AlreadyExistsError(absl::StrCat("volume ", id, " is published to node ", node,
                                                 " with another capability, or another readonly"));
  }
  if (before.empty()) {
    RETURN_IF_ERROR(CheckNodeHasRoom(node, deadline));
    RETURN_IF_ERROR(Claim(id, node, published, deadline));
  }
  // Also when it is there already: the frontend may have been started anew.
  v1::AttachRequest attach;
  attach.set_name(id);
  const absl::Status attached =
      frontends_->CallAt(frontend.address(), &Frontends::Stub::Attach, attach, deadline).status();
  if (!attached.ok()) {
    if (before.empty()) {
      const absl::Status undone = Unclaim(id, node, absl::Now() + kLetGoMax);
      if (!undone.ok()) LOG(WARNING) << "volume=" << id << " stays claimed for node " << node << ": " << undone;
    }
    return attached;
  }
  (*response->mutable_publish_context())[kReadOnlyContextKey] = read_only ? "true" : "false";
  return absl::OkStatus();
}

absl::Status Controller::Claim(const std::string& id, const std::string& node, const std::string& published,
                               absl::Time deadline) {
  v1::SetAttributesRequest claim;
  claim.set_name(id);
  (*claim.mutable_set())[kNodeAttribute] = node;
  (*claim.mutable_set())[kPublishedAttribute] = published;
  (*claim.mutable_expected())[kNodeAttribute] = "";
  return frontends_->Call(&Frontends::Stub::SetAttributes, claim, deadline).status();
}

absl::Status Controller::Unclaim(const std::string& id, const std::string& node, absl::Time deadline) {
  v1::SetAttributesRequest change;
  change.set_name(id);
  change.add_remove(kNodeAttribute);
  change.add_remove(kPublishedAttribute);
  (*change.mutable_expected())[kNodeAttribute] = node;
  return frontends_->Call(&Frontends::Stub::SetAttributes, change, deadline).status();
}

absl::Status Controller::CheckNodeHasRoom(const std::string& node, absl::Time deadline) {
  if (volumes_max_ == 0) return absl::OkStatus();
  ASSIGN_OR_RETURN(const std::vector<v1::Volume> volumes, Volumes(deadline));
  int64_t there = 0;
  for (const v1::Volume& volume : volumes) {
    if (AttributeOf(volume, kNodeAttribute) == node) ++there;
  }
  if (there < volumes_max_) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat("node ", node, " has ", there, " volumes, as many as it may"));
}

grpc::Status Controller::ControllerUnpublishVolume(Context* context,
                                                   const v1csi::ControllerUnpublishVolumeRequest* request,
                                                   v1csi::ControllerUnpublishVolumeResponse*) {
  return Answer(Kind::kChange, "ControllerUnpublishVolume", request->volume_id(),
                Unpublish(request->volume_id(), request->node_id(), DeadlineOf(*context)));
}

absl::Status Controller::Unpublish(const std::string& id, const std::string& node, absl::Time deadline) {
  RETURN_IF_ERROR(CheckGiven("volume_id", id));
  ASSIGN_OR_RETURN(const Operations::Held held, operations_.Begin(id));
  const absl::StatusOr<v1::Volume> volume = Find(id, deadline);
  if (absl::IsNotFound(volume.status())) return absl::OkStatus();
  RETURN_IF_ERROR(volume.status());
  const std::string before = AttributeOf(*volume, kNodeAttribute);
  if (before.empty() || (!node.empty() && node != before)) return absl::OkStatus();
  LetGoOnNode(id, before, deadline);
  const absl::Status done = Unclaim(id, before, deadline);
  // Another instance of the driver was faster.
  return absl::IsAborted(done) || absl::IsNotFound(done) ? absl::OkStatus() : done;
}

void Controller::LetGoOnNode(const std::string& id, const std::string& node, absl::Time deadline) {
  const absl::Time until = std::min(deadline, absl::Now() + kLetGoMax);
  const absl::StatusOr<v1::FrontendSummary> frontend = frontends_->OfNode(node, until);
  absl::Status status = frontend.status();
  if (frontend.ok()) {
    v1::DetachRequest detach;
    detach.set_name(id);
    status = frontends_->IsLive(frontend->address(), until)
                 ? frontends_->CallAt(frontend->address(), &Frontends::Stub::Detach, detach, until).status()
                 : absl::UnavailableError(absl::StrCat(frontend->address(), " does not answer"));
  }
  if (!status.ok()) {
    LOG(WARNING) << "volume=" << id << " node " << node << " has not let go of it, and is fenced by the next to use it: "
                 << status;
  }
}

absl::StatusOr<std::string> Controller::LetGo(const v1::Volume& volume, absl::Time deadline) {
  if (volume.frontend().empty()) return frontends_->Live(deadline);
  v1::DetachRequest detach;
  detach.set_name(volume.name());
  const std::string owner = volume.frontend_address();
  if (!owner.empty() && frontends_->IsLive(owner, deadline)) {
    const absl::Status detached = frontends_->CallAt(owner, &Frontends::Stub::Detach, detach, deadline).status();
    // FAILED_PRECONDITION: it is not attached there, although that one had it last.
    if (detached.ok() || absl::IsFailedPrecondition(detached)) return owner;
  }
  ASSIGN_OR_RETURN(const std::string address, frontends_->Live(deadline));
  v1::AttachRequest attach;
  attach.set_name(volume.name());
  RETURN_IF_ERROR(frontends_->CallAt(address, &Frontends::Stub::Attach, attach, deadline).status());
  RETURN_IF_ERROR(frontends_->CallAt(address, &Frontends::Stub::Detach, detach, deadline).status());
  return address;
}

}  // namespace weir::csi
