// A RocksDB file system on a MemoryDisk: power cuts, failing operations and
// damage, for tests of what must survive them.
//
//   auto fs = std::make_shared<FaultFs>();
//   std::unique_ptr<rocksdb::Env> env = NewFaultEnv(fs);
//   ... a store runs on env ...
//   std::shared_ptr<FaultFs> after = fs->AfterPowerCut(seed);  // open that
//
// A cut is a copy: the store it was taken from runs on, undisturbed. The root
// directory exists; the parents of other paths must be made.
// Thread-safety: yes.
#ifndef WEIR_REPLICA_STORE_TESTING_FAULT_FS_H_
#define WEIR_REPLICA_STORE_TESTING_FAULT_FS_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/optional.h"
#include "replica/store/testing/memory_disk.h"
#include "rocksdb/env.h"
#include "rocksdb/file_system.h"

namespace weir::store::testing {

// One operation, as the hook and the fault see it.
struct FileOp {
  enum Kind { kRead, kWrite, kSync, kCreate, kRename, kDelete, kSyncDirectory };
  Kind kind = kRead;
  std::string path;
};

class FaultFs : public rocksdb::FileSystem {
 public:
  FaultFs();
  const char* Name() const override { return "weir.FaultFs"; }

  // What another process finds after this one was killed, or the machine lost
  // power. The same seed and history give the same result.
  std::shared_ptr<FaultFs> AfterKill() const;
  std::shared_ptr<FaultFs> AfterPowerCut(uint64_t seed) const;

  // Runs before each operation that changes something, with the file system
  // locked; `cut` is AfterPowerCut there and then.
  using Cut = std::function<std::shared_ptr<FaultFs>(uint64_t seed)>;
  using Hook = std::function<void(const FileOp& op, const Cut& cut)>;
  void SetHook(Hook hook);

  // Fails operation number `nth`, from 1, counted from now; with `for_ever`
  // also all later ones. A write that fails may be applied in part, a sync
  // that fails loses what it should have written. Reads neither fail nor count
  // where the error is NoSpace.
  void FailAt(uint64_t nth, bool for_ever, rocksdb::IOStatus error);
  // The same, for operations of one kind whose path contains `part`.
  void FailWhere(FileOp::Kind kind, const std::string& part,
                 rocksdb::IOStatus error);
  void StopFailing();
  // Whether a fault has struck.
  bool struck() const;
  FileOp struck_op() const;  // where it first did
  // By kind, since the beginning.
  uint64_t Count(FileOp::Kind kind) const;

  // What is read in place of up to `n` bytes of `content` from `offset` on.
  using Misread = std::function<std::string(const std::string& path, const std::string& content, uint64_t offset, size_t n)>;
  // Read number `nth` of those that `misread` answers otherwise, from 1, counted from now, is answered by it, without
  // an error.
  void MisreadAt(uint64_t nth, Misread misread);
  bool has_misread() const;

  // Free space; 1 TiB unless set.
  void SetFreeBytes(uint64_t bytes);

  // --- damage, for stores that are closed ---
  std::vector<std::string> Files() const;  // all paths
  uint64_t BytesUsed() const;              // by all files; any time
  std::string Content(const std::string& path) const;
  // Makes the file if there is none.
  void SetContent(const std::string& path, const std::string& content);
  void Remove(const std::string& path);

