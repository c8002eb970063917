#include "volume/host/provision.h"

#include <algorithm>
#include <map>
#include <set>
#include <thread>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "proto/base/log.h"
#include "proto/base/position.h"
#include "proto/base/size.h"
#include "proto/base/status_macros.h"
#include "volume/engine/deletion.h"
#include "volume/host/attributes.h"
#include "volume/host/placement.h"
#include "volume/host/registration.h"
#include "volume/host/replica_client.h"

namespace weir::host {
namespace {

constexpr absl::Duration kAskDeadline = absl::Seconds(3);
constexpr absl::Duration kChangeDeadline = absl::Seconds(10);
constexpr int kRegisterAttemptsMax = 16;
constexpr int kDeleteAttemptsMax = 8;
constexpr uint64_t kVolumeBytesMax = uint64_t{1} << 56;  // what replicas take

v1::Fence FenceOf(const v1::VolumeRecord& record, const v1::Member& member,
                  const std::string& cluster_id) {
  v1::Fence fence = NewFence(cluster_id);
  fence.set_volume_id(record.id());
  fence.set_store_id(member.store_id());
  fence.set_epoch(record.epoch());
  return fence;
}

uint64_t AvailableBytes(const v1::GetReplicaResponse& replica) {
  uint64_t bytes = 0;
  for (const v1::DataDir& dir : replica.data_dirs()) bytes += dir.available_bytes();
  return bytes;
}

Candidate CandidateOf(const v1::GetReplicaResponse& replica) {
  return {Labels(replica.labels().begin(), replica.labels().end()), AvailableBytes(replica)};
}

// Whether the process that answered is the replica it was taken for.
absl::Status CheckIdentity(const v1::ReplicaRecord& record,
                           const v1::GetReplicaResponse& answer,
                           const std::string& cluster_id) {
  const std::string who =
      absl::StrCat("replica ", record.name(), " at ", record.address());
  if (!answer.name().empty() && answer.name() != record.name()) {
    return absl::FailedPreconditionError(
        absl::StrCat(who, " calls itself '", answer.name(),
                     "'; correct the address given in --replicas"));
  }
  if (!answer.cluster_id().empty() && answer.cluster_id() != cluster_id) {
    return absl::FailedPreconditionError(absl::StrCat(
        who, " belongs to cluster ", answer.cluster_id(), ", this one is ",
        cluster_id, "; use another replica, or the catalog it was made with"));
  }
  if (answer.state() != "SERVING") {
    return absl::FailedPreconditionError(absl::StrCat(
        who, " is ", answer.state(), ": ", answer.state_reason()));
  }
  return absl::OkStatus();
}

bool IsSilence(const absl::Status& answer) { return absl::IsUnavailable(answer) || absl::IsDeadlineExceeded(answer); }

bool SameGeometry(const v1::VolumeRecord& record,
                  const v1::CreateVolumeRequest& request) {
  return record.size_bytes() == request.size_bytes() &&
         record.lanes() == request.lanes() &&
         uint64_t{record.stripe_blocks()} * kBlockBytes == request.stripe_bytes();
}

}  // namespace

absl::Status CheckName(const char* what, const std::string& name) {
  const auto allowed = [](char c) {
    return absl::ascii_islower(c) || absl::ascii_isdigit(c);
  };
  bool ok = !name.empty() && name.size() <= 63 && allowed(name[0]);
  for (char c : name) ok = ok && (allowed(c) || c == '.' || c == '_' || c == '-');
  if (ok) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      what, " name '", name.substr(0, 80), "': use 1 to 63 of a-z 0-9 . _ -, ",
      "beginning with a letter or digit"));
}

absl::Status CheckSize(uint64_t size_bytes) {
  if (size_bytes != 0 && size_bytes % kBlockBytes == 0 && size_bytes <= kVolumeBytesMax) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "size ", size_bytes, ": must be a multiple of 4096 bytes, at least 4096 and at most ",
      FormatSize(kVolumeBytesMax), "; such as ",
      FormatSize(std::max<uint64_t>(1, size_bytes / kBlockBytes) * kBlockBytes)));
}

