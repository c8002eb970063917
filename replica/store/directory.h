// A store's directories: whose they are, whether they are in use, whether a
// store was made in them, whether it has failed.
//
// Each directory holds LOCK, FLOOR, db/ (RocksDB) and, written last of all when
// a store is made, STORE, which says whose directory it is. FAILED appears when
// the store has failed.
#ifndef WEIR_REPLICA_STORE_DIRECTORY_H_
#define WEIR_REPLICA_STORE_DIRECTORY_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "rocksdb/env.h"

namespace weir::store {

// What STORE says.
struct DirectoryIdentity {
  std::string store_id;  // 32 hex digits
  uint32_t domain = 0;
  uint32_t domains = 0;
  friend bool operator==(const DirectoryIdentity&,
                         const DirectoryIdentity&) = default;
};
std::string EncodeIdentity(const DirectoryIdentity& identity);
// FAILED_PRECONDITION: of a newer format. DATA_LOSS: damaged.
absl::StatusOr<DirectoryIdentity> ParseIdentity(const std::string& text);

// Syncs the entries of a directory.
absl::Status SyncDirectory(rocksdb::Env* env, const std::string& directory);
// Writes a small file so that it is whole or absent, and its entry synced.
absl::Status WriteFileDurably(rocksdb::Env* env, const std::string& directory,
                              const std::string& name,
                              const std::string& content);

// Holds LOCK in each directory; makes directories that are missing.
// FAILED_PRECONDITION: another process has one.
class DirectoryLocks {
 public:
  static absl::StatusOr<std::unique_ptr<DirectoryLocks>> Take(
      rocksdb::Env* env, const std::vector<std::string>& directories);
  ~DirectoryLocks();

 private:
  explicit DirectoryLocks(rocksdb::Env* env) : env_(env) {}
  rocksdb::Env* const env_;
  std::vector<rocksdb::FileLock*> locks_;
};

struct Directories {
  std::string store_id;
  bool make = false;  // nothing was ever served: (re)make them all
  // Made, but the maker died before it wrote this STORE: write it once the
  // domain has been opened and checked.
  std::vector<bool> finish;  // by directory
};

// Decides from what lies there. FAILED_PRECONDITION: foreign files, wrong
// order, mixed stores, a newer format, some empty. DATA_LOSS: failed or damaged.
absl::StatusOr<Directories> Inspect(rocksdb::Env* env,
                                    const std::vector<std::string>& directories);

// Removes what an unfinished making has left. REQUIRES: Inspect said `make`.
absl::Status RemoveUnfinished(rocksdb::Env* env, const std::string& directory);
absl::Status WriteIdentity(rocksdb::Env* env, const std::string& directory,
                           const DirectoryIdentity& identity);
// Best effort: the disk may not take it, or not durably, and the floor stands in then.
void MarkFailed(rocksdb::Env* env, const std::string& directory,
                const std::string& reason);

}  // namespace weir::store

#endif  // WEIR_REPLICA_STORE_DIRECTORY_H_
