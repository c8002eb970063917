// The file system that a domain's RocksDB runs on: it passes everything on, and
//
//  * stops at the first failure. Once the WAL, the MANIFEST or a directory could
//    not be written or synced, or the domain failed otherwise, nothing more
//    reaches the disk: it stays as a kill at that moment would leave it.
//    RocksDB 7.8.3 may touch a WAL again after an error of it, which its own
//    assertions forbid; so to RocksDB a failed WAL seems to work, and it is the
//    domain that knows better and answers nobody any more.
//  * watches how far the MANIFEST is synced, for the floor.
#ifndef WEIR_REPLICA_STORE_GUARD_FS_H_
#define WEIR_REPLICA_STORE_GUARD_FS_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "replica/store/manifest.h"
#include "rocksdb/env.h"
#include "rocksdb/file_system.h"

namespace weir::store {

// Thread-safety: yes.
class GuardFs : public rocksdb::FileSystemWrapper {
 public:
  // `on_failure` is called with each failure that is final, before RocksDB
  // hears of it; on RocksDB's threads, with none of its locks held.
  using OnFailure = std::function<void(const rocksdb::IOStatus&)>;
  GuardFs(const std::shared_ptr<rocksdb::FileSystem>& target,
          OnFailure on_failure)
      : rocksdb::FileSystemWrapper(target), on_failure_(std::move(on_failure)) {}
  const char* Name() const override { return "weir.GuardFs"; }

  // From now on nothing reaches the disk.
  void Freeze();

  // The database is open, so the MANIFEST it made is the one in force.
  void Opened();
  // What is synced of the MANIFEST in force.
  ManifestExtent manifest() const;

  rocksdb::IOStatus NewWritableFile(
      const std::string& name, const rocksdb::FileOptions& options,
      std::unique_ptr<rocksdb::FSWritableFile>* file,
      rocksdb::IODebugContext* dbg) override;
  rocksdb::IOStatus NewDirectory(
      const std::string& name, const rocksdb::IOOptions& options,
      std::unique_ptr<rocksdb::FSDirectory>* directory,
      rocksdb::IODebugContext* dbg) override;
  rocksdb::IOStatus RenameFile(const std::string& from, const std::string& to,
                               const rocksdb::IOOptions& options,
                               rocksdb::IODebugContext* dbg) override;
  rocksdb::IOStatus DeleteFile(const std::string& name,
                               const rocksdb::IOOptions& options,
                               rocksdb::IODebugContext* dbg) override;

 private:
  class File;
  class WalFile;
  class ManifestFile;
  class GuardedDirectory;

  // OK, or that the disk is frozen.
  rocksdb::IOStatus Thawed() const;
  // Freezes and tells, if `status` is an error.
  rocksdb::IOStatus Final(rocksdb::IOStatus status);
  // Syncs the directory that `path` lies in.
  rocksdb::IOStatus SyncDirectoryOf(const std::string& path, const rocksdb::IOOptions& options,
                                    rocksdb::IODebugContext* dbg);
  void ManifestSynced(const ManifestExtent& extent);

  const OnFailure on_failure_;
  mutable absl::Mutex mutex_;
  bool frozen_ ABSL_GUARDED_BY(mutex_) = false;
  // In force: CURRENT names it, durably.
  ManifestExtent in_force_ ABSL_GUARDED_BY(mutex_);
  // The one written last. It is in force from its first sync after CURRENT was
  // renamed: RocksDB completes the switch, directory sync included, before it
  // writes to the new MANIFEST again.
  ManifestExtent newest_ ABSL_GUARDED_BY(mutex_);
  bool switched_ ABSL_GUARDED_BY(mutex_) = false;
};

// `target`'s threads and clock, with `fs` for the files of a database.
class GuardedEnv : public rocksdb::EnvWrapper {
 public:
  // `target` is not owned.
  GuardedEnv(rocksdb::Env* target, std::shared_ptr<rocksdb::FileSystem> fs)
      : rocksdb::EnvWrapper(target) {
    // EnvWrapper would make both from its target's old-style methods.
    file_system_ = std::move(fs);
    system_clock_ = target->GetSystemClock();
  }
  const char* Name() const override { return "weir.GuardedEnv"; }
};

}  // namespace weir::store

#endif  // WEIR_REPLICA_STORE_GUARD_FS_H_
