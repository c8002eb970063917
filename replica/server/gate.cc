#include "replica/server/gate.h"

#include "absl/strings/str_cat.h"
#include "proto/base/status_macros.h"

namespace weir::replica {
namespace {

VolumeId VolumeOf(const v1::Fence& fence) { return VolumeId{fence.volume_id()}; }

}  // namespace

absl::StatusOr<Gate::Sealed> Gate::Seal(const v1::Fence& fence) {
  RETURN_IF_ERROR(serving_());
  RETURN_IF_ERROR(CheckIdentity(store_->identity(), fence, Acquaintance::kStranger));
  const VolumeId id = VolumeOf(fence);
  Sealed sealed;
  ASSIGN_OR_RETURN(sealed.volume, store_->GetVolume(id));
  RETURN_IF_ERROR(CheckEpochNotBelow(sealed.volume.promised_epoch, fence));
  sealed.raised = sealed.volume.promised_epoch < fence.epoch();
  // In this order: whoever says hello after the promise is refused by it, whoever
  // did before is found and ended here. Then nobody changes the lanes any more.
  RETURN_IF_ERROR(store_->Promise(id, fence.epoch()));
  sessions_->Raise(id, fence.epoch());
  ASSIGN_OR_RETURN(sealed.volume, store_->GetVolume(id));
  // A newer one may have sealed in between; its promise counts.
  RETURN_IF_ERROR(CheckEpochIs(sealed.volume.promised_epoch, fence));
  return sealed;
}

absl::Status Gate::Step(const v1::Fence& fence, const std::function<absl::Status(VolumeId)>& step, Acquaintance who) {
  RETURN_IF_ERROR(serving_());
  RETURN_IF_ERROR(CheckIdentity(store_->identity(), fence, who));
  const VolumeId id = VolumeOf(fence);
  RETURN_IF_ERROR(store_->GetVolume(id).status());  // only known volumes are kept account of
  ASSIGN_OR_RETURN(const std::shared_ptr<const void> hold, sessions_->Hold(id, fence.epoch()));
  ASSIGN_OR_RETURN(const store::VolumeState volume, store_->GetVolume(id));
  RETURN_IF_ERROR(CheckEpochIs(volume.promised_epoch, fence));
  return step(id);
}

absl::StatusOr<store::VolumeState> Gate::MayOpen(const v1::Fence& fence) const {
  ASSIGN_OR_RETURN(store::VolumeState volume, store_->GetVolume(VolumeOf(fence)));
  RETURN_IF_ERROR(CheckEpochIs(volume.promised_epoch, fence));
  RETURN_IF_ERROR(CheckBaseTaken(volume, fence.epoch()));
  return volume;
}

absl::StatusOr<store::VolumeState> Gate::Open(const v1::Fence& fence, uint64_t number, std::weak_ptr<SessionOwner> owner,
                                              const std::function<absl::Status(std::shared_ptr<Session>)>& opened) {
  RETURN_IF_ERROR(serving_());
  RETURN_IF_ERROR(CheckIdentity(store_->identity(), fence, Acquaintance::kStore));
  RETURN_IF_ERROR(MayOpen(fence).status());
  ASSIGN_OR_RETURN(std::shared_ptr<Session> session,
                   sessions_->Open(VolumeOf(fence), fence.epoch(), number, std::move(owner)));
  RETURN_IF_ERROR(opened(std::move(session)));
  // Again, now that a Seal would find this session: it may have come in between.
  return MayOpen(fence);
}

uint64_t Gate::volume_changes(VolumeId id) const {
  const absl::MutexLock lock(&volumes_mutex_);
  return volume_changes_[static_cast<uint64_t>(id) % volume_changes_.size()];
}

absl::Status Gate::Change(VolumeId id, Changes changes, const std::function<absl::Status()>& change) {
  {
    const absl::MutexLock lock(&volumes_mutex_);
    if (changes && *changes != volume_changes_[static_cast<uint64_t>(id) % volume_changes_.size()]) {
      return absl::AbortedError("the volume has been created or deleted here since its caller asked; ask again");
    }
    if (!changing_.insert(id).second) return absl::UnavailableError("the volume is just being created or deleted here; try again");
  }
  const absl::Status status = change();
  const absl::MutexLock lock(&volumes_mutex_);
  changing_.erase(id);
  if (status.ok()) ++volume_changes_[static_cast<uint64_t>(id) % volume_changes_.size()];
  return status;
}

absl::Status Gate::CreateVolume(const v1::Fence& fence, const store::VolumeGeometry& geometry, Changes changes) {
  RETURN_IF_ERROR(serving_());
  RETURN_IF_ERROR(CheckIdentity(store_->identity(), fence, Acquaintance::kStranger));
  const VolumeId id = VolumeOf(fence);
  return Change(id, changes, [&]() -> absl::Status {
    if (store_->identity().cluster_id.empty()) RETURN_IF_ERROR(store_->BindCluster(fence.cluster_id()));
    return store_->CreateVolume(id, geometry);
  });
}

absl::StatusOr<bool> Gate::DeleteVolume(const v1::Fence& fence, Changes changes) {
  RETURN_IF_ERROR(serving_());
  RETURN_IF_ERROR(CheckIdentity(store_->identity(), fence, Acquaintance::kStranger));
  const VolumeId id = VolumeOf(fence);
  bool had_it = false;
  RETURN_IF_ERROR(Change(id, changes, [&]() -> absl::Status {
    const absl::StatusOr<store::VolumeState> volume = store_->GetVolume(id);
    if (absl::IsNotFound(volume.status())) return absl::OkStatus();
    RETURN_IF_ERROR(volume.status());
    RETURN_IF_ERROR(CheckEpochNotBelow(volume->promised_epoch, fence));
    const absl::Status gone = absl::NotFoundError(absl::StrCat("volume=", fence.volume_id(), " was deleted"));
    sessions_->EndVolume(id, gone);
    RETURN_IF_ERROR(store_->DeleteVolume(id));
    // One that said hello in between has found nothing to write to.
    sessions_->EndVolume(id, gone);
    had_it = true;
    return absl::OkStatus();
  }));
  return had_it;
}

absl::Status Gate::CheckReader(const v1::Fence& fence) const {
  RETURN_IF_ERROR(serving_());
  v1::Fence store_only = fence;
  store_only.clear_incarnation();
  return CheckIdentity(store_->identity(), store_only, Acquaintance::kStore);
}

}  // namespace weir::replica
