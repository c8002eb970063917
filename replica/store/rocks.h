// Between RocksDB's words and ours.
#ifndef WEIR_REPLICA_STORE_ROCKS_H_
#define WEIR_REPLICA_STORE_ROCKS_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "rocksdb/slice.h"
#include "rocksdb/status.h"

namespace weir::store {

inline rocksdb::Slice AsSlice(absl::string_view bytes) {
  return rocksdb::Slice(bytes.data(), bytes.size());
}

inline absl::string_view View(const rocksdb::Slice& slice) {
  return absl::string_view(slice.data(), slice.size());
}

// The CRC32C of what `crc` covers followed by `bytes`; 0 covers nothing.
uint32_t ExtendCrc32c(uint32_t crc, absl::string_view bytes);

// An I/O error of a running store: ENOSPC, EBADMSG for corruption and lost
// files, else EIO. `what` says what was being done, and to what.
absl::Status FromRocks(const rocksdb::Status& status, absl::string_view what);

// Whether an error of these is that a file could not be opened for want of descriptors or memory (proto/base/shortage.h).
bool TellsOfShortage(const absl::Status& error);

// The same for opening: permission and space as the file system says,
// anything else DATA_LOSS.
absl::Status FromRocksOpen(const rocksdb::Status& status, absl::string_view what);

}  // namespace weir::store

#endif  // WEIR_REPLICA_STORE_ROCKS_H_
