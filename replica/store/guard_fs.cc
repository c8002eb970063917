#include "replica/store/guard_fs.h"

#include <utility>

#include "absl/strings/match.h"
#include "replica/store/rocks.h"

namespace weir::store {
namespace {

using rocksdb::IODebugContext;
using rocksdb::IOOptions;
using rocksdb::IOStatus;
using rocksdb::Slice;

absl::string_view BaseName(absl::string_view path) {
  const size_t slash = path.rfind('/');
  return slash == absl::string_view::npos ? path : path.substr(slash + 1);
}

}  // namespace

// Any file: refuses to write once the disk is frozen. An error is returned as
// it is; whether it is final, RocksDB's background error tells.
class GuardFs::File : public rocksdb::FSWritableFileOwnerWrapper {
 public:
  File(GuardFs* fs, std::unique_ptr<rocksdb::FSWritableFile>&& file)
      : rocksdb::FSWritableFileOwnerWrapper(std::move(file)), fs_(fs) {}

  IOStatus Append(const Slice& data, const IOOptions& options,
                  IODebugContext* dbg) override {
    return Guard([&] {
      return FSWritableFileOwnerWrapper::Append(data, options, dbg);
    });
  }
  IOStatus Append(const Slice& data, const IOOptions& options,
                  const rocksdb::DataVerificationInfo& verification,
                  IODebugContext* dbg) override {
    return Guard([&] {
      return FSWritableFileOwnerWrapper::Append(data, options, verification,
                                                dbg);
    });
  }
  IOStatus Truncate(uint64_t size, const IOOptions& options,
                    IODebugContext* dbg) override {
    return Guard([&] {
      return FSWritableFileOwnerWrapper::Truncate(size, options, dbg);
    });
  }
  IOStatus Flush(const IOOptions& options, IODebugContext* dbg) override {
    return Guard([&] { return FSWritableFileOwnerWrapper::Flush(options, dbg); });
  }
  IOStatus Sync(const IOOptions& options, IODebugContext* dbg) override {
    return Guard([&] { return FSWritableFileOwnerWrapper::Sync(options, dbg); });
  }
  IOStatus Fsync(const IOOptions& options, IODebugContext* dbg) override {
    return Guard([&] { return FSWritableFileOwnerWrapper::Fsync(options, dbg); });
  }

 protected:
  virtual IOStatus Guard(const std::function<IOStatus()>& action) {
    IOStatus thawed = fs_->Thawed();
    return thawed.ok() ? action() : thawed;
  }

  GuardFs* const fs_;
};

class GuardFs::WalFile : public GuardFs::File {
 public:
  using File::File;
  IOStatus Close(const IOOptions& options, IODebugContext* dbg) override {
    return Guard([&] { return FSWritableFileOwnerWrapper::Close(options, dbg); });
  }

 protected:
  IOStatus Guard(const std::function<IOStatus()>& action) override {
    IOStatus status = fs_->Thawed();
    if (status.ok()) status = fs_->Final(action());
    status.PermitUncheckedError();  // the domain has been told
    return IOStatus::OK();
  }
};

class GuardFs::ManifestFile : public GuardFs::File {
 public:
  ManifestFile(GuardFs* fs, uint64_t number,
               std::unique_ptr<rocksdb::FSWritableFile>&& file)
      : File(fs, std::move(file)) {
    written_.number = number;
  }

  IOStatus Append(const Slice& data, const IOOptions& options,
                  IODebugContext* dbg) override {
    Count(data);
    return File::Append(data, options, dbg);
  }
  IOStatus Append(const Slice& data, const IOOptions& options,
                  const rocksdb::DataVerificationInfo& verification,
                  IODebugContext* dbg) override {
    Count(data);
    return File::Append(data, options, verification, dbg);
  }
  IOStatus Sync(const IOOptions& options, IODebugContext* dbg) override {
    IOStatus status = File::Sync(options, dbg);
    if (status.ok()) fs_->ManifestSynced(written_);
    return status;
  }
  IOStatus Fsync(const IOOptions& options, IODebugContext* dbg) override {
    IOStatus status = File::Fsync(options, dbg);
    if (status.ok()) fs_->ManifestSynced(written_);
    return status;
  }

 protected:
  IOStatus Guard(const std::function<IOStatus()>& action) override {
    IOStatus thawed = fs_->Thawed();
    return thawed.ok() ? fs_->Final(action()) : thawed;
  }

 private:
  void Count(const Slice& data) {
    written_.bytes += data.size();
    written_.crc = ExtendCrc32c(written_.crc, View(data));
  }