absl::StatusOr<v1::CreateVolumeRequest> CheckCreateRequest(
    v1::CreateVolumeRequest request, size_t replicas_known) {
  RETURN_IF_ERROR(CheckName("volume", request.name()));
  RETURN_IF_ERROR(CheckAttributes(request.attributes()));
  RETURN_IF_ERROR(CheckSize(request.size_bytes()));
  if (request.lanes() == 0) request.set_lanes(4);
  if (request.lanes() > kLanesMax) {
    return absl::InvalidArgumentError(absl::StrCat(
        "lanes ", request.lanes(), ": at most ", kLanesMax));
  }
  if (request.stripe_bytes() == 0) request.set_stripe_bytes(256 << 10);
  if (request.stripe_bytes() % kBlockBytes != 0 ||
      request.stripe_bytes() > uint64_t{kStripeBlocksMax} * kBlockBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("stripe_bytes ", request.stripe_bytes(),
                     ": must be a multiple of 4096, at most 4 MiB"));
  }
  const uint32_t named = static_cast<uint32_t>(request.replicas_size());
  if (named > 0) {
    if (request.replica_count() != 0 && request.replica_count() != named) {
      return absl::InvalidArgumentError(
          "replicas and replica_count disagree; give one of them");
    }
    request.set_replica_count(named);
  } else if (request.replica_count() == 0) {
    request.set_replica_count(
        static_cast<uint32_t>(std::min<size_t>(3, replicas_known)));
  }
  const uint32_t count = request.replica_count();
  if (count == 0) {
    return absl::FailedPreconditionError(
        "no replica is known; start the frontend with --replicas=NAME=ADDRESS");
  }
  if (count > kReplicasMax) {
    return absl::InvalidArgumentError(absl::StrCat(
        count, " replicas: at most ", kReplicasMax, " a volume"));
  }
  if (count > replicas_known) {
    return absl::FailedPreconditionError(
        absl::StrCat(count, " replicas are asked for, ", replicas_known,
                     " are known; register more with --replicas"));
  }
  if (request.min_in_sync() == 0) request.set_min_in_sync(count >= 3 ? 2 : 1);
  if (request.min_in_sync() > count) {
    return absl::InvalidArgumentError(
        absl::StrCat("min_in_sync ", request.min_in_sync(),
                     " is more than the ", count, " replicas"));
  }
  return request;
}

absl::Status Provision::RegisterReplicas(
    const std::vector<std::pair<std::string, std::string>>& replicas) {
  for (const auto& [name, address] : replicas) {
    absl::Status status = absl::AbortedError("not tried");
    // Each time another frontend was first, and there are few.
    for (int i = 0; i < kRegisterAttemptsMax && absl::IsAborted(status); ++i) {
      status = RegisterReplica(name, address);
    }
    RETURN_IF_ERROR(status);
  }
  return absl::OkStatus();
}

absl::Status Provision::RegisterReplica(const std::string& name, const std::string& address) {
  absl::StatusOr<catalog::VersionedReplica> known = catalog_->GetReplica(name);
  if (!known.ok() && !absl::IsNotFound(known.status())) return known.status();
  v1::ReplicaRecord record;
  uint64_t revision = 0;
  if (known.ok()) {
    if (known->record.address() == address) return absl::OkStatus();
    record = known->record;
    revision = known->revision;
  }
  record.set_name(name);
  record.set_address(address);
  RETURN_IF_ERROR(catalog_->PutReplica(record, revision).status());
  LOG(INFO) << "replica=" << name << " is registered at " << address;
  return absl::OkStatus();
}

absl::Status Provision::Register(const v1::RegisterRequest& request) {
  absl::Status status = absl::AbortedError("not tried");
  // Each time another frontend was first, and there are few.
  for (int i = 0; i < kRegisterAttemptsMax && absl::IsAborted(status); ++i) {
    ASSIGN_OR_RETURN(const std::vector<catalog::VersionedReplica> replicas,
                     catalog_->ListReplicas());
    std::vector<v1::ReplicaRecord> known;
    catalog::VersionedReplica before;
    for (const catalog::VersionedReplica& one : replicas) {
      known.push_back(one.record);
      if (one.record.name() == request.name()) before = one;
    }
    const absl::Time now = absl::Now();
    ASSIGN_OR_RETURN(const v1::ReplicaRecord record,
                     Registered(request, known, catalog_->cluster_id(), now));
    if (IsWorthNoWrite(before.record, record, now)) return absl::OkStatus();
    status = catalog_->PutReplica(record, before.revision).status();
    const bool news = before.record.incarnation() != record.incarnation();
    if (status.ok() && news) {
      LOG(INFO) << "replica=" << record.name() << " store=" << record.store_id()
                << " has registered itself at " << record.address();
    }
  }
  return status;
}

