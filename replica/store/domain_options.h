// RocksDB's settings for one domain, each with its reason in the .cc.
#ifndef WEIR_REPLICA_STORE_DOMAIN_OPTIONS_H_
#define WEIR_REPLICA_STORE_DOMAIN_OPTIONS_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "replica/store/reclaim.h"
#include "rocksdb/db.h"

namespace weir::store {

struct DomainTuning {
  uint64_t memtable_bytes = 16 << 20;
  uint64_t block_cache_bytes = 16 << 20;
};

rocksdb::DBOptions DatabaseOptions(const DomainTuning& tuning);

// The column families in the order of the Family enum of domain.h.
std::vector<rocksdb::ColumnFamilyDescriptor> FamilyDescriptors(
    const DomainTuning& tuning, std::shared_ptr<const PinSource> pins);

}  // namespace weir::store

#endif  // WEIR_REPLICA_STORE_DOMAIN_OPTIONS_H_