  ManifestExtent written_;  // one thread writes a MANIFEST at a time
};

class GuardFs::GuardedDirectory : public rocksdb::FSDirectoryWrapper {
 public:
  GuardedDirectory(GuardFs* fs, std::unique_ptr<rocksdb::FSDirectory>&& target)
      : rocksdb::FSDirectoryWrapper(std::move(target)), fs_(fs) {}
  IOStatus Fsync(const IOOptions& options, IODebugContext* dbg) override {
    IOStatus thawed = fs_->Thawed();
    if (!thawed.ok()) return thawed;
    return fs_->Final(FSDirectoryWrapper::Fsync(options, dbg));
  }
  IOStatus FsyncWithDirOptions(const IOOptions& options, IODebugContext* dbg,
                               const rocksdb::DirFsyncOptions& how) override {
    IOStatus thawed = fs_->Thawed();
    if (!thawed.ok()) return thawed;
    return fs_->Final(FSDirectoryWrapper::FsyncWithDirOptions(options, dbg, how));
  }

 private:
  GuardFs* const fs_;
};

void GuardFs::Freeze() {
  absl::MutexLock lock(&mutex_);
  frozen_ = true;
}

IOStatus GuardFs::Thawed() const {
  absl::MutexLock lock(&mutex_);
  if (!frozen_) return IOStatus::OK();
  return IOStatus::IOError("the store has failed; nothing more is written");
}

IOStatus GuardFs::Final(IOStatus status) {
  if (!status.ok()) {
    Freeze();
    on_failure_(status);
  }
  return status;
}

void GuardFs::Opened() {
  absl::MutexLock lock(&mutex_);
  in_force_ = newest_;
  switched_ = true;
}

ManifestExtent GuardFs::manifest() const {
  absl::MutexLock lock(&mutex_);
  return in_force_;
}

void GuardFs::ManifestSynced(const ManifestExtent& extent) {
  absl::MutexLock lock(&mutex_);
  if (extent.number < newest_.number) return;
  newest_ = extent;
  if (switched_) in_force_ = extent;
}

IOStatus GuardFs::NewWritableFile(const std::string& name,
                                  const rocksdb::FileOptions& options,
                                  std::unique_ptr<rocksdb::FSWritableFile>* file,
                                  IODebugContext* dbg) {
  IOStatus status = Thawed();
  if (status.ok()) {
    status = FileSystemWrapper::NewWritableFile(name, options, file, dbg);
  }
  if (!status.ok()) return status;
  uint64_t number = 0;
  if (ParseManifestName(BaseName(name), &number)) {
    *file = std::make_unique<ManifestFile>(this, number, std::move(*file));
    absl::MutexLock lock(&mutex_);
    newest_ = {number, 0, 0};
    switched_ = false;
  } else if (absl::EndsWith(name, ".log")) {
    *file = std::make_unique<WalFile>(this, std::move(*file));
  } else {
    *file = std::make_unique<File>(this, std::move(*file));
  }
  return status;
}

IOStatus GuardFs::NewDirectory(const std::string& name,
                               const IOOptions& options,
                               std::unique_ptr<rocksdb::FSDirectory>* directory,
                               IODebugContext* dbg) {
  IOStatus status =
      FileSystemWrapper::NewDirectory(name, options, directory, dbg);
  if (status.ok()) {
    *directory = std::make_unique<GuardedDirectory>(this, std::move(*directory));
  }
  return status;
}

IOStatus GuardFs::SyncDirectoryOf(const std::string& path, const IOOptions& options, IODebugContext* dbg) {
  std::unique_ptr<rocksdb::FSDirectory> directory;
  const IOStatus status = NewDirectory(path.substr(0, path.rfind('/')), options, &directory, dbg);
  return status.ok() ? directory->Fsync(options, dbg) : status;
}

IOStatus GuardFs::RenameFile(const std::string& from, const std::string& to,
                             const IOOptions& options, IODebugContext* dbg) {
  IOStatus status = Thawed();
  if (!status.ok()) return status;
  // Else a power cut might keep this alone, not the MANIFEST and the tables that recovery has made.
  if (BaseName(to) == "CURRENT") status = SyncDirectoryOf(to, options, dbg);
  if (!status.ok()) return status;
  status = FileSystemWrapper::RenameFile(from, to, options, dbg);
  if (status.ok() && BaseName(to) == "CURRENT") {
    absl::MutexLock lock(&mutex_);
    switched_ = true;
  }
  return status;
}

IOStatus GuardFs::DeleteFile(const std::string& name, const IOOptions& options,
                             IODebugContext* dbg) {
  IOStatus thawed = Thawed();
  if (!thawed.ok()) return thawed;
  return FileSystemWrapper::DeleteFile(name, options, dbg);
}

}  // namespace weir::store