absl::Status Provision::Forget(const std::string& name) {
  ASSIGN_OR_RETURN(const catalog::VersionedReplica known, catalog_->GetReplica(name));
  ASSIGN_OR_RETURN(const std::vector<catalog::VersionedVolume> volumes, catalog_->ListVolumes());
  std::vector<std::string> its;
  for (const catalog::VersionedVolume& volume : volumes) {
    const auto& members = volume.record.members();
    // Its deletion may wait for this.
    if (volume.record.state() == v1::VolumeRecord::DELETING) continue;
    if (std::any_of(members.begin(), members.end(), [&](const v1::Member& one) { return one.replica() == name; })) {
      its.push_back(volume.record.name());
    }
  }
  if (!its.empty()) {
    return absl::FailedPreconditionError(absl::StrCat(
        "replica ", name, " is a member of ", absl::StrJoin(its, ", "), "; give its places away first: weirctl replica drain ", name,
        " while it lives, else weirctl replica replace VOLUME ", name));
  }
  const std::string alive = absl::StrCat("replica ", name, " at ", known.record.address(), " lives");
  if (IsAlive(known.record, absl::Now())) {
    return absl::FailedPreconditionError(absl::StrCat(alive, ", it has just registered itself; stop it first"));
  }
  // One that is named in --replicas does not register itself, and one that does may reach no frontend.
  const absl::Status answer = AskByName(name, known.record.address()).status();
  if (!IsSilence(answer)) {
    return absl::FailedPreconditionError(absl::StrCat(alive, ", since it answers", answer.ok() ? "" : ": ", answer.message(), "; stop it first"));
  }
  RETURN_IF_ERROR(catalog_->DeleteReplica(name, known.revision));
  LOG(INFO) << "replica=" << name << " store=" << known.record.store_id() << " is forgotten";
  return absl::OkStatus();
}

absl::StatusOr<std::vector<Provision::Found>> Provision::AskReplicas(
    absl::Duration deadline) {
  ASSIGN_OR_RETURN(const std::vector<catalog::VersionedReplica> known,
                   catalog_->ListReplicas());
  std::vector<Found> found;
  for (const catalog::VersionedReplica& replica : known) {
    found.push_back({replica.record, absl::UnavailableError("not asked")});
  }
  std::vector<std::thread> threads;
  for (Found& one : found) {
    threads.emplace_back([&one, deadline] {
      one.answer = ReplicaClient(one.record.name(), one.record.address())
                       .GetReplica(deadline);
    });
  }
  for (std::thread& thread : threads) thread.join();
  return found;
}

// Those that were named, or those that are farthest apart; all must answer.
absl::StatusOr<std::vector<Provision::Found>> Provision::Choose(
    const v1::CreateVolumeRequest& request) {
  ASSIGN_OR_RETURN(std::vector<Found> found, AskReplicas(kAskDeadline));
  std::vector<Found> chosen;
  std::vector<std::string> unusable;
  std::map<std::string, Found*> usable;
  for (Found& one : found) {
    const absl::Status status =
        one.answer.ok() ? CheckIdentity(one.record, *one.answer,
                                        catalog_->cluster_id())
                        : one.answer.status();
    if (status.ok()) {
      usable[one.record.name()] = &one;
    } else {
      unusable.push_back(std::string(status.message()));
    }
  }
  for (const std::string& name : request.replicas()) {
    auto it = usable.find(name);
    if (it == usable.end()) {
      RETURN_IF_ERROR(catalog_->GetReplica(name).status());
      return absl::UnavailableError(
          absl::StrCat("replica ", name, " cannot be used: ",
                       absl::StrJoin(unusable, "; ")));
    }
    chosen.push_back(*it->second);
  }
  if (request.replicas_size() > 0) return chosen;
  if (usable.size() < request.replica_count()) {
    return absl::UnavailableError(absl::StrCat(
        request.replica_count(), " replicas are needed, ", usable.size(),
        " can be used: ", absl::StrJoin(unusable, "; ")));
  }
  std::vector<Found*> all;
  std::vector<Candidate> candidates;
  for (auto& [name, one] : usable) {
    all.push_back(one);
    candidates.push_back(CandidateOf(*one->answer));
  }
  for (size_t i : SpreadOut(candidates, request.replica_count())) chosen.push_back(*all[i]);
  return chosen;
}

