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
  for (const v1::LanePosition& lane : kept.positions()) {
    source.positions.push_back(Position::FromBits(lane.position()));
  }
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
    if (!seen.insert(replica.answer.name()).second) continue;  // found at two addresses
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

}  // namespace

absl::StatusOr<v1::RebuildCatalogResponse> RebuildCatalog(catalog::Catalog& catalog,
                                                          const std::vector<AnsweredReplica>& replicas,
                                                          const v1::RebuildCatalogRequest& request) {
  for (const AnsweredReplica& replica : replicas) {
    const std::string& cluster = replica.answer.cluster_id();
    if (cluster.empty() || cluster == catalog.cluster_id()) continue;
    return absl::FailedPreconditionError(absl::StrCat(
        "replica ", replica.answer.name(), " is of cluster ", cluster, ", and this catalog of cluster ",
        catalog.cluster_id(), ". Start the frontend with a new catalog that is made for that cluster: "
        "--catalog=embedded:DIR?cluster=", cluster, " or --catalog=etcd:...?cluster=", cluster));
  }
  ASSIGN_OR_RETURN(const std::vector<catalog::VersionedVolume> known, catalog.ListVolumes());
  const std::set<std::string> without(request.without().begin(), request.without().end());
  if (!request.dry_run()) {
    for (const AnsweredReplica& replica : replicas) RETURN_IF_ERROR(PutReplicaIfNew(catalog, replica));
  }
  v1::RebuildCatalogResponse response;
  std::set<std::string> names;
  for (const catalog::VersionedVolume& one : known) names.insert(one.record.name());
  for (const Volume& volume : VolumesOf(replicas)) {
    v1::RebuiltVolume* out = response.add_volumes();
    out->set_volume_id(volume.id);
    const auto same = absl::c_find_if(known, [&](const auto& one) { return one.record.id() == volume.id; });
    if (same != known.end()) {
      out->set_name(same->record.name());
      out->set_outcome(v1::RebuiltVolume::KNOWN);
      continue;
    }
    const absl::StatusOr<engine::Rebuilt> rebuilt = engine::Rebuild(volume.sources, without);
    if (!rebuilt.ok()) {
      for (const v1::VolumeRecord& copy : volume.copies) {
        if (!copy.name().empty()) out->set_name(copy.name());
      }
      Refuse(std::string(rebuilt.status().message()), out);
      continue;
    }
    Describe(volume, *rebuilt, out);
    if (!names.insert(out->name()).second) {
      Refuse("another volume of that name is there; delete that one, or the data of this one", out);
      continue;
    }
    out->set_outcome(v1::RebuiltVolume::REBUILT);
    if (request.dry_run()) continue;
    const absl::Status put = catalog.PutVolume(RecordOf(volume, *rebuilt), 0).status();
    if (!put.ok()) Refuse(std::string(put.message()), out);
    LOG(WARNING) << "rebuild: volume=" << out->name() << " epoch=" << out->epoch() << ": " << put;
  }
  return response;
}

absl::StatusOr<v1::RebuildCatalogResponse> AskAndRebuildCatalog(catalog::Catalog& catalog,
                                                                const v1::RebuildCatalogRequest& request) {
  struct Asked {
    std::string name;
    std::string address;
    absl::StatusOr<v1::ListRecordsResponse> answer = absl::UnavailableError("not asked");
  };
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
  std::vector<AnsweredReplica> answered;
  std::vector<std::string> unreachable;
  for (const Asked& one : asked) {
    if (one.answer.ok()) {
      answered.push_back({one.address, *one.answer});
    } else {
      unreachable.push_back(std::string(one.answer.status().message()));
    }
  }
  ASSIGN_OR_RETURN(v1::RebuildCatalogResponse response, RebuildCatalog(catalog, answered, request));
  response.mutable_unreachable()->Assign(unreachable.begin(), unreachable.end());
  return response;
}

}  // namespace weir::host
