// What RocksDB says of itself is asked for at each scrape; what happens in it is counted by a listener.
#include "replica/store/domain_stats.h"

#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "replica/store/domain.h"

namespace weir::store {

DomainStats Domain::Stats() const {
  using Properties = rocksdb::DB::Properties;
  DomainStats stats;
  stats.steps = times_.Get();
  stats.slowdowns = events_.slowdowns.load();
  stats.stops = events_.stops.load();
  stats.compactions = events_.compactions.load();
  stats.compaction_written_bytes = events_.compaction_written_bytes.load();
  stats.compaction_time = absl::Microseconds(events_.compaction_microseconds.load());
  stats.memtable_flushes = events_.memtable_flushes.load();

  const auto of_all = [this](const std::string& property) {
    uint64_t sum = 0;
    for (rocksdb::ColumnFamilyHandle* family : families_) {
      uint64_t value = 0;
      if (db_->GetIntProperty(family, property, &value)) sum += value;
    }
    return sum;
  };
  // What is the database's, or its one cache's, and not a family's.
  const auto of_database = [this](const std::string& property) {
    uint64_t value = 0;
    db_->GetIntProperty(property, &value);
    return value;
  };
  stats.stopped = of_database(Properties::kIsWriteStopped) != 0;
  stats.delayed_bytes_per_second = of_database(Properties::kActualDelayedWriteRate);
  stats.compactions_running = of_database(Properties::kNumRunningCompactions);
  stats.block_cache_bytes = of_database(Properties::kBlockCacheUsage);
  stats.compaction_pending_bytes = of_all(Properties::kEstimatePendingCompactionBytes);
  stats.memtable_bytes = of_all(Properties::kSizeAllMemTables);
  stats.table_bytes = of_all(Properties::kTotalSstFilesSize);
  stats.blob_bytes = of_all(Properties::kTotalBlobFileSize);
  stats.blob_garbage_bytes = of_all(Properties::kLiveBlobFileGarbageSize);
  // RocksDB would open and read each WAL to tell.
  std::vector<rocksdb::Env::FileAttributes> files;
  if (settings_.env->GetChildrenFileAttributes(database_directory(), &files).ok()) {
    for (const rocksdb::Env::FileAttributes& file : files) {
      if (absl::EndsWith(file.name, ".log")) stats.wal_bytes += file.size_bytes;
    }
  }
  return stats;
}

}  // namespace weir::store