absl::StatusOr<v1::VolumeRecord> Provision::NewRecord(
    const v1::CreateVolumeRequest& request) {
  ASSIGN_OR_RETURN(const std::vector<Found> chosen, Choose(request));
  v1::VolumeRecord record;
  record.set_id(NewVolumeId());
  record.set_name(request.name());
  record.set_size_bytes(request.size_bytes());
  record.set_lanes(request.lanes());
  record.set_stripe_blocks(request.stripe_bytes() / kBlockBytes);
  record.set_min_in_sync(request.min_in_sync());
  if (request.has_hold_deadline_s()) record.set_hold_deadline_s(request.hold_deadline_s());
  record.set_state(v1::VolumeRecord::CREATING);
  *record.mutable_attributes() = request.attributes();
  std::set<std::string> stores;
  for (const Found& one : chosen) {
    // Two names for one process would be copies that die together.
    if (!stores.insert(one.answer->store_id()).second) {
      return absl::FailedPreconditionError(
          absl::StrCat("replica ", one.record.name(), " at ",
                       one.record.address(), " is the same store as another "
                       "member; give every replica an address of its own"));
    }
    v1::Member* member = record.add_members();
    member->set_replica(one.record.name());
    member->set_address(one.record.address());
    member->set_store_id(one.answer->store_id());
    member->set_boot_id(one.answer->boot_id());
    member->set_in_sync(true);
  }
  return record;
}

absl::StatusOr<v1::VolumeRecord> Provision::Create(const v1::CreateVolumeRequest& raw,
                                                   const CloneOf& clone) {
  ASSIGN_OR_RETURN(const std::vector<catalog::VersionedReplica> known,
                   catalog_->ListReplicas());
  ASSIGN_OR_RETURN(const v1::CreateVolumeRequest request,
                   CheckCreateRequest(raw, known.size()));
  absl::StatusOr<catalog::VersionedVolume> existing =
      catalog_->GetVolume(request.name());
  if (!existing.ok() && !absl::IsNotFound(existing.status())) {
    return existing.status();
  }
  catalog::VersionedVolume versioned;
  if (existing.ok()) {
    if (existing->record.state() != v1::VolumeRecord::CREATING ||
        !SameGeometry(existing->record, request) ||
        existing->record.parent().pin() != clone.parent.pin() ||
        (clone.id != 0 && existing->record.id() != clone.id)) {
      return absl::AlreadyExistsError(absl::StrCat(
          "volume ", request.name(), " exists; delete it or choose another name"));
    }
    versioned = *std::move(existing);  // a creation that was interrupted
  } else {
    ASSIGN_OR_RETURN(versioned.record, NewRecord(request));
    if (clone.id != 0) {
      versioned.record.set_id(clone.id);
      *versioned.record.mutable_parent() = clone.parent;
    }
    ASSIGN_OR_RETURN(versioned.revision,
                     catalog_->PutVolume(versioned.record, 0));
  }
  VolumeRecordHolder holder(catalog_, std::move(versioned));
  v1::VolumeRecord record = holder.record();
  absl::Status created = CreateOnMembers(&record);
  if (created.ok() && clone.still_wanted) created = clone.still_wanted();
  if (!created.ok()) {
    const absl::Status cleaned = DeleteHeld(holder);
    if (cleaned.ok()) return created;
    return absl::Status(created.code(),
                        absl::StrCat(created.message(),
                                     "; and what was made could not be removed, "
                                     "so delete the volume later (",
                                     cleaned.message(), ")"));
  }
  record.set_state(v1::VolumeRecord::DETACHED);
  RETURN_IF_ERROR(holder.Commit(record));
  LOG(INFO) << "volume=" << record.name() << " id=" << record.id()
            << " created, " << FormatSize(record.size_bytes());
  return record;
}

absl::Status Provision::CreateOnMembers(v1::VolumeRecord* record) {
  for (v1::Member& member : *record->mutable_members()) {
    RETURN_IF_ERROR(CreateOnMember(*record, /*asked=*/nullptr, &member));
  }
  return absl::OkStatus();
}

