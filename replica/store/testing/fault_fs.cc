#include "replica/store/testing/fault_fs.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "proto/base/check.h"
#include "rocksdb/env.h"
#include "rocksdb/system_clock.h"

namespace weir::store::testing {
namespace {

using rocksdb::IODebugContext;
using rocksdb::IOOptions;
using rocksdb::IOStatus;
using rocksdb::Slice;

IOStatus NotThere(const std::string& path) {
  return IOStatus::PathNotFound("No such file or directory", path);
}

// What all kinds of open files share.
class OpenFile {
 public:
  OpenFile(const FaultFs* fs, std::string path, DiskNodePtr node)
      : fs_(fs), path_(std::move(path)), node_(std::move(node)) {}

  IOStatus ReadAt(uint64_t offset, size_t n, Slice* result,
                  char* scratch) const {
    return fs_->Do(FileOp::kRead, path_, [&] {
      const std::string read = fs_->Read(path_, node_->content(), offset, n);
      std::memcpy(scratch, read.data(), read.size());
      *result = Slice(scratch, read.size());
      return IOStatus::OK();
    });
  }
  IOStatus WriteAt(absl::optional<uint64_t> offset, const Slice& data) {
    const auto write = [&](size_t size) {
      node_->Write(offset.value_or(node_->content().size()),
                   std::string(data.data(), size));
    };
    return fs_->Do(
        FileOp::kWrite, path_,
        [&] {
          write(data.size());
          return IOStatus::OK();
        },
        [&](Random* random) { write((*random)() % (data.size() + 1)); });
  }
  IOStatus TruncateTo(uint64_t size) {
    return fs_->Do(FileOp::kWrite, path_, [&] {
      if (size != node_->content().size()) node_->Truncate(size);
      return IOStatus::OK();
    });
  }
  IOStatus SyncFile() {
    return fs_->Do(
        FileOp::kSync, path_,
        [&] {
          node_->SyncContent();
          return IOStatus::OK();
        },
        [&](Random*) { node_->ForgetUnsynced(); });
  }
  uint64_t size() const {
    uint64_t size = 0;
    fs_->Do(FileOp::kRead, path_, [&] {
       size = node_->content().size();
       return IOStatus::OK();
     }).PermitUncheckedError();
    return size;
  }

 private:
  const FaultFs* const fs_;
  const std::string path_;
  const DiskNodePtr node_;
};

class SequentialFile : public rocksdb::FSSequentialFile {
 public:
  explicit SequentialFile(OpenFile file) : file_(std::move(file)) {}
  IOStatus Read(size_t n, const IOOptions&, Slice* result, char* scratch,
                IODebugContext*) override {
    IOStatus status = file_.ReadAt(offset_, n, result, scratch);
    if (status.ok()) offset_ += result->size();
    return status;
  }
  IOStatus Skip(uint64_t n) override {
    offset_ += n;
    return IOStatus::OK();
  }

 private:
  OpenFile file_;
  uint64_t offset_ = 0;
};

class RandomAccessFile : public rocksdb::FSRandomAccessFile {
 public:
  explicit RandomAccessFile(OpenFile file) : file_(std::move(file)) {}
  IOStatus Read(uint64_t offset, size_t n, const IOOptions&, Slice* result,
                char* scratch, IODebugContext*) const override {
    return file_.ReadAt(offset, n, result, scratch);
  }

 private:
  OpenFile file_;
};

class WritableFile : public rocksdb::FSWritableFile {
 public:
  explicit WritableFile(OpenFile file) : file_(std::move(file)) {}
  IOStatus Append(const Slice& data, const IOOptions&, IODebugContext*) override {
    return file_.WriteAt(absl::nullopt, data);
  }
  IOStatus Append(const Slice& data, const IOOptions&,
                  const rocksdb::DataVerificationInfo&, IODebugContext*) override {
    return file_.WriteAt(absl::nullopt, data);
  }
  IOStatus Truncate(uint64_t size, const IOOptions&, IODebugContext*) override {
    return file_.TruncateTo(size);
  }
  IOStatus Close(const IOOptions&, IODebugContext*) override {
    return IOStatus::OK();
  }
  IOStatus Flush(const IOOptions&, IODebugContext*) override {
    return IOStatus::OK();
  }
  IOStatus Sync(const IOOptions&, IODebugContext*) override {
    return file_.SyncFile();
  }
  bool IsSyncThreadSafe() const override { return true; }
  uint64_t GetFileSize(const IOOptions&, IODebugContext*) override {
    return file_.size();
  }

