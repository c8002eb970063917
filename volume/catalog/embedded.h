// The catalog of one machine: a small RocksDB in the frontend's own process.
//
//   DIR/db     RocksDB; its LOCK decides who may use the catalog
//   DIR/floor  the last revision that was answered OK, synced before the answer
//   DIR/pid    who holds the lock, for the other one's error message
//
// RocksDB may open quietly with less than it had synced (a damaged WAL is cut
// at the damage, a missing one is empty). An older epoch would let two
// frontends write, so a database below its floor is refused.
//
// After a failed write nothing is known of the disk any more: every later call
// fails until the frontend is started again, and the floor is checked anew.
#ifndef WEIR_VOLUME_CATALOG_EMBEDDED_H_
#define WEIR_VOLUME_CATALOG_EMBEDDED_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "proto/base/patient_fs.h"
#include "rocksdb/db.h"
#include "rocksdb/env.h"
#include "volume/catalog/catalog.h"

namespace weir::catalog {

// Thread-safe. Owns the database; closing it is the destructor's work.
class EmbeddedCatalog : public Catalog {
 public:
  // Makes the catalog if `dir` is empty or missing. `cluster`: see Catalog::Open; may be empty.
  static absl::StatusOr<std::unique_ptr<EmbeddedCatalog>> Open(const std::string& dir,
                                                               const std::string& cluster = "");
  ~EmbeddedCatalog() override;

  std::string cluster_id() const override { return cluster_id_; }
  bool shared() const override { return false; }
  absl::StatusOr<VersionedVolume> GetVolume(const std::string& name) override;
  absl::StatusOr<std::vector<VersionedVolume>> ListVolumes() override;
  absl::StatusOr<uint64_t> PutVolume(const v1::VolumeRecord& record,
                                     uint64_t revision) override;
  absl::Status DeleteVolume(const std::string& name,
                            uint64_t revision) override;
  absl::StatusOr<VersionedReplica> GetReplica(const std::string& name) override;
  absl::StatusOr<std::vector<VersionedReplica>> ListReplicas() override;
  absl::Status DeleteReplica(const std::string& name, uint64_t revision) override;
  absl::StatusOr<uint64_t> PutReplica(const v1::ReplicaRecord& record,
                                      uint64_t revision) override;
  absl::StatusOr<VersionedFrontend> GetFrontend(const std::string& name) override;
  absl::StatusOr<std::vector<VersionedFrontend>> ListFrontends() override;
  absl::StatusOr<uint64_t> PutFrontend(const v1::FrontendRecord& record,
                                       uint64_t revision) override;

 private:
  explicit EmbeddedCatalog(std::string dir)
      : dir_(std::move(dir)),
        env_(rocksdb::NewCompositeEnv(std::make_shared<PatientFs>(rocksdb::FileSystem::Default()))) {}

  absl::Status OpenDatabase() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status MakeOrCheck(const std::string& new_cluster) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status Make(const std::string& cluster_id) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status CheckFloor() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  // The record under `key`; NOT_FOUND.
  absl::StatusOr<std::string> ReadLocked(const std::string& key)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // ABORTED unless `key` is at `revision` (0: absent).
  absl::Status CheckRevisionLocked(const std::string& key, uint64_t revision)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Writes `record` under `key`, or deletes it if null, with the next
  // revision, and raises the floor.
  absl::StatusOr<uint64_t> WriteLocked(const std::string& key,
                                       const std::string* record)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::StatusOr<uint64_t> Put(const std::string& key,
                               const std::string& record, uint64_t revision);
  absl::Status Delete(const std::string& key, uint64_t revision);
  template <typename Record>
  absl::StatusOr<Versioned<Record>> Get(const std::string& prefix,
                                        const std::string& name);
  template <typename Record>
  absl::StatusOr<std::vector<Versioned<Record>>> List(
      const std::string& prefix);
  // The final error, if there has been one.
  absl::Status UsableLocked() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status FailLocked(const std::string& what)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const std::string dir_;
  const std::unique_ptr<rocksdb::Env> env_;  // outlives db_
  std::string cluster_id_;  // set once, by Open

  // Compare-and-swap is one critical section, so it spans the synced write:
  // the catalog is written a few times an attach, never on the I/O path.
  absl::Mutex mu_;
  std::unique_ptr<rocksdb::DB> db_ ABSL_GUARDED_BY(mu_);
  uint64_t revision_ ABSL_GUARDED_BY(mu_) = 0;  // of the newest write
  absl::Status failed_ ABSL_GUARDED_BY(mu_);
};

}  // namespace weir::catalog

#endif  // WEIR_VOLUME_CATALOG_EMBEDDED_H_