absl::StatusOr<Provision::Asked> Provision::Ask(const v1::VolumeRecord& record, const v1::Member& member) {
  ASSIGN_OR_RETURN(const v1::GetReplicaResponse answer, AskByName(member.replica(), member.address(), record.id()));
  Asked asked{.address = member.address(), .incarnation = answer.incarnation()};
  if (answer.has_volume_changes()) asked.volume_changes = answer.volume_changes();
  return asked;
}

absl::Status Provision::MakeCopy(const v1::VolumeRecord& record, const Asked& asked, v1::Member* member) {
  return CreateOnMember(record, &asked, member);
}

absl::Status Provision::CreateOnMember(const v1::VolumeRecord& record, const Asked* asked, v1::Member* member) {
  v1::CreateReplicaVolumeRequest request;
  *request.mutable_fence() = FenceOf(record, *member, catalog_->cluster_id());
  request.set_size_bytes(record.size_bytes());
  request.set_lanes(record.lanes());
  request.set_stripe_blocks(record.stripe_blocks());
  if (asked != nullptr) {
    request.mutable_fence()->set_incarnation(asked->incarnation);
    if (asked->volume_changes) request.set_volume_changes(*asked->volume_changes);
  }
  ASSIGN_OR_RETURN(const v1::CreateReplicaVolumeResponse response,
                   ReplicaClient(member->replica(), member->address())
                       .CreateVolume(request, kChangeDeadline));
  member->set_store_id(response.store_id());
  member->set_boot_id(response.boot_id());
  absl::StatusOr<catalog::VersionedReplica> replica = catalog_->GetReplica(member->replica());
  RETURN_IF_ERROR(replica.status());
  if (replica->record.store_id() == response.store_id()) return absl::OkStatus();
  replica->record.set_store_id(response.store_id());
  return catalog_->PutReplica(replica->record, replica->revision).status();
}

absl::StatusOr<v1::Member> Provision::ChooseReplacement(const v1::VolumeRecord& record, const std::string& replica,
                                                        const std::string& with, bool other,
                                                        const std::set<std::string>& unusable) {
  const auto member =
      std::find_if(record.members().begin(), record.members().end(),
                   [&](const v1::Member& one) { return one.replica() == replica; });
  if (member == record.members().end()) {
    return absl::NotFoundError(
        absl::StrCat("replica ", replica, " is no member of volume ", record.name()));
  }
  ASSIGN_OR_RETURN(std::vector<Found> all, AskReplicas(kAskDeadline));
  SortAsReplacements(record, *member, &all);
  ASSIGN_OR_RETURN(const Found found, ChooseAmong(std::move(all), record, *member, with, other, unusable));
  v1::Member next;
  next.set_replica(found.record.name());
  next.set_address(found.record.address());
  next.set_store_id(found.answer->store_id());
  return next;
}

// The same name first, then who is farthest from the members that stay. Who did not answer comes last.
void Provision::SortAsReplacements(const v1::VolumeRecord& record, const v1::Member& member,
                                   std::vector<Found>* found) {
  std::vector<Found> sorted, others, silent;
  std::vector<Candidate> candidates;
  std::vector<Labels> staying;
  for (Found& one : *found) {
    const bool is_member =
        std::any_of(record.members().begin(), record.members().end(), [&](const v1::Member& other) {
          return other.replica() == one.record.name();
        });
    if (one.record.name() == member.replica()) {
      sorted.push_back(std::move(one));
    } else if (!one.answer.ok()) {
      silent.push_back(std::move(one));
    } else {
      if (is_member) staying.push_back(CandidateOf(*one.answer).labels);
      candidates.push_back(CandidateOf(*one.answer));
      others.push_back(std::move(one));
    }
  }
  while (!others.empty()) {
    const auto next = static_cast<std::ptrdiff_t>(Farthest(candidates, staying));
    sorted.push_back(std::move(others[static_cast<size_t>(next)]));
    others.erase(others.begin() + next);
    candidates.erase(candidates.begin() + next);
  }
  for (Found& one : silent) sorted.push_back(std::move(one));
  *found = std::move(sorted);
}