 private:
  OpenFile file_;
};

class RandomRWFile : public rocksdb::FSRandomRWFile {
 public:
  explicit RandomRWFile(OpenFile file) : file_(std::move(file)) {}
  IOStatus Write(uint64_t offset, const Slice& data, const IOOptions&,
                 IODebugContext*) override {
    return file_.WriteAt(offset, data);
  }
  IOStatus Read(uint64_t offset, size_t n, const IOOptions&, Slice* result,
                char* scratch, IODebugContext*) const override {
    return file_.ReadAt(offset, n, result, scratch);
  }
  IOStatus Flush(const IOOptions&, IODebugContext*) override {
    return IOStatus::OK();
  }
  IOStatus Sync(const IOOptions&, IODebugContext*) override {
    return file_.SyncFile();
  }
  IOStatus Close(const IOOptions&, IODebugContext*) override {
    return IOStatus::OK();
  }

 private:
  OpenFile file_;
};

class OpenDirectory : public rocksdb::FSDirectory {
 public:
  OpenDirectory(const FaultFs* fs, std::string path, DiskNodePtr node)
      : fs_(fs), path_(std::move(path)), node_(std::move(node)) {}
  IOStatus Fsync(const IOOptions&, IODebugContext*) override {
    return fs_->Do(FileOp::kSyncDirectory, path_, [&] {
      node_->SyncEntries();
      return IOStatus::OK();
    });
  }
  size_t GetUniqueId(char*, size_t) const override { return 0; }

