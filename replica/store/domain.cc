#include "replica/store/domain.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/base/check.h"
#include "proto/base/errno.h"
#include "proto/base/log.h"
#include "proto/base/patient_fs.h"
#include "proto/base/status_macros.h"
#include "replica/store/directory.h"
#include "replica/store/keys.h"
#include "replica/store/rocks.h"

namespace weir::store {

std::string FloorPath(const std::string& directory) {
  return directory + "/FLOOR";
}
std::string DatabasePath(const std::string& directory) {
  return directory + "/db";
}

// Turns RocksDB's background errors into the domain's failure.
class Domain::Listener : public rocksdb::EventListener {
 public:
  explicit Listener(Domain* domain) : domain_(domain) {}
  void OnBackgroundError(rocksdb::BackgroundErrorReason reason,
                         rocksdb::Status* error) override {
    // A compaction that found no space has harmed nothing and is tried again.
    // Admission keeps room, so only a stranger on the disk can cause it.
    if (reason == rocksdb::BackgroundErrorReason::kCompaction &&
        error->IsNoSpace()) {
      LOG(WARNING) << "store domain=" << domain_->index()
                   << " compaction waits for space: " << error->ToString();
      *error = rocksdb::Status::OK();
      return;
    }
    domain_->Fail(FromRocks(*error, absl::StrCat("RocksDB in ",
                                                 domain_->directory())));
  }
  void OnStallConditionsChanged(const rocksdb::WriteStallInfo& info) override {
    if (info.condition.cur == rocksdb::WriteStallCondition::kDelayed) ++domain_->events_.slowdowns;
    if (info.condition.cur == rocksdb::WriteStallCondition::kStopped) ++domain_->events_.stops;
  }
  void OnCompactionCompleted(rocksdb::DB*, const rocksdb::CompactionJobInfo& job) override {
    ++domain_->events_.compactions;
    domain_->events_.compaction_written_bytes +=
        job.stats.total_output_bytes + job.stats.total_output_bytes_blob;
    domain_->events_.compaction_microseconds += job.stats.elapsed_micros;
  }
  void OnFlushCompleted(rocksdb::DB*, const rocksdb::FlushJobInfo&) override {
    ++domain_->events_.memtable_flushes;
  }

