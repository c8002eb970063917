#include "replica/store/directory.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "proto/base/crc32c.h"
#include "proto/base/log.h"
#include "proto/base/status_macros.h"
#include "replica/store/domain.h"
#include "replica/store/floor.h"
#include "replica/store/rocks.h"

namespace weir::store {
namespace {

constexpr uint32_t kFormat = 1;
constexpr char kStoreFile[] = "STORE";
constexpr char kFailedFile[] = "FAILED";
constexpr char kLockFile[] = "LOCK";
constexpr char kFormatPrefix[] = "weir-store format ";

std::string ParentOf(const std::string& directory) {
  const std::string path(absl::StripSuffix(directory, "/"));
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

// Of a path as it was given: that it cannot be used says nothing of any data.
absl::Status FromRocksPath(const rocksdb::Status& status, absl::string_view what) {
  const std::string text = status.ToString();
  if (absl::StrContains(text, "No such file or directory")) {
    return absl::FailedPreconditionError(absl::StrCat(
        what, ": ", text, "; make the directory above it first, if its disk is mounted"));
  }
  if (absl::StrContains(text, "Not a directory")) {
    return absl::FailedPreconditionError(absl::StrCat(
        what, ": ", text, "; give a path of directories: a file is among them"));
  }
  return FromRocksOpen(status, what);
}

absl::Status MakeDirectory(rocksdb::Env* env, const std::string& directory) {
  if (env->FileExists(directory).ok()) return absl::OkStatus();
  RETURN_IF_ERROR(FromRocksPath(env->CreateDirIfMissing(directory),
                                absl::StrCat("make directory ", directory)));
  return SyncDirectory(env, ParentOf(directory));
}

// What lies in one directory.
struct Found {
  bool store = false;
  bool floor = false;
  bool database = false;
  std::string foreign;  // the first name that is not ours
};

absl::StatusOr<Found> List(rocksdb::Env* env, const std::string& directory) {
  std::vector<std::string> names;
  RETURN_IF_ERROR(FromRocksOpen(env->GetChildren(directory, &names),
                                absl::StrCat("list ", directory)));
  Found found;
  for (const std::string& name : names) {
    if (name == kStoreFile) {
      found.store = true;
    } else if (name == "FLOOR") {
      found.floor = true;
    } else if (name == "db") {
      found.database = true;
    } else if (name == kFailedFile) {
      std::string reason;
      (void)rocksdb::ReadFileToString(env, directory + "/FAILED", &reason);
      return absl::DataLossError(absl::StrCat(
          directory, ": this store has FAILED and never opens again; erase its "
          "directories to start with an empty one. Reason: ", reason));
    } else if (name != "." && name != ".." && name != kLockFile &&
               name != "lost+found" && !absl::EndsWith(name, ".tmp")) {
      found.foreign = name;
    }
  }
  return found;
}

// Whether a directory without STORE is certainly one that never served.
absl::StatusOr<bool> NeverServed(rocksdb::Env* env, const std::string& directory,
                                 const Found& found, std::string* store_id) {
  if (!found.database) return true;
  absl::StatusOr<std::unique_ptr<FloorFile>> floor =
      FloorFile::Open(env, FloorPath(directory));
  if (!floor.ok()) return false;
  *store_id = (*floor)->newest().store_id;
  return (*floor)->newest().serial == 0;
}

absl::Status CheckMember(const std::string& directory,
                         const DirectoryIdentity& identity,
                         const DirectoryIdentity& expected) {
  if (identity == expected) return absl::OkStatus();
  if (identity.store_id != expected.store_id) {
    return absl::FailedPreconditionError(absl::StrCat(
        directory, ": belongs to store ", identity.store_id, ", not to ",
        expected.store_id, " as the directories before it"));
  }
  return absl::FailedPreconditionError(absl::StrCat(
      directory, ": is directory ", identity.domain + 1, " of ",
      identity.domains, " of its store but was given as ", expected.domain + 1,
      " of ", expected.domains, "; give all of them in their order"));
}

}  // namespace

std::string EncodeIdentity(const DirectoryIdentity& identity) {
  std::string text = absl::StrCat(kFormatPrefix, kFormat, "\nstore_id ",
                                  identity.store_id, "\ndomain ",
                                  identity.domain, "\ndomains ",
                                  identity.domains, "\n");
  return absl::StrCat(text, "crc32c ", Crc32c(text), "\n");
}

absl::StatusOr<DirectoryIdentity> ParseIdentity(const std::string& text) {
  const std::vector<std::string> lines = absl::StrSplit(text, '\n');
  uint32_t format = 0;
  absl::string_view first = lines[0];
  if (!absl::ConsumePrefix(&first, kFormatPrefix) ||
      !absl::SimpleAtoi(first, &format)) {
    return absl::DataLossError("STORE is damaged");
  }
  if (format > kFormat) {
    return absl::FailedPreconditionError(
        absl::StrCat("made by a newer version: format ", format,
                     ", this one knows up to ", kFormat, "; upgrade"));
  }
  DirectoryIdentity identity;
  if (lines.size() == 6) {
    identity.store_id = std::string(absl::StripPrefix(lines[1], "store_id "));
    const bool numbers =
        absl::SimpleAtoi(absl::StripPrefix(lines[2], "domain "),
                         &identity.domain) &&
        absl::SimpleAtoi(absl::StripPrefix(lines[3], "domains "),
                         &identity.domains);
    if (numbers && EncodeIdentity(identity) == text) return identity;
  }
  return absl::DataLossError("STORE is damaged");
}

absl::Status SyncDirectory(rocksdb::Env* env, const std::string& directory) {
  std::unique_ptr<rocksdb::Directory> handle;
  const std::string what = absl::StrCat("sync directory ", directory);
  RETURN_IF_ERROR(FromRocksOpen(env->NewDirectory(directory, &handle), what));
  return FromRocksOpen(handle->Fsync(), what);
}

absl::Status WriteFileDurably(rocksdb::Env* env, const std::string& directory,
                              const std::string& name,
                              const std::string& content) {
  const std::string path = absl::StrCat(directory, "/", name);
  const std::string what = absl::StrCat("write ", path);
  RETURN_IF_ERROR(FromRocksOpen(
      rocksdb::WriteStringToFile(env, content, path + ".tmp", true), what));
  RETURN_IF_ERROR(FromRocksOpen(env->RenameFile(path + ".tmp", path), what));
  return SyncDirectory(env, directory);
}

absl::StatusOr<std::unique_ptr<DirectoryLocks>> DirectoryLocks::Take(
    rocksdb::Env* env, const std::vector<std::string>& directories) {
  auto locks = std::unique_ptr<DirectoryLocks>(new DirectoryLocks(env));
  for (const std::string& directory : directories) {
    RETURN_IF_ERROR(MakeDirectory(env, directory));
    rocksdb::FileLock* lock = nullptr;
    const std::string path = absl::StrCat(directory, "/", kLockFile);
    rocksdb::Status status = env->LockFile(path, &lock);
    if (!status.ok()) {
      absl::Status as_open =
          FromRocksPath(status, absl::StrCat("lock ", path));
      if (!absl::IsDataLoss(as_open)) return as_open;
      return absl::FailedPreconditionError(absl::StrCat(
          directory, ": in use by another process (", status.ToString(),
          "); stop it or give another directory"));
    }
    locks->locks_.push_back(lock);
  }
  return locks;
}

DirectoryLocks::~DirectoryLocks() {
  for (rocksdb::FileLock* lock : locks_) {
    rocksdb::Status status = env_->UnlockFile(lock);
    if (!status.ok()) LOG(WARNING) << "store unlock: " << status.ToString();
  }
}

namespace {

// Reads every STORE and checks that the directories belong together.
absl::Status CheckMembers(rocksdb::Env* env,
                          const std::vector<std::string>& directories,
                          const std::vector<Found>& found,
                          std::string* store_id) {
  for (uint32_t i = 0; i < directories.size(); ++i) {
    if (!found[i].store) continue;
    std::string text;
    RETURN_IF_ERROR(FromRocksOpen(
        rocksdb::ReadFileToString(env, directories[i] + "/STORE", &text),
        absl::StrCat("read ", directories[i], "/STORE")));
    absl::StatusOr<DirectoryIdentity> identity = ParseIdentity(text);
    if (!identity.ok()) {
      return absl::Status(identity.status().code(),
                          absl::StrCat(directories[i], ": ",
                                       identity.status().message()));
    }
    if (store_id->empty()) *store_id = identity->store_id;
    RETURN_IF_ERROR(CheckMember(
        directories[i], *identity,
        {*store_id, i, static_cast<uint32_t>(directories.size())}));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Directories> Inspect(
    rocksdb::Env* env, const std::vector<std::string>& directories) {
  std::vector<Found> found;
  for (const std::string& directory : directories) {
    ASSIGN_OR_RETURN(Found one, List(env, directory));
    found.push_back(one);
  }
  Directories result;
  RETURN_IF_ERROR(CheckMembers(env, directories, found, &result.store_id));
  result.make = result.store_id.empty();
  for (size_t i = 0; i < directories.size(); ++i) {
    result.finish.push_back(!found[i].store);
    if (found[i].store) continue;
    std::string floor_store_id;
    ASSIGN_OR_RETURN(bool never_served,
                     NeverServed(env, directories[i], found[i], &floor_store_id));
    if (!never_served) {
      return absl::DataLossError(absl::StrCat(
          directories[i], ": holds a store but its STORE file is gone"));
    }
    if (!result.make && floor_store_id != result.store_id) {
      return absl::FailedPreconditionError(absl::StrCat(
          directories[i], ": is empty, but other directories hold store ",
          result.store_id, "; is its disk mounted?"));
    }
    if (result.make && !found[i].foreign.empty()) {
      return absl::FailedPreconditionError(absl::StrCat(
          directories[i], ": is not empty (", found[i].foreign,
          "); give an empty directory"));
    }
  }
  return result;
}

absl::Status RemoveUnfinished(rocksdb::Env* env, const std::string& directory) {
  const std::string database = DatabasePath(directory);
  std::vector<std::string> names;
  if (env->GetChildren(database, &names).ok()) {
    for (const std::string& name : names) {
      if (name == "." || name == "..") continue;
      RETURN_IF_ERROR(FromRocksOpen(env->DeleteFile(database + "/" + name),
                                    absl::StrCat("clear ", database)));
    }
    RETURN_IF_ERROR(FromRocksOpen(env->DeleteDir(database),
                                  absl::StrCat("clear ", database)));
    // Before the floor is made anew: a database without one looks served.
    RETURN_IF_ERROR(SyncDirectory(env, directory));
  }
  return absl::OkStatus();
}

absl::Status WriteIdentity(rocksdb::Env* env, const std::string& directory,
                           const DirectoryIdentity& identity) {
  return WriteFileDurably(env, directory, kStoreFile, EncodeIdentity(identity));
}

void MarkFailed(rocksdb::Env* env, const std::string& directory,
                const std::string& reason) {
  absl::Status status = WriteFileDurably(env, directory, kFailedFile, reason + "\n");
  if (status.ok()) return;
  LOG(WARNING) << "store cannot mark " << directory << " FAILED durably: " << status.message();
  // A disk that syncs nothing any more still takes a file, and the next process finds it, unless power was cut.
  rocksdb::WriteStringToFile(env, reason + "\n", absl::StrCat(directory, "/", kFailedFile),
                             /*should_sync=*/false)
      .PermitUncheckedError();
}

}  // namespace weir::store
