#include "client/csi/controller.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/algorithm/container.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/csi/answer.h"
#include "client/csi/names.h"
#include "client/csi/volume_state.h"
#include "proto/base/size.h"
#include "proto/base/status_macros.h"

namespace weir::csi {
namespace {

absl::Status NoSuchVolume(const std::string& id) {
  return absl::NotFoundError(absl::StrCat("there is no volume '", id.substr(0, 128), "'"));
}

absl::StatusOr<SnapshotName> SourceOf(const v1csi::VolumeContentSource& source) {
  if (source.has_snapshot()) {
    RETURN_IF_ERROR(CheckGiven("volume_content_source.snapshot.snapshot_id", source.snapshot().snapshot_id()));
    return SnapshotNameOf(source.snapshot().snapshot_id());
  }
  RETURN_IF_ERROR(CheckGiven("volume_content_source.volume.volume_id", source.volume().volume_id()));
  if (!IsVolumeName(source.volume().volume_id())) return NoSuchVolume(source.volume().volume_id());
  return SnapshotName{source.volume().volume_id(), ""};
}

// ALREADY_EXISTS, unless `found` is what the request asks for.
absl::Status CheckSame(const v1::Volume& found, const v1csi::CreateVolumeRequest& request,
                       const std::vector<Use>& uses, const Parameters& parameters) {
  const auto differs = [&found](absl::string_view what) {
    return absl::AlreadyExistsError(
        absl::StrCat("volume ", found.name(), " exists with ", what, "; choose another name"));
  };
  if (AttributeOf(found, kNameAttribute) != request.name()) return differs("another name, or was not made by this driver");
  if (!IsInRange(found.size_bytes(), request.capacity_range())) {
    return differs(absl::StrCat("another size, ", FormatSize(found.size_bytes())));
  }
  if (AttributeOf(found, kParametersAttribute) != parameters.text) return differs("other parameters");
  if (AttributeOf(found, kKindsAttribute) != KindsText(uses)) return differs("other capabilities");
  if (AttributeOf(found, kSourceAttribute) != SourceText(request.volume_content_source())) {
    return differs("another content source");
  }
  return absl::OkStatus();
}

bool Covers(const v1csi::Topology& term, const v1::FrontendSummary& frontend) {
  const std::map<std::string, std::string> place = PlaceOf(frontend);
  return absl::c_all_of(term.segments(), [&place](const auto& segment) {
    const auto found = place.find(segment.first);
    return found != place.end() && found->second == segment.second;
  });
}

}  // namespace

// --- what it can do ---

grpc::Status Controller::ControllerGetCapabilities(Context*, const v1csi::ControllerGetCapabilitiesRequest*,
                                                   v1csi::ControllerGetCapabilitiesResponse* response) {
  using Rpc = v1csi::ControllerServiceCapability::RPC;
  for (const auto type :
       {Rpc::CREATE_DELETE_VOLUME, Rpc::PUBLISH_UNPUBLISH_VOLUME, Rpc::PUBLISH_READONLY, Rpc::LIST_VOLUMES,
        Rpc::LIST_VOLUMES_PUBLISHED_NODES, Rpc::GET_CAPACITY, Rpc::GET_VOLUME, Rpc::VOLUME_CONDITION,
        Rpc::SINGLE_NODE_MULTI_WRITER, Rpc::EXPAND_VOLUME, Rpc::CREATE_DELETE_SNAPSHOT, Rpc::LIST_SNAPSHOTS,
        Rpc::GET_SNAPSHOT, Rpc::CLONE_VOLUME}) {
    response->add_capabilities()->mutable_rpc()->set_type(type);
  }
  return grpc::Status::OK;
}

// --- create ---

grpc::Status Controller::CreateVolume(Context* context, const v1csi::CreateVolumeRequest* request,
                                      v1csi::CreateVolumeResponse* response) {
  return Answer(Kind::kChange, "CreateVolume", request->name(),
                Create(*request, DeadlineOf(*context), response->mutable_volume()));
}

absl::StatusOr<Controller::Wanted> Controller::Understand(const v1csi::CreateVolumeRequest& request) {
  Wanted wanted;
  RETURN_IF_ERROR(CheckName("name", request.name()));
  ASSIGN_OR_RETURN(wanted.uses, UsesOf(request.volume_capabilities()));
  ASSIGN_OR_RETURN(wanted.parameters, ParametersOf(request.parameters(), request.mutable_parameters()));
  if (request.has_volume_content_source()) {
    ASSIGN_OR_RETURN(wanted.source, SourceOf(request.volume_content_source()));
  }
  ASSIGN_OR_RETURN(wanted.size_bytes, SizeFor(request.capacity_range(), wanted.uses, 0));
  wanted.name = VolumeNameOf(request.name());
  return wanted;
}

absl::Status Controller::Create(const v1csi::CreateVolumeRequest& request, absl::Time deadline,
                                v1csi::Volume* volume) {
  ASSIGN_OR_RETURN(Wanted wanted, Understand(request));
  ASSIGN_OR_RETURN(const Operations::Held held, operations_.Begin(wanted.name));
  const absl::StatusOr<v1::Volume> found = frontends_->GetVolume(wanted.name, deadline);
  if (!found.ok() && !absl::IsNotFound(found.status())) return found.status();
  if (found.ok()) {
    RETURN_IF_ERROR(CheckSame(*found, request, wanted.uses, wanted.parameters));
    // One that no node can meet is another requirement than it was made with.
    const absl::Status placed = CheckTopology(request.accessibility_requirements(), deadline);
    if (absl::IsResourceExhausted(placed)) {
      return absl::AlreadyExistsError(absl::StrCat("volume ", wanted.name, " exists, and ", placed.message()));
    }
    RETURN_IF_ERROR(placed);
    RETURN_IF_ERROR(CheckNotBeingDeleted(*found));
    if (found->state() != "CREATING") {
      *volume = Describe(*found);
      return absl::OkStatus();
    }
    wanted.begun = true;
    wanted.size_bytes = found->size_bytes();
  }
  absl::StatusOr<v1::Volume> made = Make(request, wanted, deadline);
  // Another instance of the driver may have been faster.
  if (absl::IsAlreadyExists(made.status())) {
    made = frontends_->GetVolume(wanted.name, deadline);
    if (made.ok()) RETURN_IF_ERROR(CheckSame(*made, request, wanted.uses, wanted.parameters));
  }
  RETURN_IF_ERROR(made.status());
  *volume = Describe(*made);
  return absl::OkStatus();
}

absl::StatusOr<Controller::Source> Controller::FindSource(const SnapshotName& name, absl::Time deadline) {
  ASSIGN_OR_RETURN(const v1::Volume volume, Find(name.volume, deadline));
  // Not to be tried again, unlike other calls for one: it is no source any more.
  const absl::Status stays = CheckNotBeingDeleted(volume);
  if (!stays.ok()) return absl::InvalidArgumentError(stays.message());
  Source source;
  source.size_bytes = volume.size_bytes();
  if (!name.snapshot.empty()) {
    v1csi::Snapshot snapshot;
    RETURN_IF_ERROR(ShowSnapshot(absl::StrCat(name.volume, "@", name.snapshot), deadline, &snapshot));
    source.size_bytes = static_cast<uint64_t>(snapshot.size_bytes());
  }
  ASSIGN_OR_RETURN(source.address, AddressFor(volume, deadline));
  return source;
}

absl::StatusOr<v1::Volume> Controller::Make(const v1csi::CreateVolumeRequest& request, const Wanted& wanted,
                                            absl::Time deadline) {
  const Parameters& parameters = wanted.parameters;
  StringMap attributes;
  attributes[kNameAttribute] = request.name();
  attributes[kParametersAttribute] = parameters.text;
  attributes[kKindsAttribute] = KindsText(wanted.uses);
  attributes[kCreatedAttribute] = CreatedText(absl::Now());
  if (!parameters.mkfs_options.empty()) attributes[kMkfsAttribute] = parameters.mkfs_options;
  if (!wanted.source.volume.empty()) {
    ASSIGN_OR_RETURN(const Source source, FindSource(wanted.source, deadline));
    uint64_t size_bytes = wanted.size_bytes;
    if (!wanted.begun) {
      ASSIGN_OR_RETURN(size_bytes, SizeFor(request.capacity_range(), wanted.uses, source.size_bytes));
    }
    v1::CloneVolumeRequest clone;
    RETURN_IF_ERROR(CheckRoom(request, parameters, size_bytes, deadline));
    clone.set_name(wanted.name);
    clone.set_source(wanted.source.volume);
    clone.set_snapshot(wanted.source.snapshot);
    clone.set_size_bytes(size_bytes);
    clone.set_replica_count(parameters.replicas);
    clone.set_min_in_sync(parameters.min_in_sync);
    if (parameters.hold_deadline_s) clone.set_hold_deadline_s(*parameters.hold_deadline_s);
    attributes[kSourceAttribute] = SourceText(request.volume_content_source());
    clone.mutable_attributes()->swap(attributes);
    ASSIGN_OR_RETURN(v1::CloneVolumeResponse made,
                     frontends_->CallAt(source.address, &Frontends::Stub::CloneVolume, clone, deadline));
    return std::move(*made.mutable_volume());
  }
  RETURN_IF_ERROR(CheckRoom(request, parameters, wanted.size_bytes, deadline));
  v1::CreateVolumeRequest create;
  create.set_name(wanted.name);
  create.set_size_bytes(wanted.size_bytes);
  create.set_replica_count(parameters.replicas);
  create.set_min_in_sync(parameters.min_in_sync);
  if (parameters.hold_deadline_s) create.set_hold_deadline_s(*parameters.hold_deadline_s);
  create.set_lanes(parameters.lanes);
  create.set_stripe_bytes(parameters.stripe_bytes);
  create.mutable_attributes()->swap(attributes);
  ASSIGN_OR_RETURN(v1::CreateVolumeResponse made,
                   frontends_->Call(&Frontends::Stub::CreateVolume, create, deadline));
  return std::move(*made.mutable_volume());
}

absl::Status Controller::CheckRoom(const v1csi::CreateVolumeRequest& request, const Parameters& parameters,
                                   uint64_t size_bytes, absl::Time deadline) {
  RETURN_IF_ERROR(CheckTopology(request.accessibility_requirements(), deadline));
  ASSIGN_OR_RETURN(const std::vector<v1::ReplicaSummary> replicas, Replicas(deadline));
  const uint32_t copies = parameters.copies(replicas.size());
  if (copies == 0 || copies > replicas.size()) {
    return absl::ResourceExhaustedError(
        absl::StrCat(copies, " replicas are asked for, ", replicas.size(), " are known"));
  }
  // Volumes take space as they are written, so together they may be larger than what is there; but a volume
  // that could not be filled on an empty cluster, or of which nothing could be written, is not made.
  std::vector<uint64_t> capacities;
  for (const v1::ReplicaSummary& replica : replicas) {
    if (replica.state() == "SERVING") capacities.push_back(replica.capacity_bytes());
  }
  if (capacities.size() < copies) {
    return absl::UnavailableError(absl::StrCat(copies, " replicas are needed, ", capacities.size(), " of ",
                                               replicas.size(), " serve; try again when more do"));
  }
  std::sort(capacities.begin(), capacities.end(), std::greater<>());
  if (size_bytes > capacities[copies - 1]) {
    return absl::ResourceExhaustedError(
        absl::StrCat(FormatSize(size_bytes), " on ", copies, " replicas each: the disks hold ",
                     FormatSize(capacities[copies - 1])));
  }
  if (AvailableBytes(replicas, parameters) < kVolumeBytesMin) {
    return absl::ResourceExhaustedError(absl::StrCat("fewer than ", copies, " replicas have free space"));
  }
  return absl::OkStatus();
}

// A volume can be reached from every node. So a requirement is met if some node meets one of its terms.
absl::Status Controller::CheckTopology(const v1csi::TopologyRequirement& topology, absl::Time deadline) {
  if (topology.requisite().empty()) return absl::OkStatus();
  ASSIGN_OR_RETURN(const std::vector<v1::FrontendSummary> frontends, frontends_->List(deadline));
  for (const v1csi::Topology& term : topology.requisite()) {
    for (const v1::FrontendSummary& frontend : frontends) {
      if (Covers(term, frontend)) return absl::OkStatus();
    }
  }
  return absl::ResourceExhaustedError("accessibility_requirements: no node is in any of the places that are asked for");
}

// --- delete ---

grpc::Status Controller::DeleteVolume(Context* context, const v1csi::DeleteVolumeRequest* request,
                                      v1csi::DeleteVolumeResponse*) {
  return Answer(Kind::kChange, "DeleteVolume", request->volume_id(),
                Delete(request->volume_id(), DeadlineOf(*context)));
}

absl::Status Controller::Delete(const std::string& id, absl::Time deadline) {
  RETURN_IF_ERROR(CheckGiven("volume_id", id));
  ASSIGN_OR_RETURN(const Operations::Held held, operations_.Begin(id));
  const absl::StatusOr<v1::Volume> volume = Find(id, deadline);
  if (absl::IsNotFound(volume.status())) return absl::OkStatus();
  RETURN_IF_ERROR(volume.status());
  if (AttributeOf(*volume, kNameAttribute).empty()) {
    return absl::FailedPreconditionError(absl::StrCat(
        "volume ", id, " was not made by this driver; delete it with weirctl volume delete ", id));
  }
  const std::string node = AttributeOf(*volume, kNodeAttribute);
  if (!node.empty()) {
    return absl::FailedPreconditionError(absl::StrCat("volume ", id, " is published to node ", node));
  }
  if (volume->snapshots_size() > 0) {
    return absl::FailedPreconditionError(absl::StrCat("volume ", id, " has ", volume->snapshots_size(), " snapshots, such as ",
                                                      volume->snapshots(0), ", which would be lost; delete them first"));
  }
  ASSIGN_OR_RETURN(const std::string address, LetGo(*volume, deadline));
  v1::DeleteVolumeRequest remove;
  remove.set_name(id);
  const absl::Status removed =
      frontends_->CallAt(address, &Frontends::Stub::DeleteVolume, remove, deadline).status();
  return absl::IsNotFound(removed) ? absl::OkStatus() : removed;
}

// --- questions ---

absl::StatusOr<v1::Volume> Controller::Find(const std::string& id, absl::Time deadline) {
  if (!IsVolumeName(id)) return NoSuchVolume(id);
  return frontends_->GetVolume(id, deadline);
}

absl::StatusOr<std::vector<v1::Volume>> Controller::Volumes(absl::Time deadline) {
  ASSIGN_OR_RETURN(const v1::ListVolumesResponse response,
                   frontends_->Call(&Frontends::Stub::ListVolumes, v1::ListVolumesRequest(), deadline));
  std::vector<v1::Volume> volumes(response.volumes().begin(), response.volumes().end());
  absl::c_sort(volumes, [](const v1::Volume& a, const v1::Volume& b) { return OrderOf(a) < OrderOf(b); });
  return volumes;
}

absl::StatusOr<std::vector<v1::ReplicaSummary>> Controller::Replicas(absl::Time deadline) {
  ASSIGN_OR_RETURN(const v1::ListReplicasResponse response,
                   frontends_->Call(&Frontends::Stub::ListReplicas, v1::ListReplicasRequest(), deadline));
  return std::vector<v1::ReplicaSummary>(response.replicas().begin(), response.replicas().end());
}

grpc::Status Controller::ValidateVolumeCapabilities(Context* context,
                                                    const v1csi::ValidateVolumeCapabilitiesRequest* request,
                                                    v1csi::ValidateVolumeCapabilitiesResponse* response) {
  return Answer(Kind::kQuestion, "ValidateVolumeCapabilities", request->volume_id(),
                Validate(*request, DeadlineOf(*context), response));
}

absl::Status Controller::Validate(const v1csi::ValidateVolumeCapabilitiesRequest& request, absl::Time deadline,
                                  v1csi::ValidateVolumeCapabilitiesResponse* response) {
  RETURN_IF_ERROR(CheckGiven("volume_id", request.volume_id()));
  if (request.volume_capabilities().empty()) {
    return absl::InvalidArgumentError("volume_capabilities are missing");
  }
  for (const v1csi::VolumeCapability& capability : request.volume_capabilities()) {
    const absl::StatusOr<Use> use = UseOf(capability);
    if (absl::IsInvalidArgument(use.status())) return use.status();
    if (!use.ok()) response->set_message(std::string(use.status().message()));
  }
  ASSIGN_OR_RETURN(const v1::Volume volume, Find(request.volume_id(), deadline));
  if (!request.parameters().empty() || !request.mutable_parameters().empty()) {
    const absl::StatusOr<Parameters> parameters = ParametersOf(request.parameters(), request.mutable_parameters());
    if (!parameters.ok()) {
      response->set_message(std::string(parameters.status().message()));
    } else if (parameters->text != AttributeOf(volume, kParametersAttribute)) {
      response->set_message("the volume was made with other parameters");
    }
  }
  if (!response->message().empty()) return absl::OkStatus();
  auto* confirmed = response->mutable_confirmed();
  *confirmed->mutable_volume_context() = request.volume_context();
  *confirmed->mutable_volume_capabilities() = request.volume_capabilities();
  *confirmed->mutable_parameters() = request.parameters();
  return absl::OkStatus();
}

grpc::Status Controller::ListVolumes(Context* context, const v1csi::ListVolumesRequest* request,
                                     v1csi::ListVolumesResponse* response) {
  return Answer(Kind::kQuestion, "ListVolumes", "", List(*request, DeadlineOf(*context), response));
}

absl::Status Controller::List(const v1csi::ListVolumesRequest& request, absl::Time deadline,
                              v1csi::ListVolumesResponse* response) {
  if (request.max_entries() < 0) return absl::InvalidArgumentError("max_entries is below zero");
  ASSIGN_OR_RETURN(const std::string after, AfterOfToken(request.starting_token()));
  ASSIGN_OR_RETURN(const std::vector<v1::Volume> volumes, Volumes(deadline));
  std::string last;
  for (const v1::Volume& volume : volumes) {
    // By where it stands and not by number, so that those that go between two pages harm nothing.
    if (OrderOf(volume) <= after) continue;
    if (request.max_entries() > 0 && response->entries_size() == request.max_entries()) {
      response->set_next_token(TokenAfter(last));
      break;
    }
    last = OrderOf(volume);
    v1csi::ListVolumesResponse::Entry* entry = response->add_entries();
    *entry->mutable_volume() = Describe(volume);
    const std::string node = AttributeOf(volume, kNodeAttribute);
    if (!node.empty()) entry->mutable_status()->add_published_node_ids(node);
    *entry->mutable_status()->mutable_volume_condition() = ConditionOf(volume);
  }
  return absl::OkStatus();
}

grpc::Status Controller::ControllerGetVolume(Context* context, const v1csi::ControllerGetVolumeRequest* request,
                                             v1csi::ControllerGetVolumeResponse* response) {
  return Answer(Kind::kQuestion, "ControllerGetVolume", request->volume_id(),
                Get(request->volume_id(), DeadlineOf(*context), response));
}

absl::Status Controller::Get(const std::string& id, absl::Time deadline,
                             v1csi::ControllerGetVolumeResponse* response) {
  RETURN_IF_ERROR(CheckGiven("volume_id", id));
  ASSIGN_OR_RETURN(const v1::Volume volume, Find(id, deadline));
  *response->mutable_volume() = Describe(volume);
  const std::string node = AttributeOf(volume, kNodeAttribute);
  if (!node.empty()) response->mutable_status()->add_published_node_ids(node);
  *response->mutable_status()->mutable_volume_condition() = ConditionOf(volume);
  return absl::OkStatus();
}

grpc::Status Controller::GetCapacity(Context* context, const v1csi::GetCapacityRequest* request,
                                     v1csi::GetCapacityResponse* response) {
  return Answer(Kind::kQuestion, "GetCapacity", "", Capacity(*request, DeadlineOf(*context), response));
}

absl::Status Controller::Capacity(const v1csi::GetCapacityRequest& request, absl::Time deadline,
                                  v1csi::GetCapacityResponse* response) {
  ASSIGN_OR_RETURN(const Parameters parameters, ParametersOf(request.parameters(), {}));
  bool possible = true;
  std::vector<Use> uses;
  for (const v1csi::VolumeCapability& capability : request.volume_capabilities()) {
    const absl::StatusOr<Use> use = UseOf(capability);
    if (absl::IsInvalidArgument(use.status())) return use.status();
    if (use.ok()) uses.push_back(*use);
    possible = possible && use.ok();
  }
  if (possible && request.has_accessible_topology()) {
    v1csi::TopologyRequirement topology;
    *topology.add_requisite() = request.accessible_topology();
    const absl::Status reachable = CheckTopology(topology, deadline);
    possible = reachable.ok();
    if (!possible && !absl::IsResourceExhausted(reachable)) return reachable;
  }
  ASSIGN_OR_RETURN(const std::vector<v1::ReplicaSummary> replicas, Replicas(deadline));
  const uint64_t available = possible ? AvailableBytes(replicas, parameters) : 0;
  response->set_available_capacity(static_cast<int64_t>(available));
  response->mutable_maximum_volume_size()->set_value(static_cast<int64_t>(available));
  v1csi::CapacityRange least;
  least.set_required_bytes(1);
  ASSIGN_OR_RETURN(const uint64_t minimum, SizeFor(least, uses, 0));
  response->mutable_minimum_volume_size()->set_value(static_cast<int64_t>(minimum));
  return absl::OkStatus();
}

}  // namespace weir::csi