 private:
  const FaultFs* const fs_;
  const std::string path_;
  const DiskNodePtr node_;
};

class SilentLogger : public rocksdb::Logger {
 public:
  using rocksdb::Logger::Logv;
  void Logv(const char*, va_list) override {}
  size_t GetLogFileSize() const override { return 0; }
};

class SleeplessClock : public rocksdb::SystemClockWrapper {
 public:
  SleeplessClock() : SystemClockWrapper(rocksdb::SystemClock::Default()) {}
  const char* Name() const override { return "weir.SleeplessClock"; }
  void SleepForMicroseconds(int) override {}
};

class FaultEnv : public rocksdb::EnvWrapper {
 public:
  explicit FaultEnv(std::shared_ptr<FaultFs> fs)
      : rocksdb::EnvWrapper(rocksdb::NewCompositeEnv(fs)) {
    // EnvWrapper would make both from its target's old-style methods.
    file_system_ = std::move(fs);
    system_clock_ = std::make_shared<SleeplessClock>();
  }
  const char* Name() const override { return "weir.FaultEnv"; }
};

class HeldLock : public rocksdb::FileLock {
 public:
  explicit HeldLock(std::string path) : path(std::move(path)) {}
  const std::string path;
};

}  // namespace

FaultFs::FaultFs() : root_(std::make_shared<DiskNode>(/*directory=*/true)) {}

std::shared_ptr<FaultFs> FaultFs::AfterKill() const {
  auto copy = std::make_shared<FaultFs>();
  absl::MutexLock lock(&mutex_);
  absl::MutexLock copy_lock(&copy->mutex_);
  copy->root_ = root_->AfterKill();
  return copy;
}

std::shared_ptr<FaultFs> FaultFs::AfterPowerCut(uint64_t seed) const {
  absl::MutexLock lock(&mutex_);
  return CutLocked(seed);
}

std::shared_ptr<FaultFs> FaultFs::CutLocked(uint64_t seed) const {
  Random random(seed);
  auto copy = std::make_shared<FaultFs>();
  absl::MutexLock copy_lock(&copy->mutex_);
  copy->root_ = root_->AfterPowerCut(&random);
  return copy;
}

void FaultFs::SetHook(Hook hook) {
  absl::MutexLock lock(&mutex_);
  hook_ = std::move(hook);
}

void FaultFs::FailAt(uint64_t nth, bool for_ever, IOStatus error) {
  absl::MutexLock lock(&mutex_);
  until_fault_ = nth;
  fault_for_ever_ = for_ever;
  fault_where_.reset();
  fault_ = std::move(error);
  struck_ = false;
}

void FaultFs::FailWhere(FileOp::Kind kind, const std::string& part,
                        IOStatus error) {
  absl::MutexLock lock(&mutex_);
  fault_where_ = FileOp{kind, part};
  fault_ = std::move(error);
  struck_ = false;
}

void FaultFs::StopFailing() {
  absl::MutexLock lock(&mutex_);
  until_fault_ = 0;
  fault_where_.reset();
}

bool FaultFs::struck() const {
  absl::MutexLock lock(&mutex_);
  return struck_;
}

FileOp FaultFs::struck_op() const {
  absl::MutexLock lock(&mutex_);
  return struck_op_;
}

uint64_t FaultFs::Count(FileOp::Kind kind) const {
  absl::MutexLock lock(&mutex_);
  return counts_[kind];
}

void FaultFs::SetFreeBytes(uint64_t bytes) {
  absl::MutexLock lock(&mutex_);
  free_bytes_ = bytes;
}

bool FaultFs::Strikes(const FileOp& op) const {
  if (fault_.IsNoSpace() && op.kind == FileOp::kRead) return false;
  bool strikes = fault_where_ && fault_where_->kind == op.kind &&
                 absl::StrContains(op.path, fault_where_->path);
  if (until_fault_ > 1) {
    --until_fault_;
  } else if (until_fault_ == 1) {
    strikes = true;
    if (!fault_for_ever_) until_fault_ = 0;
  }
  if (strikes && !struck_) struck_op_ = op;
  struck_ |= strikes;
  return strikes;
}

IOStatus FaultFs::Do(FileOp::Kind kind, const std::string& path,
                     const std::function<IOStatus()>& action,
                     const std::function<void(Random*)>& on_failure) const {
  const FileOp op{kind, path};
  absl::MutexLock lock(&mutex_);
  ++counts_[kind];
  if (hook_ && kind != FileOp::kRead) {
    hook_(op, [this](uint64_t seed) {
      mutex_.AssertHeld();
      return CutLocked(seed);
    });
  }
  if (Strikes(op)) {
    if (on_failure) on_failure(&random_);
    return fault_;
  }
  return action();
}

void FaultFs::MisreadAt(uint64_t nth, Misread misread) {
  absl::MutexLock lock(&mutex_);
  until_misread_ = nth;
  misread_ = std::move(misread);
}

bool FaultFs::has_misread() const {
  absl::MutexLock lock(&mutex_);
  return misread_ != nullptr && until_misread_ == 0;
}

std::string FaultFs::Read(const std::string& path, const std::string& content, uint64_t offset, size_t n) const {
  mutex_.AssertHeld();
  std::string read = content.substr(std::min<size_t>(offset, content.size()), n);
  if (until_misread_ == 0) return read;
  std::string wrong = misread_(path, content, offset, n).substr(0, n);
  return wrong != read && --until_misread_ == 0 ? wrong : read;
}

FaultFs::Place FaultFs::Locate(const std::string& path) const {
  std::vector<std::string> parts = absl::StrSplit(path, '/', absl::SkipEmpty());
  Place place{nullptr, "", root_};
  for (const std::string& part : parts) {
    place.parent = place.node;
    place.name = part;
    if (place.parent == nullptr || !place.parent->directory()) return {};
    place.node = place.parent->Entry(part);
  }
  return place;
}

IOStatus FaultFs::At(FileOp::Kind kind, const std::string& path,
                     bool must_exist,
                     const std::function<IOStatus(const Place&)>& action) {
  return Do(kind, path, [&] {
    mutex_.AssertHeld();
    Place place = Locate(path);
    if (must_exist ? place.node == nullptr : place.parent == nullptr) {
      return NotThere(path);
    }
    return action(place);
  });
}

void FaultFs::ForEachFile(const Visit& visit) const {
  Visit walk = [&](const std::string& path, const DiskNode& node) {
    if (!node.directory()) visit(path, node);
    for (const auto& [name, entry] : node.entries()) {
      walk(path + "/" + name, *entry);
    }
  };
  walk("", *root_);
}

std::vector<std::string> FaultFs::Files() const {
  absl::MutexLock lock(&mutex_);
  std::vector<std::string> files;
  ForEachFile([&](const std::string& path, const DiskNode&) {
    files.push_back(path);
  });
  return files;
}

uint64_t FaultFs::BytesUsed() const {
  absl::MutexLock lock(&mutex_);
  uint64_t bytes = 0;
  ForEachFile([&](const std::string&, const DiskNode& node) {
    bytes += node.content().size();
  });
  return bytes;
}

std::string FaultFs::Content(const std::string& path) const {
  absl::MutexLock lock(&mutex_);
  return Locate(path).node->content();
}

void FaultFs::SetContent(const std::string& path, const std::string& content) {
  absl::MutexLock lock(&mutex_);
  const Place place = Locate(path);
  if (place.node != nullptr) return place.node->Replace(content);
  auto node = std::make_shared<DiskNode>(/*directory=*/false);
  node->Replace(content);
  place.parent->Link(place.name, std::move(node));
  place.parent->SyncEntries();
}

void FaultFs::Remove(const std::string& path) {
  absl::MutexLock lock(&mutex_);
  Place place = Locate(path);
  place.parent->Unlink(place.name);
  place.parent->SyncEntries();
}

IOStatus FaultFs::NewSequentialFile(
    const std::string& name, const rocksdb::FileOptions&,
    std::unique_ptr<rocksdb::FSSequentialFile>* file, IODebugContext*) {
  return At(FileOp::kRead, name, true, [&](const Place& place) {
    *file = std::make_unique<SequentialFile>(OpenFile(this, name, place.node));
    return IOStatus::OK();
  });
}

IOStatus FaultFs::NewRandomAccessFile(
    const std::string& name, const rocksdb::FileOptions&,
    std::unique_ptr<rocksdb::FSRandomAccessFile>* file, IODebugContext*) {
  return At(FileOp::kRead, name, true, [&](const Place& place) {
    *file =
        std::make_unique<RandomAccessFile>(OpenFile(this, name, place.node));
    return IOStatus::OK();
  });
}

IOStatus FaultFs::NewWritableFile(
    const std::string& name, const rocksdb::FileOptions&,
    std::unique_ptr<rocksdb::FSWritableFile>* file, IODebugContext*) {
  return At(FileOp::kCreate, name, false, [&](const Place& place) {
    DiskNodePtr node = place.node;
    if (node == nullptr) {
      node = std::make_shared<DiskNode>(/*directory=*/false);
      place.parent->Link(place.name, node);
    } else {
      node->Truncate(0);
    }
    *file = std::make_unique<WritableFile>(OpenFile(this, name, node));
    return IOStatus::OK();
  });
}

IOStatus FaultFs::NewRandomRWFile(
    const std::string& name, const rocksdb::FileOptions&,
    std::unique_ptr<rocksdb::FSRandomRWFile>* file, IODebugContext*) {
  return At(FileOp::kRead, name, true, [&](const Place& place) {
    *file = std::make_unique<RandomRWFile>(OpenFile(this, name, place.node));
    return IOStatus::OK();
  });
}

IOStatus FaultFs::NewDirectory(const std::string& name, const IOOptions&,
                               std::unique_ptr<rocksdb::FSDirectory>* directory,
                               IODebugContext*) {
  return At(FileOp::kRead, name, true, [&](const Place& place) {
    if (!place.node->directory()) return NotThere(name);
    *directory = std::make_unique<OpenDirectory>(this, name, place.node);
    return IOStatus::OK();
  });
}

IOStatus FaultFs::FileExists(const std::string& name, const IOOptions&,
                             IODebugContext*) {
  return Do(FileOp::kRead, name, [&] {
    mutex_.AssertHeld();
    return Locate(name).node != nullptr ? IOStatus::OK()
                                        : IOStatus::NotFound(name);
  });
}

IOStatus FaultFs::GetChildren(const std::string& name, const IOOptions&,
                              std::vector<std::string>* children,
                              IODebugContext*) {
  children->clear();
  return At(FileOp::kRead, name, true, [&](const Place& place) {
    for (const auto& [child, node] : place.node->entries()) {
      children->push_back(child);
    }
    return IOStatus::OK();
  });
}

IOStatus FaultFs::DeleteFile(const std::string& name, const IOOptions&,
                             IODebugContext*) {
  return At(FileOp::kDelete, name, true, [&](const Place& place) {
    place.parent->Unlink(place.name);
    return IOStatus::OK();
  });
}

IOStatus FaultFs::CreateDir(const std::string& name, const IOOptions&,
                            IODebugContext*) {
  return At(FileOp::kCreate, name, false, [&](const Place& place) {
    if (place.node != nullptr) return IOStatus::IOError("File exists", name);
    place.parent->Link(place.name,
                       std::make_shared<DiskNode>(/*directory=*/true));
    return IOStatus::OK();
  });
}

IOStatus FaultFs::CreateDirIfMissing(const std::string& name,
                                     const IOOptions& options,
                                     IODebugContext* dbg) {
  bool exists = false;
  IOStatus status = Do(FileOp::kRead, name, [&] {
    mutex_.AssertHeld();
    exists = Locate(name).node != nullptr;
    return IOStatus::OK();
  });
  if (!status.ok() || exists) return status;
  return CreateDir(name, options, dbg);
}

IOStatus FaultFs::DeleteDir(const std::string& name, const IOOptions&,
                            IODebugContext*) {
  return At(FileOp::kDelete, name, true, [&](const Place& place) {
    if (!place.node->entries().empty()) {
      return IOStatus::IOError("Directory not empty", name);
    }
    place.parent->Unlink(place.name);
    return IOStatus::OK();
  });
}

IOStatus FaultFs::GetFileSize(const std::string& name, const IOOptions&,
                              uint64_t* size, IODebugContext*) {
  return At(FileOp::kRead, name, true, [&](const Place& place) {
    *size = place.node->content().size();
    return IOStatus::OK();
  });
}

IOStatus FaultFs::GetFileModificationTime(const std::string& name,
                                          const IOOptions&, uint64_t* time,
                                          IODebugContext*) {
  *time = 0;
  return At(FileOp::kRead, name, true,
            [](const Place&) { return IOStatus::OK(); });
}

IOStatus FaultFs::RenameFile(const std::string& from, const std::string& to,
                             const IOOptions&, IODebugContext*) {
  return At(FileOp::kRename, from, true, [&](const Place& place) {
    mutex_.AssertHeld();
    const Place target = Locate(to);
    // All that the store needs; across directories would be two changes.
    CHECK(target.parent == place.parent);
    place.parent->Rename(place.name, target.name);
    return IOStatus::OK();
  });
}

IOStatus FaultFs::LockFile(const std::string& name, const IOOptions&,
                           rocksdb::FileLock** lock, IODebugContext*) {
  return At(FileOp::kCreate, name, false, [&](const Place& place) {
    mutex_.AssertHeld();
    if (!locks_.insert(name).second) {
      return IOStatus::IOError("lock hold by current process", name);
    }
    if (place.node == nullptr) {
      place.parent->Link(place.name,
                         std::make_shared<DiskNode>(/*directory=*/false));
    }
    *lock = new HeldLock(name);
    return IOStatus::OK();
  });
}

IOStatus FaultFs::UnlockFile(rocksdb::FileLock* lock, const IOOptions&,
                             IODebugContext*) {
  std::unique_ptr<HeldLock> held(static_cast<HeldLock*>(lock));
  absl::MutexLock guard(&mutex_);
  locks_.erase(held->path);
  return IOStatus::OK();
}

IOStatus FaultFs::GetTestDirectory(const IOOptions&, std::string* path,
                                   IODebugContext*) {
  *path = "/";
  return IOStatus::OK();
}

IOStatus FaultFs::NewLogger(const std::string&, const IOOptions&,
                            std::shared_ptr<rocksdb::Logger>* logger,
                            IODebugContext*) {
  *logger = std::make_shared<SilentLogger>();
  return IOStatus::OK();
}

IOStatus FaultFs::GetAbsolutePath(const std::string& name, const IOOptions&,
                                  std::string* path, IODebugContext*) {
  *path = name;
  return IOStatus::OK();
}

IOStatus FaultFs::GetFreeSpace(const std::string&, const IOOptions&,
                               uint64_t* bytes, IODebugContext*) {
  absl::MutexLock lock(&mutex_);
  *bytes = free_bytes_;
  return IOStatus::OK();
}

IOStatus FaultFs::IsDirectory(const std::string& name, const IOOptions&,
                              bool* is, IODebugContext*) {
  return At(FileOp::kRead, name, true, [&](const Place& place) {
    *is = place.node->directory();
    return IOStatus::OK();
  });
}

std::unique_ptr<rocksdb::Env> NewFaultEnv(std::shared_ptr<FaultFs> fs) {
  return std::make_unique<FaultEnv>(std::move(fs));
}

}  // namespace weir::store::testing
