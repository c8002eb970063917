// How many data versions of each volume lie in each SST of the versions
// family: counted when the file is written, kept in its properties.
#ifndef WEIR_REPLICA_STORE_VERSION_COUNT_H_
#define WEIR_REPLICA_STORE_VERSION_COUNT_H_

#include <cstdint>
#include <memory>

#include "proto/base/position.h"
#include "rocksdb/db.h"
#include "rocksdb/table_properties.h"

namespace weir::store {

std::shared_ptr<rocksdb::TablePropertiesCollectorFactory>
NewVersionCountFactory();

// Data versions of `volume` in all of `tables`. Versions that a tombstone in a
// younger file hides count until compaction drops them, as their data does
// take space until then.
uint64_t CountVersions(const rocksdb::TablePropertiesCollection& tables,
                       VolumeId volume);

}  // namespace weir::store

#endif  // WEIR_REPLICA_STORE_VERSION_COUNT_H_
