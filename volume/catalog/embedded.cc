#include "volume/catalog/embedded.h"

#include <unistd.h>

#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "proto/base/check.h"
#include "proto/base/status_macros.h"
#include "rocksdb/options.h"
#include "rocksdb/write_batch.h"
#include "volume/catalog/floor.h"
#include "volume/catalog/unique_id.h"

namespace weir::catalog {
namespace {

constexpr uint64_t kFormat = 1;
constexpr char kFormatKey[] = "format";
constexpr char kClusterKey[] = "cluster";
constexpr char kRevisionKey[] = "revision";
constexpr char kVolumePrefix[] = "volume/";
constexpr char kReplicaPrefix[] = "replica/";
constexpr char kFrontendPrefix[] = "frontend/";
constexpr size_t kRevisionBytes = 8;

// A stored record: its revision, big endian, then the message.
std::string EncodeRevision(uint64_t revision) {
  std::string bytes(kRevisionBytes, '\0');
  for (size_t i = 0; i < kRevisionBytes; ++i) {
    bytes[i] = static_cast<char>(revision >> (8 * (kRevisionBytes - 1 - i)));
  }
  return bytes;
}

uint64_t DecodeRevision(const std::string& value) {
  uint64_t revision = 0;
  for (size_t i = 0; i < kRevisionBytes && i < value.size(); ++i) {
    revision = revision << 8 | static_cast<uint8_t>(value[i]);
  }
  return revision;
}

rocksdb::Options DatabaseOptions() {
  rocksdb::Options options;
  options.create_if_missing = true;
  options.paranoid_checks = true;
  options.wal_recovery_mode = rocksdb::WALRecoveryMode::kPointInTimeRecovery;
  options.max_bgerror_resume_count = 0;  // a failed write is final, see above
  options.write_buffer_size = 4 << 20;   // records are few and small
  options.max_total_wal_size = 4 << 20;
  options.keep_log_file_num = 2;
  options.max_background_jobs = 2;
  return options;
}

rocksdb::WriteOptions Synced() {
  rocksdb::WriteOptions options;
  options.sync = true;
  return options;
}

absl::Status Damaged(const std::string& dir, absl::string_view what) {
  return absl::DataLossError(absl::StrCat(
      "catalog ", dir, " is damaged: ", what,
      ". It must not be used, since an older record could let two frontends "
      "write. Restore DIR from a backup taken while no frontend ran, and keep "
      "the damaged copy."));
}

}  // namespace

absl::StatusOr<std::unique_ptr<EmbeddedCatalog>> EmbeddedCatalog::Open(const std::string& dir,
                                                                       const std::string& cluster) {
  std::error_code error;
  std::filesystem::create_directories(dir, error);
  if (error) {
    return absl::FailedPreconditionError(
        absl::StrCat("catalog ", dir, ": cannot make the folder: ",
                     error.message(), "; choose one you may write to"));
  }
  std::unique_ptr<EmbeddedCatalog> catalog(new EmbeddedCatalog(dir));
  absl::MutexLock lock(&catalog->mu_);
  RETURN_IF_ERROR(catalog->OpenDatabase());
  RETURN_IF_ERROR(catalog->MakeOrCheck(cluster));
  RETURN_IF_ERROR(CheckCluster(cluster, catalog->cluster_id_));
  return catalog;
}

EmbeddedCatalog::~EmbeddedCatalog() {
  absl::MutexLock lock(&mu_);
  db_.reset();
}

absl::Status EmbeddedCatalog::OpenDatabase() {
  const std::string path = absl::StrCat(dir_, "/db");
  rocksdb::DB* db = nullptr;
  rocksdb::Options options = DatabaseOptions();
  options.env = env_.get();
  const rocksdb::Status opened = rocksdb::DB::Open(options, path, &db);
  if (opened.ok()) {
    db_.reset(db);
    return WriteFileDurably(dir_, "pid", absl::StrCat(::getpid(), "\n"));
  }
  const std::string reason = opened.ToString();
  if (opened.IsIOError() && absl::StrContains(reason, "lock ")) {
    absl::StatusOr<std::string> pid = ReadWholeFile(dir_ + "/pid");
    return absl::FailedPreconditionError(absl::StrCat(
        "catalog ", dir_, " is in use by another frontend (pid ",
        pid.ok() ? std::string(absl::StripSuffix(*pid, "\n")) : "unknown",
        "); stop it, or give this one a catalog of its own"));
  }
  if (opened.IsIOError()) {
    return absl::FailedPreconditionError(
        absl::StrCat("catalog ", dir_, " cannot be opened: ", reason,
                     "; see that the folder can be written and has space"));
  }
  return Damaged(dir_, reason);
}

absl::Status EmbeddedCatalog::MakeOrCheck(const std::string& new_cluster) {
  absl::StatusOr<std::string> format = ReadLocked(kFormatKey);
  if (absl::IsNotFound(format.status())) return Make(new_cluster);
  RETURN_IF_ERROR(format.status());
  uint64_t version = 0;
  if (!absl::SimpleAtoi(*format, &version)) {
    return Damaged(dir_, absl::StrCat("its format reads '", *format, "'"));
  }
  if (version > kFormat) {
    return absl::FailedPreconditionError(absl::StrCat(
        "catalog ", dir_, " has format ", version, ", this program knows up to ",
        kFormat, "; use a newer weir-volume"));
  }
  ASSIGN_OR_RETURN(const std::string cluster, ReadLocked(kClusterKey));
  v1::ClusterRecord record;
  if (!record.ParseFromString(cluster) || record.cluster_id().empty()) {
    return Damaged(dir_, "its cluster record cannot be read");
  }
  cluster_id_ = record.cluster_id();
  ASSIGN_OR_RETURN(const std::string revision, ReadLocked(kRevisionKey));
  revision_ = DecodeRevision(revision);
  return CheckFloor();
}

absl::Status EmbeddedCatalog::Make(const std::string& cluster_id) {
  absl::StatusOr<Floor> floor = ReadFloor(dir_);
  if (!absl::IsNotFound(floor.status())) {
    return Damaged(dir_, "the database is empty although it has been in use");
  }
  v1::ClusterRecord cluster;
  cluster.set_cluster_id(cluster_id.empty() ? NewUniqueId() : cluster_id);
  cluster_id_ = cluster.cluster_id();
  revision_ = 1;
  rocksdb::WriteBatch batch;
  batch.Put(kFormatKey, absl::StrCat(kFormat));
  batch.Put(kClusterKey, cluster.SerializeAsString());
  batch.Put(kRevisionKey, EncodeRevision(revision_));
  const rocksdb::Status written = db_->Write(Synced(), &batch);
  if (!written.ok()) return FailLocked(written.ToString());
  return WriteFloor(dir_, {cluster_id_, revision_});
}

absl::Status EmbeddedCatalog::CheckFloor() {
  absl::StatusOr<Floor> floor = ReadFloor(dir_);
  if (absl::IsNotFound(floor.status())) {
    // Making it was interrupted before the first record could be written.
    if (revision_ == 1) return WriteFloor(dir_, {cluster_id_, revision_});
    return Damaged(dir_, "its file 'floor' is missing");
  }
  if (absl::IsDataLoss(floor.status())) {
    return Damaged(dir_, floor.status().message());
  }
  RETURN_IF_ERROR(floor.status());
  if (floor->cluster_id != cluster_id_) {
    return Damaged(dir_, "its file 'floor' is of another cluster");
  }
  if (revision_ < floor->revision) {
    return Damaged(dir_, absl::StrCat("it ends at revision ", revision_,
                                      ", but revision ", floor->revision,
                                      " had been stored"));
  }
  // A write whose answer was never given may stand above the floor; it counts
  // from now on, so it must not be lost again.
  if (revision_ > floor->revision) {
    return WriteFloor(dir_, {cluster_id_, revision_});
  }
  return absl::OkStatus();
}

absl::Status EmbeddedCatalog::UsableLocked() const { return failed_; }

absl::Status EmbeddedCatalog::FailLocked(const std::string& what) {
  failed_ = absl::InternalError(absl::StrCat(
      "catalog ", dir_, " failed: ", what,
      ". Nothing is changed any more; volumes already attached go on. Mend the "
      "disk or make space, then start the frontend again"));
  return failed_;
}

absl::StatusOr<std::string> EmbeddedCatalog::ReadLocked(
    const std::string& key) {
  RETURN_IF_ERROR(UsableLocked());
  std::string value;
  const rocksdb::Status read = db_->Get(rocksdb::ReadOptions(), key, &value);
  if (read.IsNotFound()) return absl::NotFoundError(key);
  if (!read.ok()) return Damaged(dir_, read.ToString());
  return value;
}

absl::Status EmbeddedCatalog::CheckRevisionLocked(const std::string& key,
                                                  uint64_t revision) {
  absl::StatusOr<std::string> stored = ReadLocked(key);
  if (!stored.ok() && !absl::IsNotFound(stored.status())) {
    return stored.status();
  }
  const uint64_t at = stored.ok() ? DecodeRevision(*stored) : 0;
  if (at == revision) return absl::OkStatus();
  return absl::AbortedError(absl::StrCat(
      key, " is at revision ", at, ", not ", revision,
      ": it was changed meanwhile; read it again and decide anew"));
}

absl::StatusOr<uint64_t> EmbeddedCatalog::WriteLocked(
    const std::string& key, const std::string* record) {
  const uint64_t revision = revision_ + 1;
  rocksdb::WriteBatch batch;
  if (record != nullptr) {
    batch.Put(key, EncodeRevision(revision) + *record);
  } else {
    batch.Delete(key);
  }
  batch.Put(kRevisionKey, EncodeRevision(revision));
  const rocksdb::Status written = db_->Write(Synced(), &batch);
  if (!written.ok()) return FailLocked(written.ToString());
  const absl::Status floor = WriteFloor(dir_, {cluster_id_, revision});
  if (!floor.ok()) return FailLocked(std::string(floor.message()));
  revision_ = revision;
  return revision;
}

absl::StatusOr<uint64_t> EmbeddedCatalog::Put(const std::string& key,
                                              const std::string& record,
                                              uint64_t revision) {
  absl::MutexLock lock(&mu_);
  RETURN_IF_ERROR(CheckRevisionLocked(key, revision));
  return WriteLocked(key, &record);
}

template <typename Record>
absl::StatusOr<Versioned<Record>> EmbeddedCatalog::Get(
    const std::string& prefix, const std::string& name) {
  absl::MutexLock lock(&mu_);
  ASSIGN_OR_RETURN(const std::string value, ReadLocked(prefix + name));
  Versioned<Record> versioned;
  versioned.revision = DecodeRevision(value);
  if (value.size() < kRevisionBytes ||
      !versioned.record.ParseFromArray(
          value.data() + kRevisionBytes,
          static_cast<int>(value.size() - kRevisionBytes))) {
    return Damaged(dir_, absl::StrCat(prefix, name, " cannot be read"));
  }
  return versioned;
}

template <typename Record>
absl::StatusOr<std::vector<Versioned<Record>>> EmbeddedCatalog::List(
    const std::string& prefix) {
  std::vector<std::string> names;
  {
    absl::MutexLock lock(&mu_);
    RETURN_IF_ERROR(UsableLocked());
    std::unique_ptr<rocksdb::Iterator> it(
        db_->NewIterator(rocksdb::ReadOptions()));
    for (it->Seek(prefix); it->Valid() && it->key().starts_with(prefix);
         it->Next()) {
      names.push_back(it->key().ToString().substr(prefix.size()));
    }
    if (!it->status().ok()) return Damaged(dir_, it->status().ToString());
  }
  std::vector<Versioned<Record>> records;
  for (const std::string& name : names) {
    absl::StatusOr<Versioned<Record>> record = Get<Record>(prefix, name);
    if (absl::IsNotFound(record.status())) continue;  // deleted meanwhile
    RETURN_IF_ERROR(record.status());
    records.push_back(*std::move(record));
  }
  return records;
}

absl::StatusOr<VersionedVolume> EmbeddedCatalog::GetVolume(
    const std::string& name) {
  absl::StatusOr<VersionedVolume> volume =
      Get<v1::VolumeRecord>(kVolumePrefix, name);
  if (absl::IsNotFound(volume.status())) {
    return absl::NotFoundError(absl::StrCat("there is no volume '", name, "'"));
  }
  return volume;
}

absl::StatusOr<std::vector<VersionedVolume>> EmbeddedCatalog::ListVolumes() {
  return List<v1::VolumeRecord>(kVolumePrefix);
}

absl::StatusOr<uint64_t> EmbeddedCatalog::PutVolume(
    const v1::VolumeRecord& record, uint64_t revision) {
  return Put(kVolumePrefix + record.name(), record.SerializeAsString(),
             revision);
}

absl::Status EmbeddedCatalog::Delete(const std::string& key, uint64_t revision) {
  absl::MutexLock lock(&mu_);
  RETURN_IF_ERROR(CheckRevisionLocked(key, revision));
  return WriteLocked(key, nullptr).status();
}

absl::Status EmbeddedCatalog::DeleteVolume(const std::string& name,
                                           uint64_t revision) {
  return Delete(kVolumePrefix + name, revision);
}

absl::StatusOr<VersionedReplica> EmbeddedCatalog::GetReplica(
    const std::string& name) {
  absl::StatusOr<VersionedReplica> replica =
      Get<v1::ReplicaRecord>(kReplicaPrefix, name);
  if (absl::IsNotFound(replica.status())) {
    return absl::NotFoundError(
        absl::StrCat("there is no replica '", name, "'"));
  }
  return replica;
}

absl::StatusOr<std::vector<VersionedReplica>> EmbeddedCatalog::ListReplicas() {
  return List<v1::ReplicaRecord>(kReplicaPrefix);
}

absl::StatusOr<uint64_t> EmbeddedCatalog::PutReplica(
    const v1::ReplicaRecord& record, uint64_t revision) {
  return Put(kReplicaPrefix + record.name(), record.SerializeAsString(),
             revision);
}

absl::Status EmbeddedCatalog::DeleteReplica(const std::string& name, uint64_t revision) {
  return Delete(kReplicaPrefix + name, revision);
}

absl::StatusOr<VersionedFrontend> EmbeddedCatalog::GetFrontend(
    const std::string& name) {
  absl::StatusOr<VersionedFrontend> frontend =
      Get<v1::FrontendRecord>(kFrontendPrefix, name);
  if (absl::IsNotFound(frontend.status())) {
    return absl::NotFoundError(
        absl::StrCat("there is no frontend '", name, "'"));
  }
  return frontend;
}

absl::StatusOr<std::vector<VersionedFrontend>> EmbeddedCatalog::ListFrontends() {
  return List<v1::FrontendRecord>(kFrontendPrefix);
}

absl::StatusOr<uint64_t> EmbeddedCatalog::PutFrontend(
    const v1::FrontendRecord& record, uint64_t revision) {
  return Put(kFrontendPrefix + record.name(), record.SerializeAsString(),
             revision);
}

}  // namespace weir::catalog
