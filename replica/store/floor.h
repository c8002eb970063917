// The floor: what a domain has certainly synced, kept in a file of its own
// beside RocksDB's, because RocksDB opens quietly with less than it had synced.
//
// The file has two slots of 4 KiB, written in turn and each with its checksum,
// so that a torn write leaves the older one. It is allocated when it is made: a
// write to it changes no metadata and costs one plain fdatasync.
#ifndef WEIR_REPLICA_STORE_FLOOR_H_
#define WEIR_REPLICA_STORE_FLOOR_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "rocksdb/env.h"

namespace weir::store {

struct Floor {
  std::string store_id;
  uint32_t domain = 0;
  uint64_t serial = 0;  // of the newest sync mark that is synced
  // The manifest that was in force then: everything up to `manifest_bytes` of
  // it was synced and had this checksum. Number 0: none yet.
  uint64_t manifest_number = 0;
  uint64_t manifest_bytes = 0;
  uint32_t manifest_crc = 0;
};

// Thread-safety: none; its domain writes it from one sync at a time.
class FloorFile {
 public:
  // Writes a new file with `floor` in it and syncs it; not its directory.
  static absl::Status Make(rocksdb::Env* env, const std::string& path,
                           const Floor& floor);
  // DATA_LOSS if neither slot is whole.
  static absl::StatusOr<std::unique_ptr<FloorFile>> Open(
      rocksdb::Env* env, const std::string& path);

  const Floor& newest() const { return newest_; }
  // Replaces the older slot and syncs it. REQUIRES: its serial is higher.
  absl::Status Write(const Floor& floor);

 private:
  FloorFile(std::string path, std::unique_ptr<rocksdb::RandomRWFile> file,
            Floor newest, int newest_slot)
      : path_(std::move(path)),
        file_(std::move(file)),
        newest_(std::move(newest)),
        newest_slot_(newest_slot) {}

  const std::string path_;
  const std::unique_ptr<rocksdb::RandomRWFile> file_;
  Floor newest_;
  int newest_slot_;  // 0 or 1
};

}  // namespace weir::store

#endif  // WEIR_REPLICA_STORE_FLOOR_H_