// The first that can.
absl::StatusOr<Provision::Found> Provision::ChooseAmong(std::vector<Found> found, const v1::VolumeRecord& record,
                                                        const v1::Member& member, const std::string& with, bool other,
                                                        const std::set<std::string>& unusable) {
  std::vector<std::string> reasons;
  for (Found& one : found) {
    const std::string& name = one.record.name();
    if (!with.empty() && name != with) continue;
    if (unusable.contains(name)) {
      reasons.push_back(absl::StrCat("replica ", name, " could not make the volume"));
      continue;
    }
    if (other && name == member.replica()) continue;
    absl::Status status = one.answer.status();
    if (one.answer.ok()) {
      one.record.clear_store_id();  // it may have another one
      status = CheckIdentity(one.record, *one.answer, catalog_->cluster_id());
    }
    for (const v1::Member& known : record.members()) {
      if (!status.ok()) break;
      const bool has_store = known.store_id() == one.answer->store_id();
      if (known.replica() == name && name != member.replica()) {
        status = absl::FailedPreconditionError(absl::StrCat("replica ", name, " is a member already"));
      } else if (has_store) {
        status = absl::FailedPreconditionError(
            absl::StrCat("replica ", name, " has the store of member ", known.replica(),
                         known.replica() == name ? ", so it can be brought back as it is" : ""));
      }
    }
    if (status.ok()) return one;
    reasons.push_back(std::string(status.message()));
  }
  if (!with.empty() && reasons.empty()) {
    return absl::NotFoundError(absl::StrCat("no replica ", with, " is known; register it with "
                                            "--replicas"));
  }
  return absl::FailedPreconditionError(absl::StrCat(
      "no replica can take the place of ", member.replica(), " in volume ", record.name(), ": ",
      reasons.empty() ? "no other one is known" : absl::StrJoin(reasons, "; ")));
}

// Who is asked is gone, or another one has its address.
absl::StatusOr<v1::GetReplicaResponse> Provision::AskByName(const std::string& replica, const std::string& address,
                                                              uint64_t volume_id) {
  ASSIGN_OR_RETURN(v1::GetReplicaResponse answer, ReplicaClient(replica, address).GetReplica(kAskDeadline, volume_id));
  const bool other = !answer.cluster_id().empty() && answer.cluster_id() != catalog_->cluster_id();
  if (!other && (answer.name().empty() || answer.name() == replica)) return answer;
  return absl::UnavailableError(absl::StrCat("replica ", replica, " does not answer at ", address, ", but replica '", answer.name(),
                                             other ? "' of another cluster" : "'", " does"));
}

absl::StatusOr<Provision::Asked> Provision::FindCopy(const v1::VolumeRecord& record, const std::string& replica,
                                                     const std::string& address, const std::string& store_id) {
  const absl::StatusOr<catalog::VersionedReplica> known = catalog_->GetReplica(replica);
  Asked copy;
  copy.address = known.ok() ? known->record.address() : address;  // it may have moved since
  const absl::StatusOr<v1::GetReplicaResponse> answer = AskByName(replica, copy.address, record.id());
  engine::Deletion::Replica found;
  found.forgotten = absl::IsNotFound(known.status());
  found.silent = IsSilence(answer.status());
  if (!found.silent) {
    RETURN_IF_ERROR(answer.status());
    found.store_id = answer->store_id();
    copy.incarnation = answer->incarnation();
    if (answer->has_volume_changes()) copy.volume_changes = answer->volume_changes();
  }
  copy.left = engine::Deletion::LeftAt(found, store_id);
  if (copy.left == engine::Deletion::Left::kUnknown) copy.unknown = answer.status();
  if (copy.left == engine::Deletion::Left::kNothing) {
    LOG(INFO) << "volume=" << record.name() << " replica=" << replica << " store=" << store_id
              << (found.silent ? " is forgotten and does not answer; what it had is not asked for any more"
                               : " is gone, the replica has another store");
  }
  return copy;
}

absl::Status Provision::DeleteCopyThere(const v1::VolumeRecord& record, const std::string& replica,
                                        const std::string& store_id, const Asked& asked) {
  v1::Member member;
  member.set_store_id(store_id);
  v1::DeleteReplicaVolumeRequest request;
  *request.mutable_fence() = FenceOf(record, member, catalog_->cluster_id());
  // Never attached: no replica has promised anything, so the first will do.
  request.mutable_fence()->set_epoch(std::max<uint32_t>(1, record.epoch()));
  request.mutable_fence()->set_incarnation(asked.incarnation);
  if (asked.volume_changes) request.set_volume_changes(*asked.volume_changes);
  RETURN_IF_ERROR(ReplicaClient(replica, asked.address).DeleteVolume(request, kChangeDeadline));
  LOG(INFO) << "volume=" << record.name() << " replica=" << replica << " has nothing of it any more";
  return absl::OkStatus();
}