 private:
  Domain* const domain_;
};

Domain::Domain(DomainSettings settings)
    : settings_(std::move(settings)),
      guard_(std::make_shared<GuardFs>(
          std::make_shared<PatientFs>(settings_.env->GetFileSystem()),
          [this](const rocksdb::IOStatus& status) {
            Fail(FromRocks(status, absl::StrCat("disk of ", directory())));
          })),
      env_(std::make_unique<GuardedEnv>(settings_.env, guard_)) {}

Domain::~Domain() {
  if (db_ == nullptr) return;
  for (rocksdb::ColumnFamilyHandle* family : families_) {
    db_->DestroyColumnFamilyHandle(family);
  }
  rocksdb::Status status = db_->Close();
  if (!status.ok()) {
    LOG(WARNING) << "store domain=" << index() << " close: " << status.ToString();
  }
}

absl::Status Domain::OpenDatabase(bool create) {
  rocksdb::DBOptions options = DatabaseOptions(settings_.tuning);
  options.env = env_.get();
  options.create_if_missing = create;
  options.create_missing_column_families = create;
  options.error_if_exists = create;
  options.wal_filter = &continuity_;
  options.listeners.push_back(std::make_shared<Listener>(this));
  rocksdb::DB* db = nullptr;
  RETURN_IF_ERROR(FromRocksOpen(
      rocksdb::DB::Open(options, database_directory(),
                        FamilyDescriptors(settings_.tuning, pins_), &families_,
                        &db),
      absl::StrCat("open database ", database_directory())));
  db_.reset(db);
  RETURN_IF_ERROR(health());
  guard_->Opened();
  // What recovery wrote must not vanish with its directory entries.
  return SyncDirectory(settings_.env, database_directory());
}

absl::Status Domain::Make(const DomainSettings& settings,
                          const std::string& identity) {
  RETURN_IF_ERROR(FloorFile::Make(
      settings.env, FloorPath(settings.directory),
      Floor{.store_id = settings.store_id, .domain = settings.index}));
  RETURN_IF_ERROR(SyncDirectory(settings.env, settings.directory));
  // What fails here has served nobody: it may be tried again.
  DomainSettings quiet = settings;
  quiet.on_failure = nullptr;
  Domain domain(quiet);
  RETURN_IF_ERROR(domain.OpenDatabase(/*create=*/true));
  rocksdb::WriteBatch batch;
  batch.Put(kIdentityKey, identity);
  batch.Put(kMarkKey, EncodeNumber(0));
  batch.Put(kGenerationKey, EncodeNumber(0));
  rocksdb::WriteOptions synced;
  synced.sync = true;
  RETURN_IF_ERROR(FromRocksOpen(
      domain.db_->Write(synced, &batch),
      absl::StrCat("make database in ", settings.directory)));
  RETURN_IF_ERROR(domain.health());
  RETURN_IF_ERROR(SyncDirectory(settings.env, domain.database_directory()));
  return SyncDirectory(settings.env, settings.directory);
}

absl::StatusOr<std::unique_ptr<Domain>> Domain::Open(
    DomainSettings settings, const std::string& identity) {
  auto domain = std::unique_ptr<Domain>(new Domain(std::move(settings)));
  const DomainSettings& s = domain->settings_;
  ASSIGN_OR_RETURN(domain->floor_,
                   FloorFile::Open(s.env, FloorPath(s.directory)));
  const Floor& floor = domain->floor_->newest();
  if (floor.store_id != s.store_id || floor.domain != s.index) {
    return absl::FailedPreconditionError(absl::StrCat(
        s.directory, ": its floor is of store ", floor.store_id, " domain ",
        floor.domain, ", not of store ", s.store_id, " domain ", s.index));
  }
  RETURN_IF_ERROR(CheckManifest(s.env, domain->database_directory(), floor));
  RETURN_IF_ERROR(domain->OpenDatabase(/*create=*/false));
  RETURN_IF_ERROR(domain->CheckContent(identity));
  return domain;
}

absl::Status Domain::CheckContent(const std::string& identity) {
  const std::string& directory = settings_.directory;
  absl::StatusOr<std::string> found = GetMeta(kIdentityKey);
  if (!found.ok()) {
    return absl::DataLossError(absl::StrCat(
        directory, ": the database has lost its identity: ",
        found.status().message()));
  }
  if (*found != identity) {
    return absl::FailedPreconditionError(
        absl::StrCat(directory, ": the database is of another store"));
  }
  absl::StatusOr<std::string> mark = GetMeta(kMarkKey);
  if (!mark.ok() || !ParseNumber(*mark, &serial_) ||
      serial_ < floor_->newest().serial) {
    return absl::DataLossError(absl::StrCat(
        directory, ": synced data is lost: the newest sync mark is ", serial_,
        ", the floor ", floor_->newest().serial));
  }
  if (continuity_.found_hole()) {
    LOG(WARNING) << "store domain=" << index()
                 << " a WAL ended early; unsynced writes behind it are dropped";
  }
  return absl::OkStatus();
}

absl::Status Domain::health() const {
  absl::MutexLock lock(&mutex_);
  return health_;
}

void Domain::Fail(absl::Status reason) {
  CHECK(!reason.ok());
  {
    absl::MutexLock lock(&mutex_);
    if (!health_.ok()) return;
    const char* what = TellsOfShortage(reason) ? "store FAILED until this process is started again" : "store FAILED for ever";
    health_ = ErrnoToStatus(EIO, absl::StrCat(what, ", domain ", index(), ": ", reason.message()));
    reason = health_;
  }
  guard_->Freeze();
  LOG(ERROR) << reason.message();
  if (settings_.on_failure) settings_.on_failure(reason);
}

rocksdb::Status Domain::WriteTimed(rocksdb::WriteBatch* batch) {
  StepTimer timer(&times_, Step::kWriteBatch);
  return db_->Write(rocksdb::WriteOptions(), batch);
}

absl::Status Domain::Write(rocksdb::WriteBatch* batch) {
  RETURN_IF_ERROR(health());
  const rocksdb::Status status = WriteTimed(batch);
  if (!status.ok()) {
    Fail(FromRocks(status, absl::StrCat("write to ", directory())));
    return health();
  }
  writes_.fetch_add(1);
  // A WAL that failed seems to work to RocksDB; see guard_fs.h.
  return health();
}

void Domain::MarkDirty(const std::shared_ptr<Lane>& lane) {
  absl::MutexLock lock(&mutex_);
  if (std::find(dirty_.begin(), dirty_.end(), lane) == dirty_.end()) {
    dirty_.push_back(lane);
  }
}

SyncResult Domain::Sync() {
  absl::MutexLock lock(&mutex_);
  // A sync that is running began too early for us; the next one will do.
  const uint64_t wanted = begun_ + 1;
  while (health_.ok() && succeeded_ < wanted) {
    if (syncing_) {
      sync_ended_.Wait(&mutex_);
      continue;
    }
    const uint64_t writes = writes_.load();
    if (succeeded_ > 0 && writes == synced_writes_ && dirty_.empty()) break;
    syncing_ = true;
    const uint64_t mine = ++begun_;
    std::vector<std::shared_ptr<Lane>> lanes = std::move(dirty_);
    dirty_.clear();
    mutex_.Unlock();
    absl::Status status = SyncOnce(std::move(lanes));
    if (!status.ok()) Fail(status);
    mutex_.Lock();
    syncing_ = false;
    if (status.ok()) {
      succeeded_ = mine;
      synced_writes_ = writes;
    }
    sync_ended_.SignalAll();
  }
  return SyncResult(health_);
}

// Answers what the lanes were as they were marked.
absl::StatusOr<std::vector<Lane::State>> Domain::WriteMarks(const std::vector<std::shared_ptr<Lane>>& lanes) {
  absl::MutexLock lock(&marks_);
  std::vector<Lane::State> states;
  rocksdb::WriteBatch mark;
  for (const auto& lane : lanes) {
    states.push_back(lane->state());
    mark.Put(SyncedKey(lane->volume, lane->id),
             EncodeNumber(states.back().position.bits()));
  }
  mark.Put(kMarkKey, EncodeNumber(++serial_));
  RETURN_IF_ERROR(FromRocks(db_->Write(rocksdb::WriteOptions(), &mark), absl::StrCat("sync ", directory())));
  return states;
}

absl::Status Domain::SyncOnce(std::vector<std::shared_ptr<Lane>> lanes) {
  std::vector<Lane::State> states;
  {
    StepTimer timer(&times_, Step::kWalSync);
    ASSIGN_OR_RETURN(states, WriteMarks(lanes));
    RETURN_IF_ERROR(FromRocks(db_->SyncWAL(), absl::StrCat("sync ", directory())));
  }
  RETURN_IF_ERROR(health());  // a failed WAL seems to work to RocksDB
  const ManifestExtent manifest = guard_->manifest();
  StepTimer timer(&times_, Step::kFloor);
  RETURN_IF_ERROR(floor_->Write(Floor{
      .store_id = settings_.store_id,
      .domain = settings_.index,
      .serial = serial_,
      .manifest_number = manifest.number,
      .manifest_bytes = manifest.bytes,
      .manifest_crc = manifest.crc,
  }));
  for (size_t i = 0; i < lanes.size(); ++i) {
    lanes[i]->Synced(states[i]);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> Domain::GetMeta(const std::string& key) const {
  std::string value;
  rocksdb::Status status =
      db_->Get(rocksdb::ReadOptions(), family(Family::kMeta), key, &value);
  if (status.IsNotFound()) return absl::NotFoundError(key);
  RETURN_IF_ERROR(FromRocks(status, absl::StrCat("read ", directory())));
  return value;
}

}  // namespace weir::store
