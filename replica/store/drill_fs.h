// Fault injection below the store: the file system of one data directory, whose
// writes and syncs fail when they are told to. What fails is not carried out.
#ifndef WEIR_REPLICA_STORE_DRILL_FS_H_
#define WEIR_REPLICA_STORE_DRILL_FS_H_

#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "replica/store/store.h"
#include "rocksdb/env.h"
#include "rocksdb/file_system.h"

namespace weir::store {

// Thread-safety: yes. Must outlive its files.
class DrillFs : public rocksdb::FileSystemWrapper {
 public:
  // The errno that the next such act is to fail with; 0: none.
  using Ask = std::function<int(FileAct act)>;
  DrillFs(const std::shared_ptr<rocksdb::FileSystem>& target, Ask ask)
      : rocksdb::FileSystemWrapper(target), ask_(std::move(ask)) {}
  const char* Name() const override { return "weir.DrillFs"; }

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

 private:
  class File;
  class RandomFile;
  class Directory;

  rocksdb::IOStatus Verdict(FileAct act) const;

  const Ask ask_;
};

// `target` with a DrillFs over its file system. `target` is not owned.
std::unique_ptr<rocksdb::Env> NewDrillEnv(rocksdb::Env* target, DrillFs::Ask ask);

}  // namespace weir::store

#endif  // WEIR_REPLICA_STORE_DRILL_FS_H_
