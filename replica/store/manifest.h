// RocksDB's MANIFEST, looked at before RocksDB does.
//
// RocksDB notices a damaged MANIFEST, but not one that ends early or was
// replaced by an older copy of itself: then it finds only the files the older
// one knew. The floor therefore repeats number, length and checksum of what was
// synced of it. The other way round, RocksDB takes a tail that was torn by a
// power cut for damage and refuses to open; nothing there was synced, so it is
// cut off.
#ifndef WEIR_REPLICA_STORE_MANIFEST_H_
#define WEIR_REPLICA_STORE_MANIFEST_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "replica/store/floor.h"
#include "rocksdb/env.h"

namespace weir::store {

// What is known of one MANIFEST file.
struct ManifestExtent {
  uint64_t number = 0;
  uint64_t bytes = 0;
  uint32_t crc = 0;
};

// False if `name` is not that of a MANIFEST.
bool ParseManifestName(absl::string_view name, uint64_t* number);

// How many leading bytes of a file in RocksDB's log format are whole records.
uint64_t WholeRecordsBytes(absl::string_view log);

// DATA_LOSS if the MANIFEST in `directory` is older than, or differs from, what
// `floor` says was synced of it. Cuts a torn tail off.
absl::Status CheckManifest(rocksdb::Env* env, const std::string& directory,
                           const Floor& floor);

}  // namespace weir::store

#endif  // WEIR_REPLICA_STORE_MANIFEST_H_
