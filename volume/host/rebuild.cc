#include "volume/host/rebuild.h"

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <thread>
#include <utility>

#include "absl/algorithm/container.h"
#include "absl/strings/str_cat.h"
#include "proto/base/log.h"
#include "proto/base/status_macros.h"
#include "volume/engine/rebuild.h"
#include "volume/host/clone_codec.h"
#include "volume/host/replica_client.h"
#include "volume/host/volume_record.h"

namespace weir::host {
namespace {

constexpr absl::Duration kAskDeadline = absl::Seconds(5);

// What all replicas have of one volume: by source its copy, if it can be read.
struct Volume {
  uint64_t id = 0;
  std::vector<engine::RebuildSource> sources;
  std::vector<v1::VolumeRecord> copies;
};

void AddSource(const v1::ListRecordsResponse& replica, const v1::KeptRecord& kept, Volume* volume) {
  engine::RebuildSource source;
  source.replica = replica.name();
  source.store_id = replica.store_id();
  source.promised = kept.promised_epoch();
  source.lanes = DecodeLanes(kept.lanes());
  source.pins.assign(kept.pins().begin(), kept.pins().end());
  source.size_blocks = kept.size_bytes() / kBlockBytes;
  v1::VolumeRecord record;
  if (!kept.record().empty()) {
    const bool parsed = record.ParseFromString(kept.record()) && record.id() == kept.volume_id();
    if (parsed && CheckRecord(record).ok()) {
      source.copy = {kept.epoch(), kept.revision(), ToTakeover(record)};
    } else {
      LOG(WARNING) << "rebuild: replica=" << replica.name() << " volume=" << kept.volume_id()
                   << " its copy of the record cannot be read, and is passed over";
    }
  }
  volume->sources.push_back(std::move(source));
  volume->copies.push_back(std::move(record));
}

std::vector<Volume> VolumesOf(const std::vector<AnsweredReplica>& replicas) {
  std::map<uint64_t, Volume> volumes;
  std::set<std::string> seen;
  for (const AnsweredReplica& replica : replicas) {
    if (!seen.insert(replica.answer.store_id()).second) continue;  // found at two addresses
    for (const v1::KeptRecord& kept : replica.answer.records()) {
      Volume& volume = volumes[kept.volume_id()];
      volume.id = kept.volume_id();
      AddSource(replica.answer, kept, &volume);
    }
  }
  std::vector<Volume> listed;
  for (auto& [id, volume] : volumes) listed.push_back(std::move(volume));
  return listed;
}

// The copy with what was decided. Who had it is gone.
v1::VolumeRecord RecordOf(const Volume& volume, const engine::Rebuilt& rebuilt) {
  v1::VolumeRecord record = WithTakeover(volume.copies[rebuilt.source], rebuilt.record);
  record.set_size_bytes(rebuilt.record.size_blocks * kBlockBytes);
  record.clear_frontend();
  record.clear_frontend_address();
  record.clear_behind();
  // It may be an older record's, and deletes stores.
  record.clear_former();
  auto* snapshots = record.mutable_snapshots();
  snapshots->erase(std::remove_if(snapshots->begin(), snapshots->end(),
                                  [&](const v1::SnapshotRecord& snapshot) {
                                    return absl::c_linear_search(rebuilt.lost_pins, snapshot.pin().id());
                                  }),
                   snapshots->end());
  return record;
}

void Describe(const Volume& volume, const engine::Rebuilt& rebuilt, v1::RebuiltVolume* out) {
  const v1::VolumeRecord& copy = volume.copies[rebuilt.source];
  out->set_name(copy.name());
  out->set_size_bytes(rebuilt.record.size_blocks * kBlockBytes);
  out->set_epoch(rebuilt.record.act_epoch);
  for (const engine::TakeoverMember& member : rebuilt.record.members) {
    if (member.in_sync) out->add_in_sync(member.replica);
  }
  for (const v1::SnapshotRecord& snapshot : copy.snapshots()) {
    if (absl::c_linear_search(rebuilt.lost_pins, snapshot.pin().id())) out->add_lost_snapshots(snapshot.name());
  }
}

void Refuse(const std::string& reason, v1::RebuiltVolume* out) {
  out->set_outcome(v1::RebuiltVolume::REFUSED);
  out->set_reason(reason);
}

absl::Status PutReplicaIfNew(catalog::Catalog& catalog, const AnsweredReplica& replica) {
  const absl::StatusOr<catalog::VersionedReplica> known = catalog.GetReplica(replica.answer.name());
  if (!absl::IsNotFound(known.status())) return known.status();
  v1::ReplicaRecord record;
  record.set_name(replica.answer.name());
  record.set_address(replica.address);
  record.set_store_id(replica.answer.store_id());
  const absl::Status put = catalog.PutReplica(record, 0).status();
  // It has registered itself meanwhile.
  return absl::IsAborted(put) ? absl::OkStatus() : put;
}

absl::Status CheckCluster(const catalog::Catalog& catalog, const std::vector<AnsweredReplica>& replicas) {
  for (const AnsweredReplica& replica : replicas) {
    const std::string& cluster = replica.answer.cluster_id();
    if (cluster.empty() || cluster == catalog.cluster_id()) continue;
    return absl::FailedPreconditionError(absl::StrCat(
        "replica ", replica.answer.name(), " is of cluster ", cluster, ", and this catalog of cluster ",
        catalog.cluster_id(), ". Start the frontend with a new catalog that is made for that cluster: "
        "--catalog=embedded:DIR?cluster=", cluster, " or --catalog=etcd:...?cluster=", cluster));
  }
  return absl::OkStatus();
}

// What is to become of one volume.
struct Decided {
  v1::RebuiltVolume out;
  v1::VolumeRecord record;  // if it is REBUILT
  uint64_t revision = 0;    // of the one that it takes the place of
};

// It was rebuilt, and no takeover since has come to its end: so that it can be tried without somebody, for example.
bool IsRebuiltOnly(const v1::VolumeRecord& record) {
  // Each activation says since when nothing was lost.
  return record.state() == v1::VolumeRecord::RECOVERING && record.intact_since() == 0 && record.act_epoch() > 0;
}

bool IsEmpty(const Volume& volume) {
  return absl::c_all_of(volume.sources, [](const engine::RebuildSource& source) {
    return !source.copy && absl::c_all_of(source.lanes, [](const auto& lane) { return lane.position.n() == 0; });
  });
}

// Why what the replicas have may still change.
absl::Status CheckFenced(const Volume& volume, const std::set<std::string>& without, const Fences& fences) {
  const auto fence = fences.find(volume.id);
  const bool fenced = fence != fences.end();
  if (fenced) RETURN_IF_ERROR(fence->second.status());
  const bool kept = fenced && absl::c_all_of(volume.sources, [&](const engine::RebuildSource& source) {
    return without.contains(source.replica) || source.promised >= *fence->second;
  });
  if (kept) return absl::OkStatus();
  return absl::AbortedError("what the replicas say of it has changed meanwhile; try again");
}

Decided Decide(const Volume& volume, const std::vector<catalog::VersionedVolume>& known,
               const std::set<std::string>& without, const Fences* fences) {
  Decided decided;
  decided.out.set_volume_id(volume.id);
  const auto same = absl::c_find_if(known, [&](const auto& one) { return one.record.id() == volume.id; });
  if (same != known.end()) {
    decided.out.set_name(same->record.name());
    decided.revision = same->revision;
    if (!IsRebuiltOnly(same->record)) {
      decided.out.set_outcome(v1::RebuiltVolume::KNOWN);
      return decided;
    }
  }
  if (same == known.end() && IsEmpty(volume)) {
    decided.out.set_outcome(v1::RebuiltVolume::EMPTY);
    decided.out.set_reason("it was never attached, so there is nothing to rebuild");
    return decided;
  }
  absl::StatusOr<engine::Rebuilt> rebuilt = engine::Rebuild(volume.sources, without);
  if (!rebuilt.ok()) {
    for (const v1::VolumeRecord& copy : volume.copies) {
      if (!copy.name().empty()) decided.out.set_name(copy.name());
    }
    Refuse(std::string(rebuilt.status().message()), &decided.out);
    return decided;
  }
  if (same == known.end() && fences != nullptr) {
    const absl::Status fenced = CheckFenced(volume, without, *fences);
    if (!fenced.ok()) {
      decided.out.set_name(volume.copies[rebuilt->source].name());
      Refuse(std::string(fenced.message()), &decided.out);
      return decided;
    }
  }
  // Takeovers of the record that it takes the place of have gone on from there.
  if (same != known.end()) rebuilt->record.epoch = std::max(rebuilt->record.epoch, Epoch{same->record.epoch()});
  decided.record = RecordOf(volume, *rebuilt);
  Describe(volume, *rebuilt, &decided.out);
  decided.out.set_outcome(v1::RebuiltVolume::REBUILT);
  return decided;
}

void RefuseSecondOfAName(const std::vector<catalog::VersionedVolume>& known, std::vector<Decided>* decided) {
  std::map<std::string, uint64_t> names;
  for (const catalog::VersionedVolume& one : known) names[one.record.name()] = one.record.id();
  for (Decided& one : *decided) {
    if (one.out.outcome() != v1::RebuiltVolume::REBUILT) continue;
    const auto [found, first] = names.emplace(one.out.name(), one.out.volume_id());
    if (first || found->second == one.out.volume_id()) continue;
    Refuse("there is another volume of that name; delete that one first, if it is the one not wanted", &one.out);
  }
}

// A clone's parent must keep the snapshot that it reads from: of changes while the parent was detached no copy tells.
void LinkClones(const std::vector<catalog::VersionedVolume>& known, std::vector<Decided>* decided) {
  for (Decided& clone : *decided) {
    if (clone.out.outcome() != v1::RebuiltVolume::REBUILT || !clone.record.has_parent()) continue;
    const v1::ParentRecord& parent = clone.record.parent();
    const bool parent_known = absl::c_any_of(known, [&](const auto& one) {
      return one.record.id() == parent.volume_id() && FindSnapshot(one.record, parent.snapshot()) != nullptr;
    });
    const auto found = absl::c_find_if(*decided, [&](const Decided& one) {
      return one.out.volume_id() == parent.volume_id() && one.out.outcome() == v1::RebuiltVolume::REBUILT;
    });
    if (found == decided->end()) {
      if (parent_known) continue;
      Refuse(absl::StrCat("it is a clone of ", parent.volume(), "@", parent.snapshot(),
                          ", which is not there; that must be rebuilt as well"), &clone.out);
      continue;
    }
    v1::SnapshotRecord* snapshot = nullptr;
    for (v1::SnapshotRecord& one : *found->record.mutable_snapshots()) {
      if (one.pin().id() == parent.pin()) snapshot = &one;
    }
    if (snapshot == nullptr) {
      // Its pin would be dropped on those that still have it.
      Refuse(absl::StrCat("clone ", clone.out.name(), " reads from its snapshot ", parent.snapshot(),
                          ", which not every replica in sync has; start all replicas"), &found->out);
      Refuse(absl::StrCat("its parent ", parent.volume(), " cannot be rebuilt"), &clone.out);
      continue;
    }
    const bool named = absl::c_any_of(snapshot->clones(), [&](const v1::CloneRecord& one) {
      return one.volume_id() == clone.out.volume_id();
    });
    if (named) continue;
    v1::CloneRecord* added = snapshot->add_clones();
    added->set_volume(clone.out.name());
    added->set_volume_id(clone.out.volume_id());
  }
}

}  // namespace

absl::StatusOr<v1::RebuildCatalogResponse> RebuildCatalog(catalog::Catalog& catalog,
                                                          const std::vector<AnsweredReplica>& replicas,
                                                          const v1::RebuildCatalogRequest& request,
                                                          const Fences* fences) {
  RETURN_IF_ERROR(CheckCluster(catalog, replicas));
  ASSIGN_OR_RETURN(const std::vector<catalog::VersionedVolume> known, catalog.ListVolumes());
  const std::set<std::string> without(request.without().begin(), request.without().end());
  std::vector<Decided> decided;
  for (const Volume& volume : VolumesOf(replicas)) decided.push_back(Decide(volume, known, without, fences));
  RefuseSecondOfAName(known, &decided);
  LinkClones(known, &decided);
  v1::RebuildCatalogResponse response;
  for (Decided& one : decided) {
    if (!request.dry_run() && one.out.outcome() == v1::RebuiltVolume::REBUILT) {
      for (const AnsweredReplica& replica : replicas) RETURN_IF_ERROR(PutReplicaIfNew(catalog, replica));
      const absl::Status put = catalog.PutVolume(one.record, one.revision).status();
      LOG(WARNING) << "rebuild: volume=" << one.out.name() << " epoch=" << one.out.epoch() << ": " << put;
      if (!put.ok()) Refuse(std::string(put.message()), &one.out);
    }
    *response.add_volumes() = std::move(one.out);
  }
  return response;
}

namespace {

struct Asked {
  std::string name;
  std::string address;
  absl::StatusOr<v1::ListRecordsResponse> answer = absl::UnavailableError("not asked");
};

absl::StatusOr<std::vector<Asked>> AskReplicas(catalog::Catalog& catalog,
                                               const v1::RebuildCatalogRequest& request) {
  ASSIGN_OR_RETURN(const std::vector<catalog::VersionedReplica> known, catalog.ListReplicas());
  std::vector<Asked> asked;
  for (const catalog::VersionedReplica& replica : known) {
    asked.push_back({replica.record.name(), replica.record.address()});
  }
  for (const std::string& address : request.addresses()) asked.push_back({address, address});
  std::vector<std::thread> threads;
  for (Asked& one : asked) {
    threads.emplace_back([&one] { one.answer = ReplicaClient(one.name, one.address).ListRecords(kAskDeadline); });
  }
  for (std::thread& thread : threads) thread.join();
  return asked;
}

std::vector<AnsweredReplica> Answered(const std::vector<Asked>& asked) {
  std::vector<AnsweredReplica> answered;
  for (const Asked& one : asked) {
    if (one.answer.ok()) answered.push_back({one.address, *one.answer});
  }
  return answered;
}

// A frontend may be left that serves, or a call of one that has ended may be under way, or a takeover whose catalog is lost.
absl::StatusOr<Epoch> FenceWhoServed(const std::string& cluster_id, const std::vector<AnsweredReplica>& replicas,
                                     const std::set<std::string>& without, uint64_t volume_id) {
  Epoch promised = 0;
  std::vector<const AnsweredReplica*> having;
  for (const AnsweredReplica& replica : replicas) {
    for (const v1::KeptRecord& kept : replica.answer.records()) {
      if (kept.volume_id() != volume_id) continue;
      promised = std::max(promised, Epoch{kept.promised_epoch()});
      having.push_back(&replica);
    }
  }
  const Epoch fence = promised + engine::kEpochsSkipped / 2;
  for (const AnsweredReplica* replica : having) {
    v1::SealRequest request;
    *request.mutable_fence() = NewFence(cluster_id);
    request.mutable_fence()->set_store_id(replica->answer.store_id());
    request.mutable_fence()->set_volume_id(volume_id);
    request.mutable_fence()->set_epoch(fence);
    const std::string& name = replica->answer.name();
    const absl::Status sealed = ReplicaClient(name, replica->address).Seal(request, kAskDeadline).status();
    if (sealed.ok() || without.contains(name)) continue;
    return absl::Status(sealed.code(), absl::StrCat("whoever served it cannot be fenced: ", sealed.message(),
                                                    "; mend that, or do without it (--without=", name, ")"));
  }
  return fence;
}

}  // namespace

absl::StatusOr<v1::RebuildCatalogResponse> AskAndRebuildCatalog(catalog::Catalog& catalog,
                                                                const v1::RebuildCatalogRequest& request) {
  ASSIGN_OR_RETURN(std::vector<Asked> asked, AskReplicas(catalog, request));
  std::vector<AnsweredReplica> answered = Answered(asked);
  Fences fences;
  if (!request.dry_run()) {
    v1::RebuildCatalogRequest dry = request;
    dry.set_dry_run(true);
    ASSIGN_OR_RETURN(const v1::RebuildCatalogResponse plan, RebuildCatalog(catalog, answered, dry));
    const std::set<std::string> without(request.without().begin(), request.without().end());
    for (const v1::RebuiltVolume& volume : plan.volumes()) {
      if (volume.outcome() != v1::RebuiltVolume::REBUILT) continue;
      // One that is decided anew was fenced at its first time, and may be being attached.
      if (!absl::IsNotFound(catalog.GetVolume(volume.name()).status())) continue;
      fences.emplace(volume.volume_id(), FenceWhoServed(catalog.cluster_id(), answered, without, volume.volume_id()));
    }
    ASSIGN_OR_RETURN(asked, AskReplicas(catalog, request));
    answered = Answered(asked);
  }
  std::vector<std::string> unreachable;
  for (const Asked& one : asked) {
    if (one.answer.ok() || absl::c_linear_search(request.without(), one.name)) continue;
    unreachable.push_back(std::string(one.answer.status().message()));
  }
  ASSIGN_OR_RETURN(v1::RebuildCatalogResponse response, RebuildCatalog(catalog, answered, request,
                                                                              request.dry_run() ? nullptr : &fences));
  response.mutable_unreachable()->Assign(unreachable.begin(), unreachable.end());
  return response;
}

}  // namespace weir::host
