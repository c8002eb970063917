// One flush domain: a RocksDB instance with its sync marks and its floor.
//
// A sync writes a mark into the WAL, syncs the WAL, then repeats the mark's
// serial number in the floor file. So the newest mark that RocksDB recovers is
// at or past the floor, or synced data is lost and the domain does not open.
//
// Thread-safety: all methods may be called from any thread. Ends by its
// destructor, when no call is running; that does not sync.
#ifndef WEIR_REPLICA_STORE_DOMAIN_H_
#define WEIR_REPLICA_STORE_DOMAIN_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "replica/store/domain_options.h"
#include "replica/store/domain_stats.h"
#include "replica/store/floor.h"
#include "replica/store/guard_fs.h"
#include "replica/store/lane.h"
#include "replica/store/reclaim.h"
#include "replica/store/step_times.h"
#include "replica/store/wal_continuity.h"
#include "rocksdb/db.h"
#include "rocksdb/env.h"
#include "rocksdb/listener.h"

namespace weir::store {

enum class Family { kMeta = 0, kVersions = 1, kBlocks = 2, kChanges = 3 };

// The outcome of a sync. The first one that is not OK is final for the store,
// so it cannot be dropped.
class [[nodiscard]] SyncResult {
 public:
  explicit SyncResult(absl::Status status) : status_(std::move(status)) {}
  [[nodiscard]] bool ok() const { return status_.ok(); }
  [[nodiscard]] const absl::Status& status() const { return status_; }

 private:
  absl::Status status_;
};

struct DomainSettings {
  rocksdb::Env* env = nullptr;
  std::string directory;  // of the domain; RocksDB's is below it
  std::string store_id;
  uint32_t index = 0;
  DomainTuning tuning;
  // Called once, with the reason, when the domain has failed for ever. From
  // any thread, also RocksDB's; may do I/O but not call the domain.
  std::function<void(const absl::Status&)> on_failure;
};

class Domain {
 public:
  // Makes the floor, serial 0, and an empty database; all of it synced.
  // `identity` is stored in the database. Nothing may be there yet.
  static absl::Status Make(const DomainSettings& settings,
                           const std::string& identity);
  // DATA_LOSS if it has less than its floor says, or is damaged;
  // FAILED_PRECONDITION if it holds another `identity`.
  static absl::StatusOr<std::unique_ptr<Domain>> Open(
      DomainSettings settings, const std::string& identity);
  ~Domain();

  uint32_t index() const { return settings_.index; }
  const std::string& directory() const { return settings_.directory; }
  rocksdb::DB* db() const { return db_.get(); }
  rocksdb::ColumnFamilyHandle* family(Family family) const {
    return families_[static_cast<size_t>(family)];
  }
  PinSource* pins() { return pins_.get(); }

  // OK, or why it failed; for ever.
  absl::Status health() const;
  // Makes the domain failed, if it is not yet.
  void Fail(absl::Status reason);

  // Applies `batch`, not synced. An error is final for the domain.
  absl::Status Write(rocksdb::WriteBatch* batch);
  // What changed in `lane` is to be reported by the next sync. Call it when the
  // lane says what was applied, before the writer is answered.
  void MarkDirty(const std::shared_ptr<Lane>& lane);
  // Makes durable all that was written before the call, and says so to the
  // dirty lanes. Blocks; calls that wait at the same time share one sync.
  SyncResult Sync();

  // Held while lanes' marks are written, and by whoever takes a lane back below its mark.
  absl::Mutex* marks() ABSL_LOCK_RETURNED(marks_) { return &marks_; }

  // A few lookups in memory and one look at the directory.
  DomainStats Stats() const;
  // For those who read.
  StepTimes* times() const { return &times_; }

  // NOT_FOUND or what FromRocks says.
  absl::StatusOr<std::string> GetMeta(const std::string& key) const;

 private:
  class Listener;

  explicit Domain(DomainSettings settings);
  absl::Status OpenDatabase(bool create);
  absl::Status CheckContent(const std::string& identity);
  rocksdb::Status WriteTimed(rocksdb::WriteBatch* batch);
  absl::Status SyncOnce(std::vector<std::shared_ptr<Lane>> lanes);
  absl::StatusOr<std::vector<Lane::State>> WriteMarks(const std::vector<std::shared_ptr<Lane>>& lanes);
  std::string database_directory() const { return settings_.directory + "/db"; }

  const DomainSettings settings_;
  const std::shared_ptr<GuardFs> guard_;
  const std::unique_ptr<rocksdb::Env> env_;  // settings_.env with guard_ in it
  const std::shared_ptr<PinSource> pins_ = std::make_shared<PinSource>();
  WalContinuity continuity_;
  std::vector<rocksdb::ColumnFamilyHandle*> families_;
  std::unique_ptr<rocksdb::DB> db_;

  mutable StepTimes times_;
  // Counted by the listener.
  struct Events {
    std::atomic<uint64_t> slowdowns{0};
    std::atomic<uint64_t> stops{0};
    std::atomic<uint64_t> compactions{0};
    std::atomic<uint64_t> compaction_written_bytes{0};
    std::atomic<uint64_t> compaction_microseconds{0};
    std::atomic<uint64_t> memtable_flushes{0};
  };
  Events events_;

  absl::Mutex marks_;

  // Used by the one sync that runs.
  std::unique_ptr<FloorFile> floor_;
  uint64_t serial_ = 0;  // of the newest mark written

  // Batches written so far; a sync covers those counted before it begins.
  std::atomic<uint64_t> writes_{0};

  mutable absl::Mutex mutex_;
  absl::Status health_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::shared_ptr<Lane>> dirty_ ABSL_GUARDED_BY(mutex_);
  bool syncing_ ABSL_GUARDED_BY(mutex_) = false;
  // Syncs begun and the newest of them that succeeded.
  uint64_t begun_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t succeeded_ ABSL_GUARDED_BY(mutex_) = 0;
  // writes_ as of the beginning of the newest sync that succeeded.
  uint64_t synced_writes_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::CondVar sync_ended_;
};

// Where a domain's RocksDB and floor lie in its directory.
std::string FloorPath(const std::string& directory);
std::string DatabasePath(const std::string& directory);

}  // namespace weir::store

#endif  // WEIR_REPLICA_STORE_DOMAIN_H_
