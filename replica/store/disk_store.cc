#include "replica/store/disk_store.h"

#include <algorithm>
#include <random>
#include <set>

#include "absl/strings/str_cat.h"
#include "proto/base/log.h"
#include "proto/base/status_macros.h"
#include "replica/store/drill_fs.h"
#include "replica/store/rocks.h"

namespace weir::store {
namespace {

std::string NewStoreId() {
  std::random_device random;
  std::string id;
  for (int i = 0; i < 4; ++i) absl::StrAppend(&id, absl::Hex(random(), absl::kZeroPad8));
  return id;
}

// Only two processes in 2^64 have the same.
uint64_t NewIncarnation() {
  std::random_device random;
  return (static_cast<uint64_t>(random()) << 32 | random()) | 1;
}

// Calls `visit` with each key of the meta family that starts with `letter`.
template <typename Visit>
absl::Status ForEachVolumeKey(const Domain& domain, char letter,
                              const Visit& visit) {
  std::unique_ptr<rocksdb::Iterator> keys(domain.db()->NewIterator(
      rocksdb::ReadOptions(), domain.family(Family::kMeta)));
  for (keys->Seek(std::string(1, letter)); keys->Valid(); keys->Next()) {
    VolumeId volume{};
    if (!ParseVolumeKey(View(keys->key()), letter, &volume)) break;
    RETURN_IF_ERROR(visit(volume, std::string(View(keys->value()))));
  }
  return FromRocksOpen(keys->status(), absl::StrCat("load ", domain.directory()));
}

// A number of the meta family; `fallback` if there is none.
absl::StatusOr<uint64_t> GetNumber(const Domain& domain, const std::string& key,
                                   absl::optional<uint64_t> fallback) {
  absl::StatusOr<std::string> value = domain.GetMeta(key);
  if (absl::IsNotFound(value.status()) && fallback) return *fallback;
  uint64_t number = 0;
  if (!value.ok() || !ParseNumber(*value, &number)) {
    return absl::DataLossError(absl::StrCat(
        domain.directory(), ": a record of the store is damaged: ",
        value.status().message()));
  }
  return number;
}

}  // namespace

absl::Status Options::Validate() const {
  if (data_dirs.empty()) {
    return absl::InvalidArgumentError("give at least one data directory");
  }
  std::set<std::string> distinct(data_dirs.begin(), data_dirs.end());
  if (distinct.size() != data_dirs.size() || distinct.count("") > 0) {
    return absl::InvalidArgumentError(
        "data directories must be distinct and not empty");
  }
  if (data_dirs.size() > kDomainsMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("at most ", kDomainsMax, " data directories"));
  }
  if (memtable_bytes < (1 << 20)) {
    return absl::InvalidArgumentError("memtable_bytes must be at least 1 MiB");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Store>> Store::Open(const Options& options) {
  return DiskStore::Open(options);
}

absl::StatusOr<std::unique_ptr<Store>> DiskStore::Open(const Options& options) {
  RETURN_IF_ERROR(options.Validate());
  auto store = std::unique_ptr<DiskStore>(new DiskStore(options));
  store->env_ = options.env != nullptr ? options.env : rocksdb::Env::Default();
  for (uint32_t i = 0; options.file_fault != nullptr && i < options.data_dirs.size(); ++i) {
    store->drill_envs_.push_back(NewDrillEnv(
        store->env_, [ask = options.file_fault, i](FileAct act) { return ask(i, act); }));
  }
  RETURN_IF_ERROR(store->OpenDirectories());
  RETURN_IF_ERROR(store->RaiseGeneration());
  RETURN_IF_ERROR(store->LoadVolumes());
  std::vector<Domain*> domains;
  for (const auto& domain : store->domains_) domains.push_back(domain.get());
  store->purge_ = std::make_unique<Purge>(domains);
  store->relief_ = std::make_unique<Relief>(std::move(domains));
  RETURN_IF_ERROR(store->LoadDeleted());
  RETURN_IF_ERROR(store->health());
  return std::unique_ptr<Store>(std::move(store));
}

DiskStore::DiskStore(const Options& options) : options_(options), incarnation_(NewIncarnation()) {}

DiskStore::~DiskStore() {
  purge_.reset();
  relief_.reset();
  for (const auto& domain : domains_) {
    SyncResult synced = domain->Sync();
    if (!synced.ok()) {
      LOG(WARNING) << "store closes without a sync: " << synced.status().message();
    }
  }
  // While all else still lives: RocksDB may fail even as it closes, and tells us.
  domains_.clear();
}

absl::Status DiskStore::OpenDirectories() {
  ASSIGN_OR_RETURN(locks_, DirectoryLocks::Take(env_, options_.data_dirs));
  ASSIGN_OR_RETURN(Directories found, Inspect(env_, options_.data_dirs));
  if (found.make) {
    found.store_id = NewStoreId();
    RETURN_IF_ERROR(MakeDomains(found));
  }
  return OpenDomains(found);
}

DomainSettings DiskStore::SettingsOf(uint32_t index,
                                     const std::string& store_id) {
  return DomainSettings{
      .env = EnvOf(index),
      .directory = options_.data_dirs[index],
      .store_id = store_id,
      .index = index,
      .tuning = {.memtable_bytes = options_.memtable_bytes,
                 .block_cache_bytes = options_.block_cache_bytes},
      .on_failure = [this](const absl::Status& reason) { DomainFailed(reason); },
  };
}

absl::Status DiskStore::MakeDomains(const Directories& found) {
  const uint32_t count = static_cast<uint32_t>(options_.data_dirs.size());
  for (uint32_t i = 0; i < count; ++i) {
    RETURN_IF_ERROR(RemoveUnfinished(EnvOf(i), options_.data_dirs[i]));
    RETURN_IF_ERROR(
        Domain::Make(SettingsOf(i, found.store_id),
                     EncodeIdentity({found.store_id, i, count})));
  }
  return absl::OkStatus();
}

absl::Status DiskStore::OpenDomains(const Directories& found) {
  store_id_ = found.store_id;
  const uint32_t count = static_cast<uint32_t>(options_.data_dirs.size());
  for (uint32_t i = 0; i < count; ++i) {
    const DirectoryIdentity identity{store_id_, i, count};
    ASSIGN_OR_RETURN(
        std::unique_ptr<Domain> domain,
        Domain::Open(SettingsOf(i, store_id_), EncodeIdentity(identity)));
    domains_.push_back(std::move(domain));
    admission_.push_back(std::make_unique<Admission>(
        env_, options_.data_dirs[i], options_.reserve_bytes, [this, i] {
          if (relief_ != nullptr) relief_->Want(i);
        }));
  }
  // The last act of making a store; before it nothing was served.
  for (uint32_t i = 0; i < count; ++i) {
    if (!found.finish[i]) continue;
    RETURN_IF_ERROR(WriteIdentity(EnvOf(i), options_.data_dirs[i],
                                  {store_id_, i, count}));
  }
  return absl::OkStatus();
}

// Every Open raises it, in all domains one after the other. So they are equal,
// or the first ones are ahead by one; a domain further behind is an old copy.
absl::Status DiskStore::RaiseGeneration() {
  std::vector<uint64_t> found;
  for (const auto& domain : domains_) {
    ASSIGN_OR_RETURN(uint64_t number,
                     GetNumber(*domain, kGenerationKey, absl::nullopt));
    found.push_back(number);
  }
  // A start that was cut leaves the later ones one behind.
  ASSIGN_OR_RETURN(const uint64_t raised, GetNumber(*domains_[0], kRaisedKey, 0));
  const bool behind = found.front() != found.back() && raised >= found.front();
  if (behind || !std::is_sorted(found.rbegin(), found.rend()) ||
      found.front() - found.back() > 1) {
    return absl::DataLossError(absl::StrCat(
        "a data directory is an old copy: the store's directories were opened ",
        found.front(), " and ", found.back(), " times"));
  }
  generation_ =
      found.front() == found.back() ? found.front() + 1 : found.front();
  for (size_t i = 0; i < domains_.size(); ++i) {
    rocksdb::WriteBatch batch;
    RETURN_IF_ERROR(FromRocks(
        batch.Put(kGenerationKey, EncodeNumber(generation_)), "raise generation"));
    RETURN_IF_ERROR(domains_[i]->Write(&batch));
    SyncResult synced = domains_[i]->Sync();
    RETURN_IF_ERROR(synced.status());
  }
  // Durable with whatever is synced next.
  rocksdb::WriteBatch batch;
  RETURN_IF_ERROR(FromRocks(batch.Put(kRaisedKey, EncodeNumber(generation_)), "raise generation"));
  RETURN_IF_ERROR(domains_[0]->Write(&batch));
  absl::StatusOr<std::string> cluster = domains_[0]->GetMeta(kClusterKey);
  if (!cluster.ok() && !absl::IsNotFound(cluster.status())) {
    return cluster.status();
  }
  absl::MutexLock lock(&mutex_);
  cluster_id_ = cluster.ok() ? *cluster : "";
  return absl::OkStatus();
}

absl::Status DiskStore::LoadVolumes() {
  return ForEachVolumeKey(
      *domains_[0], 'v', [this](VolumeId id, const std::string& record) {
        return LoadVolume(id, record);
      });
}

absl::Status DiskStore::LoadVolume(VolumeId id, const std::string& record) {
  auto volume = std::make_shared<Volume>();
  volume->id = id;
  VolumeGeometry geometry;
  if (!ParseGeometry(record, &geometry)) {
    return absl::DataLossError(absl::StrCat(
        "the record of volume ", static_cast<uint64_t>(id), " is damaged"));
  }
  volume->set_geometry(geometry);
  ASSIGN_OR_RETURN(uint64_t promised,
                   GetNumber(*domains_[0], PromiseKey(id), 0));
  {
    absl::MutexLock lock(&volume->mutex);
    volume->promised_epoch = static_cast<Epoch>(promised);
  }
  for (uint32_t i = 0; i < geometry.lanes.lanes; ++i) {
    ASSIGN_OR_RETURN(std::shared_ptr<Lane> lane, LoadLane(*volume, LaneId{i}));
    RETURN_IF_ERROR(CheckChanges(*lane));
    DomainOf(*lane)->pins()->AddLane(lane);
    if (lane->state().durable < lane->state().position) {
      DomainOf(*lane)->MarkDirty(lane);
    }
    volume->lanes.push_back(std::move(lane));
  }
  absl::MutexLock lock(&mutex_);
  volumes_[id] = std::move(volume);
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<Lane>> DiskStore::LoadLane(const Volume& volume,
                                                          LaneId lane) {
  const VolumeId id = volume.id;
  const uint32_t index = DomainOf(lane);
  const Domain& domain = *domains_[index];
  ASSIGN_OR_RETURN(uint64_t position,
                   GetNumber(domain, PositionKey(id, lane), absl::nullopt));
  ASSIGN_OR_RETURN(uint64_t synced, GetNumber(domain, SyncedKey(id, lane), 0));
  ASSIGN_OR_RETURN(uint64_t point, GetNumber(domain, PointKey(id, lane), 0));
  Lane::State state;
  state.position = Position::FromBits(position);
  state.durable = Position::FromBits(synced);
  state.noted = state.point = Position::FromBits(point);
  absl::StatusOr<std::string> lineage = domain.GetMeta(LineageKey(id, lane));
  const bool good =
      absl::IsNotFound(lineage.status()) ||
      (lineage.ok() && ParseLineage(*lineage, &state.lineage));
  absl::StatusOr<std::string> pins = domain.GetMeta(PinsKey(id, lane));
  const bool good_pins = absl::IsNotFound(pins.status()) ||
                         (pins.ok() && ParsePins(*pins, &state.pins));
  RETURN_IF_ERROR(LoadJoin(volume, lane, &state));
  if (!good || !good_pins || state.durable > state.position) {
    return absl::DataLossError(absl::StrCat(
        domain.directory(), ": lane ", Index(lane), " of volume ",
        static_cast<uint64_t>(id), " is inconsistent"));
  }
  return std::make_shared<Lane>(id, lane, index, std::move(state));
}

// What lies above the newest sync mark was not verified by the floor. Each
// write there has its change; a missing one would be a hole in the lane.
absl::Status DiskStore::CheckChanges(const Lane& lane) const {
  const Lane::State state = lane.state();
  const Domain& domain = *DomainOf(lane);
  // A join or an adopted tail put the lane there in one batch.
  Position last = std::max(state.durable, state.jumped);
  RETURN_IF_ERROR(ForEachChange(
      NewChangesIterator(lane).get(), lane, last,
      [&last](const ChangeEntry& change, Position) {
        const Position found = change.position;
        const bool follows =
            found == last.Next() ||
            (found.epoch() > last.epoch() && found.n() == 1);
        if (follows) last = found;
        return follows;
      }));
  const bool base_only = state.position.n() == 0;  // taken above `last`
  if (last == state.position || base_only) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat(
      domain.directory(), ": lane ", Index(lane.id), " of volume ",
      static_cast<uint64_t>(lane.volume), " has a hole after ",
      last.ToString()));
}

// Volumes that were being deleted, or whose creation was cut short.
absl::Status DiskStore::LoadDeleted() {
  std::set<VolumeId> deleted;
  for (const auto& domain : domains_) {
    RETURN_IF_ERROR(ForEachVolumeKey(
        *domain, 'x', [&](VolumeId id, const std::string&) {
          deleted.insert(id);
          return absl::OkStatus();
        }));
    RETURN_IF_ERROR(ForEachVolumeKey(
        *domain, 'w', [&](VolumeId id, const std::string&) {
          if (FindOrNull(id) == nullptr) deleted.insert(id);
          return absl::OkStatus();
        }));
  }
  for (VolumeId id : deleted) {
    // Deleting starts with domain 0, creating ends there.
    if (FindOrNull(id) != nullptr) {
      return absl::DataLossError(absl::StrCat(
          "volume ", static_cast<uint64_t>(id), " exists but is being deleted"));
    }
    Volume nothing;
    nothing.id = id;
    for (uint32_t i = 0; i < num_domains(); ++i) {
      RETURN_IF_ERROR(DeleteInDomain(i, nothing));
    }
    purge_->Add(id);
  }
  return absl::OkStatus();
}

void DiskStore::DomainFailed(const absl::Status& reason) {
  {
    absl::MutexLock lock(&mutex_);
    // A failed sync of one domain counts though another one has been short of files before.
    if (!failure_.ok() && (TellsOfShortage(reason) || !TellsOfShortage(failure_))) return;
    failure_ = reason;
  }
  // Then the disk is as it was: the next process, which may open more, goes on by what is synced.
  if (TellsOfShortage(reason)) return;
  for (uint32_t i = 0; i < options_.data_dirs.size(); ++i) {
    MarkFailed(EnvOf(i), options_.data_dirs[i], std::string(reason.message()));
  }
}

absl::Status DiskStore::health() const {
  absl::MutexLock lock(&mutex_);
  return failure_;
}

Identity DiskStore::identity() const {
  absl::MutexLock lock(&mutex_);
  return {store_id_, cluster_id_, generation_, incarnation_};
}

}  // namespace weir::store