absl::Status Provision::DeleteCopy(const v1::VolumeRecord& record, const std::string& replica,
                                   const std::string& address, const std::string& store_id) {
  absl::Status status;
  // Volumes that it counts with this one come and go, too.
  for (int attempt = 0; attempt < kDeleteAttemptsMax; ++attempt) {
    ASSIGN_OR_RETURN(const Asked copy, FindCopy(record, replica, address, store_id));
    if (copy.left == engine::Deletion::Left::kUnknown) return copy.unknown;
    if (copy.left == engine::Deletion::Left::kNothing) return absl::OkStatus();
    status = DeleteCopyThere(record, replica, store_id, copy);
    if (!absl::IsAborted(status)) break;
  }
  return status;
}

absl::Status Provision::DeleteFromMember(const v1::VolumeRecord& record, const v1::Member& member) {
  const absl::Status status = DeleteCopy(record, member.replica(), member.address(), member.store_id());
  if (status.ok()) return status;
  const std::string forget = absl::StrCat("is back, or, if it never will be, after: weirctl replica forget ", member.replica());
  return absl::Status(status.code(),
                      absl::StrCat(status.message(), "; volume ", record.name(), " stays DELETING: delete it again when replica ",
                                   member.replica(), " ", IsSilence(status) ? forget : "is well, or has another disk"));
}

absl::StatusOr<Provision::Asked> Provision::FindLeftover(const v1::VolumeRecord& record, const v1::FormerMember& former) {
  ASSIGN_OR_RETURN(Asked copy, FindCopy(record, former.replica(), former.address(), former.store_id()));
  // Such a deletion could come late to a member: it can wait until the replica is a newer one.
  if (copy.left == engine::Deletion::Left::kCopy && !copy.volume_changes) {
    copy.left = engine::Deletion::Left::kUnknown;
    copy.unknown = absl::UnimplementedError(absl::StrCat("replica ", former.replica(), " is of an older version"));
  }
  return copy;
}

absl::Status Provision::DeleteLeftover(const v1::VolumeRecord& record, const v1::FormerMember& former, const Asked& asked) {
  return DeleteCopyThere(record, former.replica(), former.store_id(), asked);
}

void Provision::DeleteLeftovers(const v1::VolumeRecord& record) {
  for (const v1::FormerMember& former : record.former()) {
    const absl::Status status = DeleteCopy(record, former.replica(), former.address(), former.store_id());
    if (status.ok()) continue;
    LOG(WARNING) << "volume=" << record.name() << " replica=" << former.replica() << " store="
                 << former.store_id() << " is no member, and keeps what it may have had: " << status;
  }
}

absl::Status Provision::DeleteHeld(VolumeRecordHolder& holder) {
  using Act = engine::Deletion::Act;
  v1::VolumeRecord record = holder.record();
  engine::Deletion deletion(record.state() == v1::VolumeRecord::DELETING, static_cast<size_t>(record.members_size()));
  for (;;) {
    const engine::Deletion::Step step = deletion.Next();
    switch (step.act) {
      case Act::kMark:
        record.set_state(v1::VolumeRecord::DELETING);
        RETURN_IF_ERROR(holder.Commit(record));
        break;
      case Act::kDeleteCopy:
        RETURN_IF_ERROR(DeleteFromMember(record, record.members(static_cast<int>(step.member))));
        break;
      case Act::kRemove:
        DeleteLeftovers(record);
        RETURN_IF_ERROR(holder.Delete());
        break;
      case Act::kDone:
        LOG(INFO) << "volume=" << record.name() << " id=" << record.id() << " deleted";
        return absl::OkStatus();
    }
  }
}

absl::Status Provision::Delete(catalog::VersionedVolume volume) {
  VolumeRecordHolder holder(catalog_, std::move(volume));
  return DeleteHeld(holder);
}

}  // namespace weir::host
