// Controller's snapshots. A snapshot belongs to its volume, and its id says to which: "VOLUME@SNAPSHOT". Callers'
// names are unique over all volumes, so before one is made it is looked for everywhere.
#include <utility>

#include "absl/algorithm/container.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "client/csi/answer.h"
#include "client/csi/controller.h"
#include "client/csi/names.h"
#include "client/csi/volume_state.h"
#include "proto/base/status_macros.h"

namespace weir::csi {
namespace {

std::string IdOf(const v1::Snapshot& snapshot) { return absl::StrCat(snapshot.volume(), "@", snapshot.name()); }

v1csi::Snapshot Describe(const v1::Snapshot& snapshot) {
  v1csi::Snapshot described;
  described.set_snapshot_id(IdOf(snapshot));
  described.set_source_volume_id(snapshot.volume());
  described.set_size_bytes(static_cast<int64_t>(snapshot.size_bytes()));
  described.mutable_creation_time()->set_seconds(snapshot.created_unix_ms() / 1000);
  described.mutable_creation_time()->set_nanos(static_cast<int32_t>(snapshot.created_unix_ms() % 1000 * 1'000'000));
  // It is whole from the first moment on.
  described.set_ready_to_use(true);
  return described;
}

// Kubernetes' sidecar adds names; there is nothing to choose.
absl::Status CheckSnapshotParameters(const StringMap& parameters) {
  for (const auto& [key, value] : parameters) {
    if (key != "csi.storage.k8s.io/volumesnapshot/name" && key != "csi.storage.k8s.io/volumesnapshot/namespace" &&
        key != "csi.storage.k8s.io/volumesnapshotcontent/name") {
      return absl::InvalidArgumentError(absl::StrCat("parameter '", absl::CHexEscape(key.substr(0, 80)),
                                                     "' is not known: a snapshot has none"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<v1::Snapshot>> Controller::Snapshots(const std::string& volume, absl::Time deadline) {
  v1::ListSnapshotsRequest list;
  list.set_volume(volume);
  ASSIGN_OR_RETURN(const v1::ListSnapshotsResponse response,
                   frontends_->Call(&Frontends::Stub::ListSnapshots, list, deadline));
  std::vector<v1::Snapshot> snapshots;
  for (const v1::Snapshot& snapshot : response.snapshots()) {
    // Others, such as those that a clone was made from, are Weir's own.
    if (IsVolumeName(snapshot.name())) snapshots.push_back(snapshot);
  }
  absl::c_sort(snapshots, [](const v1::Snapshot& a, const v1::Snapshot& b) { return IdOf(a) < IdOf(b); });
  return snapshots;
}

grpc::Status Controller::CreateSnapshot(Context* context, const v1csi::CreateSnapshotRequest* request,
                                        v1csi::CreateSnapshotResponse* response) {
  return Answer(Kind::kChange, "CreateSnapshot", request->source_volume_id(),
                TakeSnapshot(*request, DeadlineOf(*context), response->mutable_snapshot()));
}

absl::Status Controller::TakeSnapshot(const v1csi::CreateSnapshotRequest& request, absl::Time deadline,
                                      v1csi::Snapshot* snapshot) {
  const std::string& id = request.source_volume_id();
  RETURN_IF_ERROR(CheckName("name", request.name()));
  RETURN_IF_ERROR(CheckGiven("source_volume_id", id));
  RETURN_IF_ERROR(CheckSnapshotParameters(request.parameters()));
  const std::string name = VolumeNameOf(request.name());
  // Two volumes must not get a snapshot of one name.
  ASSIGN_OR_RETURN(const Operations::Held held, operations_.Begin(absl::StrCat("snapshot ", name)));
  ASSIGN_OR_RETURN(const std::vector<v1::Snapshot> everywhere, Snapshots("", deadline));
  for (const v1::Snapshot& one : everywhere) {
    if (one.name() != name) continue;
    if (one.volume() != id) {
      return absl::AlreadyExistsError(
          absl::StrCat("snapshot ", name, " exists, of volume ", one.volume(), "; choose another name"));
    }
    *snapshot = Describe(one);
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(const v1::Volume volume, Find(id, deadline));
  RETURN_IF_ERROR(CheckNotBeingDeleted(volume));
  v1::CreateSnapshotRequest take;
  take.set_volume(id);
  take.set_name(name);
  ASSIGN_OR_RETURN(const std::string address, AddressFor(volume, deadline));
  ASSIGN_OR_RETURN(const v1::CreateSnapshotResponse taken,
                   frontends_->CallAt(address, &Frontends::Stub::CreateSnapshot, take, deadline));
  *snapshot = Describe(taken.snapshot());
  return absl::OkStatus();
}

grpc::Status Controller::DeleteSnapshot(Context* context, const v1csi::DeleteSnapshotRequest* request,
                                        v1csi::DeleteSnapshotResponse*) {
  return Answer(Kind::kChange, "DeleteSnapshot", request->snapshot_id(),
                DropSnapshot(request->snapshot_id(), DeadlineOf(*context)));
}

absl::Status Controller::DropSnapshot(const std::string& id, absl::Time deadline) {
  RETURN_IF_ERROR(CheckGiven("snapshot_id", id));
  const absl::StatusOr<SnapshotName> name = SnapshotNameOf(id);
  if (!name.ok()) return absl::OkStatus();  // never there
  ASSIGN_OR_RETURN(const Operations::Held held, operations_.Begin(absl::StrCat("snapshot ", name->snapshot)));
  const absl::StatusOr<v1::Volume> volume = Find(name->volume, deadline);
  if (absl::IsNotFound(volume.status())) return absl::OkStatus();
  RETURN_IF_ERROR(volume.status());
  v1::DeleteSnapshotRequest drop;
  drop.set_volume(name->volume);
  drop.set_name(name->snapshot);
  ASSIGN_OR_RETURN(const std::string address, AddressFor(*volume, deadline));
  const absl::Status dropped =
      frontends_->CallAt(address, &Frontends::Stub::DeleteSnapshot, drop, deadline).status();
  return absl::IsNotFound(dropped) ? absl::OkStatus() : dropped;
}

grpc::Status Controller::ListSnapshots(Context* context, const v1csi::ListSnapshotsRequest* request,
                                       v1csi::ListSnapshotsResponse* response) {
  return Answer(Kind::kQuestion, "ListSnapshots", request->source_volume_id(),
                ShowSnapshots(*request, DeadlineOf(*context), response));
}

absl::Status Controller::ShowSnapshots(const v1csi::ListSnapshotsRequest& request, absl::Time deadline,
                                       v1csi::ListSnapshotsResponse* response) {
  if (request.max_entries() < 0) return absl::InvalidArgumentError("max_entries is below zero");
  ASSIGN_OR_RETURN(const std::string after, AfterOfToken(request.starting_token()));
  ASSIGN_OR_RETURN(const std::vector<v1::Snapshot> snapshots, Snapshots("", deadline));
  for (const v1::Snapshot& snapshot : snapshots) {
    const std::string id = IdOf(snapshot);
    if (id <= after || (!request.snapshot_id().empty() && id != request.snapshot_id()) ||
        (!request.source_volume_id().empty() && snapshot.volume() != request.source_volume_id())) {
      continue;
    }
    if (request.max_entries() > 0 && response->entries_size() == request.max_entries()) {
      response->set_next_token(TokenAfter(response->entries().rbegin()->snapshot().snapshot_id()));
      break;
    }
    *response->add_entries()->mutable_snapshot() = Describe(snapshot);
  }
  return absl::OkStatus();
}

grpc::Status Controller::GetSnapshot(Context* context, const v1csi::GetSnapshotRequest* request,
                                     v1csi::GetSnapshotResponse* response) {
  return Answer(Kind::kQuestion, "GetSnapshot", request->snapshot_id(),
                ShowSnapshot(request->snapshot_id(), DeadlineOf(*context), response->mutable_snapshot()));
}

absl::Status Controller::ShowSnapshot(const std::string& id, absl::Time deadline, v1csi::Snapshot* snapshot) {
  RETURN_IF_ERROR(CheckGiven("snapshot_id", id));
  ASSIGN_OR_RETURN(const SnapshotName name, SnapshotNameOf(id));
  const absl::StatusOr<std::vector<v1::Snapshot>> snapshots = Snapshots(name.volume, deadline);
  if (absl::IsNotFound(snapshots.status())) return absl::NotFoundError(absl::StrCat("there is no snapshot '", id, "'"));
  RETURN_IF_ERROR(snapshots.status());
  for (const v1::Snapshot& one : *snapshots) {
    if (IdOf(one) != id) continue;
    *snapshot = Describe(one);
    return absl::OkStatus();
  }
  return absl::NotFoundError(absl::StrCat("there is no snapshot '", id, "'"));
}

}  // namespace weir::csi