  rocksdb::IOStatus NewSequentialFile(
      const std::string& name, const rocksdb::FileOptions& options,
      std::unique_ptr<rocksdb::FSSequentialFile>* file,
      rocksdb::IODebugContext* dbg) override;
  rocksdb::IOStatus NewRandomAccessFile(
      const std::string& name, const rocksdb::FileOptions& options,
      std::unique_ptr<rocksdb::FSRandomAccessFile>* file,
      rocksdb::IODebugContext* dbg) override;
  rocksdb::IOStatus NewWritableFile(
      const std::string& name, const rocksdb::FileOptions& options,
      std::unique_ptr<rocksdb::FSWritableFile>* file,
      rocksdb::IODebugContext* dbg) override;
  rocksdb::IOStatus NewRandomRWFile(
      const std::string& name, const rocksdb::FileOptions& options,
      std::unique_ptr<rocksdb::FSRandomRWFile>* file,
      rocksdb::IODebugContext* dbg) override;
  rocksdb::IOStatus NewDirectory(
      const std::string& name, const rocksdb::IOOptions& options,
      std::unique_ptr<rocksdb::FSDirectory>* directory,
      rocksdb::IODebugContext* dbg) override;
  rocksdb::IOStatus FileExists(const std::string& name,
                               const rocksdb::IOOptions& options,
                               rocksdb::IODebugContext* dbg) override;
  rocksdb::IOStatus GetChildren(const std::string& name,
                                const rocksdb::IOOptions& options,
                                std::vector<std::string>* children,
                                rocksdb::IODebugContext* dbg) override;
  rocksdb::IOStatus DeleteFile(const std::string& name,
                               const rocksdb::IOOptions& options,
                               rocksdb::IODebugContext* dbg) override;
  rocksdb::IOStatus CreateDir(const std::string& name,
                              const rocksdb::IOOptions& options,
                              rocksdb::IODebugContext* dbg) override;
  rocksdb::IOStatus CreateDirIfMissing(const std::string& name,
                                       const rocksdb::IOOptions& options,
                                       rocksdb::IODebugContext* dbg) override;
  rocksdb::IOStatus DeleteDir(const std::string& name,
                              const rocksdb::IOOptions& options,
                              rocksdb::IODebugContext* dbg) override;
  rocksdb::IOStatus GetFileSize(const std::string& name,
                                const rocksdb::IOOptions& options,
                                uint64_t* size,
                                rocksdb::IODebugContext* dbg) override;
  rocksdb::IOStatus GetFileModificationTime(
      const std::string& name, const rocksdb::IOOptions& options,
      uint64_t* time, rocksdb::IODebugContext* dbg) override;
  rocksdb::IOStatus RenameFile(const std::string& from, const std::string& to,
                               const rocksdb::IOOptions& options,
                               rocksdb::IODebugContext* dbg) override;
  rocksdb::IOStatus LockFile(const std::string& name,
                             const rocksdb::IOOptions& options,
                             rocksdb::FileLock** lock,
                             rocksdb::IODebugContext* dbg) override;
  rocksdb::IOStatus UnlockFile(rocksdb::FileLock* lock,
                               const rocksdb::IOOptions& options,
                               rocksdb::IODebugContext* dbg) override;
  rocksdb::IOStatus GetTestDirectory(const rocksdb::IOOptions& options,
                                     std::string* path,
                                     rocksdb::IODebugContext* dbg) override;
  rocksdb::IOStatus NewLogger(const std::string& name,
                              const rocksdb::IOOptions& options,
                              std::shared_ptr<rocksdb::Logger>* logger,
                              rocksdb::IODebugContext* dbg) override;
  rocksdb::IOStatus GetAbsolutePath(const std::string& name,
                                    const rocksdb::IOOptions& options,
                                    std::string* path,
                                    rocksdb::IODebugContext* dbg) override;
  rocksdb::IOStatus GetFreeSpace(const std::string& path,
                                 const rocksdb::IOOptions& options,
                                 uint64_t* bytes,
                                 rocksdb::IODebugContext* dbg) override;
  rocksdb::IOStatus IsDirectory(const std::string& name,
                                const rocksdb::IOOptions& options, bool* is,
                                rocksdb::IODebugContext* dbg) override;

  // For the files of this file system: count the operation, run the hook,
  // tell whether it fails. Then do it, with the lock held all along.
  rocksdb::IOStatus Do(FileOp::Kind kind, const std::string& path,
                       const std::function<rocksdb::IOStatus()>& action,
                       const std::function<void(Random*)>& on_failure = nullptr)
      const;
  // Of the data of its files, within Do.
  std::string Read(const std::string& path, const std::string& content, uint64_t offset, size_t n) const;

 private:
  struct Place {
    DiskNodePtr parent;  // nullptr: there is none
    std::string name;
    DiskNodePtr node;    // nullptr: no such entry
  };
  std::shared_ptr<FaultFs> CutLocked(uint64_t seed) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  using Visit = std::function<void(const std::string& path, const DiskNode&)>;
  void ForEachFile(const Visit& visit) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  Place Locate(const std::string& path) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool Strikes(const FileOp& op) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Runs `action` with the place of `path`; ENOENT if `must_exist` and it is not.
  rocksdb::IOStatus At(FileOp::Kind kind, const std::string& path,
                       bool must_exist,
                       const std::function<rocksdb::IOStatus(const Place&)>& action);

  mutable absl::Mutex mutex_;
  DiskNodePtr root_ ABSL_GUARDED_BY(mutex_);
  Hook hook_ ABSL_GUARDED_BY(mutex_);
  mutable uint64_t until_fault_ ABSL_GUARDED_BY(mutex_) = 0;  // 0: none
  bool fault_for_ever_ ABSL_GUARDED_BY(mutex_) = false;
  absl::optional<FileOp> fault_where_ ABSL_GUARDED_BY(mutex_);
  rocksdb::IOStatus fault_ ABSL_GUARDED_BY(mutex_);
  mutable bool struck_ ABSL_GUARDED_BY(mutex_) = false;
  mutable FileOp struck_op_ ABSL_GUARDED_BY(mutex_);
  mutable uint64_t until_misread_ ABSL_GUARDED_BY(mutex_) = 0;  // 0: none is to come
  Misread misread_ ABSL_GUARDED_BY(mutex_);
  mutable Random random_ ABSL_GUARDED_BY(mutex_){1};
  mutable uint64_t counts_[7] ABSL_GUARDED_BY(mutex_) = {};
  uint64_t free_bytes_ ABSL_GUARDED_BY(mutex_) = uint64_t{1} << 40;
  std::set<std::string> locks_ ABSL_GUARDED_BY(mutex_);
};

// An Env on `fs` that does not sleep: RocksDB waits a second after each
// background error.
std::unique_ptr<rocksdb::Env> NewFaultEnv(std::shared_ptr<FaultFs> fs);

}  // namespace weir::store::testing

#endif  // WEIR_REPLICA_STORE_TESTING_FAULT_FS_H_
