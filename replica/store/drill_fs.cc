#include "replica/store/drill_fs.h"

#include <cerrno>
#include <cstring>

namespace weir::store {
namespace {

using rocksdb::IODebugContext;
using rocksdb::IOOptions;
using rocksdb::IOStatus;
using rocksdb::Slice;

class DrillEnv : public rocksdb::EnvWrapper {
 public:
  DrillEnv(rocksdb::Env* target, std::shared_ptr<rocksdb::FileSystem> fs)
      : rocksdb::EnvWrapper(rocksdb::NewCompositeEnv(fs)) {
    // EnvWrapper would make both from its target's old-style methods.
    file_system_ = std::move(fs);
    system_clock_ = target->GetSystemClock();
  }
  const char* Name() const override { return "weir.DrillEnv"; }
};

}  // namespace

class DrillFs::File : public rocksdb::FSWritableFileOwnerWrapper {
 public:
  File(const DrillFs* fs, std::unique_ptr<rocksdb::FSWritableFile>&& file)
      : rocksdb::FSWritableFileOwnerWrapper(std::move(file)), fs_(fs) {}

  IOStatus Append(const Slice& data, const IOOptions& options,
                  IODebugContext* dbg) override {
    IOStatus verdict = fs_->Verdict(FileAct::kWrite);
    return verdict.ok() ? FSWritableFileOwnerWrapper::Append(data, options, dbg) : verdict;
  }
  IOStatus Append(const Slice& data, const IOOptions& options,
                  const rocksdb::DataVerificationInfo& verification,
                  IODebugContext* dbg) override {
    IOStatus verdict = fs_->Verdict(FileAct::kWrite);
    return verdict.ok() ? FSWritableFileOwnerWrapper::Append(data, options, verification, dbg)
                        : verdict;
  }
  IOStatus Sync(const IOOptions& options, IODebugContext* dbg) override {
    IOStatus verdict = fs_->Verdict(FileAct::kSync);
    return verdict.ok() ? FSWritableFileOwnerWrapper::Sync(options, dbg) : verdict;
  }
  IOStatus Fsync(const IOOptions& options, IODebugContext* dbg) override {
    IOStatus verdict = fs_->Verdict(FileAct::kSync);
    return verdict.ok() ? FSWritableFileOwnerWrapper::Fsync(options, dbg) : verdict;
  }

 private:
  const DrillFs* const fs_;
};

class DrillFs::RandomFile : public rocksdb::FSRandomRWFileOwnerWrapper {
 public:
  RandomFile(const DrillFs* fs, std::unique_ptr<rocksdb::FSRandomRWFile>&& file)
      : rocksdb::FSRandomRWFileOwnerWrapper(std::move(file)), fs_(fs) {}

  IOStatus Write(uint64_t offset, const Slice& data, const IOOptions& options,
                 IODebugContext* dbg) override {
    IOStatus verdict = fs_->Verdict(FileAct::kWrite);
    return verdict.ok() ? FSRandomRWFileOwnerWrapper::Write(offset, data, options, dbg) : verdict;
  }
  IOStatus Sync(const IOOptions& options, IODebugContext* dbg) override {
    IOStatus verdict = fs_->Verdict(FileAct::kSync);
    return verdict.ok() ? FSRandomRWFileOwnerWrapper::Sync(options, dbg) : verdict;
  }
  IOStatus Fsync(const IOOptions& options, IODebugContext* dbg) override {
    IOStatus verdict = fs_->Verdict(FileAct::kSync);
    return verdict.ok() ? FSRandomRWFileOwnerWrapper::Fsync(options, dbg) : verdict;
  }

 private:
  const DrillFs* const fs_;
};

class DrillFs::Directory : public rocksdb::FSDirectoryWrapper {
 public:
  Directory(const DrillFs* fs, std::unique_ptr<rocksdb::FSDirectory>&& directory)
      : rocksdb::FSDirectoryWrapper(std::move(directory)), fs_(fs) {}

  IOStatus Fsync(const IOOptions& options, IODebugContext* dbg) override {
    IOStatus verdict = fs_->Verdict(FileAct::kSync);
    return verdict.ok() ? FSDirectoryWrapper::Fsync(options, dbg) : verdict;
  }
  IOStatus FsyncWithDirOptions(const IOOptions& options, IODebugContext* dbg,
                               const rocksdb::DirFsyncOptions& how) override {
    IOStatus verdict = fs_->Verdict(FileAct::kSync);
    return verdict.ok() ? FSDirectoryWrapper::FsyncWithDirOptions(options, dbg, how) : verdict;
  }

 private:
  const DrillFs* const fs_;
};

IOStatus DrillFs::Verdict(FileAct act) const {
  const int error = ask_(act);
  if (error == 0) return IOStatus::OK();
  if (error == ENOSPC) return IOStatus::NoSpace("injected fault");
  return IOStatus::IOError("injected fault", strerror(error));
}

IOStatus DrillFs::NewWritableFile(const std::string& name, const rocksdb::FileOptions& options,
                                  std::unique_ptr<rocksdb::FSWritableFile>* file,
                                  IODebugContext* dbg) {
  IOStatus status = FileSystemWrapper::NewWritableFile(name, options, file, dbg);
  if (status.ok()) *file = std::make_unique<File>(this, std::move(*file));
  return status;
}

IOStatus DrillFs::NewRandomRWFile(const std::string& name, const rocksdb::FileOptions& options,
                                  std::unique_ptr<rocksdb::FSRandomRWFile>* file,
                                  IODebugContext* dbg) {
  IOStatus status = FileSystemWrapper::NewRandomRWFile(name, options, file, dbg);
  if (status.ok()) *file = std::make_unique<RandomFile>(this, std::move(*file));
  return status;
}

IOStatus DrillFs::NewDirectory(const std::string& name, const IOOptions& options,
                               std::unique_ptr<rocksdb::FSDirectory>* directory,
                               IODebugContext* dbg) {
  IOStatus status = FileSystemWrapper::NewDirectory(name, options, directory, dbg);
  if (status.ok()) *directory = std::make_unique<Directory>(this, std::move(*directory));
  return status;
}

std::unique_ptr<rocksdb::Env> NewDrillEnv(rocksdb::Env* target, DrillFs::Ask ask) {
  return std::make_unique<DrillEnv>(
      target, std::make_shared<DrillFs>(target->GetFileSystem(), std::move(ask)));
}

}  // namespace weir::store
