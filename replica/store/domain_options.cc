#include "replica/store/domain_options.h"

#include <algorithm>

#include "replica/store/version_count.h"
#include "rocksdb/cache.h"
#include "rocksdb/filter_policy.h"
#include "rocksdb/table.h"

namespace weir::store {
namespace {

// Values below this stay in the SST: zero versions do, data never does.
constexpr uint64_t kMinBlobBytes = 1024;
// Larger blob files are fewer files; smaller ones give space back sooner.
constexpr uint64_t kBlobFileBytes = 64 << 20;
constexpr uint64_t kKeyFileBytes = 8 << 20;
// Open table files, each with its index in memory, and open blob files.
constexpr int kOpenFilesMax = 512;

std::shared_ptr<rocksdb::TableFactory> NewTables(
    const std::shared_ptr<rocksdb::Cache>& cache) {
  rocksdb::BlockBasedTableOptions options;
  options.block_cache = cache;
  options.filter_policy.reset(rocksdb::NewBloomFilterPolicy(10));
  // Indexes and filters count against the cache too: memory stays bounded
  // however large the volumes are.
  options.cache_index_and_filter_blocks = true;
  options.cache_index_and_filter_blocks_with_high_priority = true;
  options.pin_l0_filter_and_index_blocks_in_cache = true;
  return std::shared_ptr<rocksdb::TableFactory>(
      rocksdb::NewBlockBasedTableFactory(options));
}

rocksdb::ColumnFamilyOptions KeyFamily(
    const DomainTuning& tuning, const std::shared_ptr<rocksdb::Cache>& cache) {
  rocksdb::ColumnFamilyOptions options;
  options.table_factory = NewTables(cache);
  options.compression = rocksdb::kNoCompression;
  options.write_buffer_size =
      std::max<uint64_t>(tuning.memtable_bytes / 8, 256 << 10);
  options.arena_block_size = 64 << 10;
  options.max_write_buffer_number = 3;
  options.target_file_size_base = kKeyFileBytes;
  options.max_bytes_for_level_base = 8 * kKeyFileBytes;
  options.level_compaction_dynamic_level_bytes = true;
  return options;
}

rocksdb::ColumnFamilyOptions VersionsFamily(
    const DomainTuning& tuning, const std::shared_ptr<rocksdb::Cache>& cache) {
  rocksdb::ColumnFamilyOptions options = KeyFamily(tuning, cache);
  // Three of them: one fills while others are written out.
  options.write_buffer_size =
      std::max<uint64_t>(tuning.memtable_bytes / 3, 512 << 10);
  options.arena_block_size = 256 << 10;
  // A table of one memtable holds few keys, and each compaction into the next
  // level rewrites most keys there: fewer, larger ones. Reads are by exact key
  // and filters tell which table has it.
  options.level0_file_num_compaction_trigger = 12;
  options.level0_slowdown_writes_trigger = 32;
  options.level0_stop_writes_trigger = 48;
  options.enable_blob_files = true;
  options.min_blob_size = kMinBlobBytes;
  options.blob_file_size = kBlobFileBytes;
  options.blob_compression_type = rocksdb::kNoCompression;
  options.enable_blob_garbage_collection = true;
  // Blobs of the older half move when a compaction meets them, and one is
  // forced when half of what lies there is garbage: space in use stays under
  // about twice the live data.
  options.blob_garbage_collection_age_cutoff = 0.25;
  options.blob_garbage_collection_force_threshold = 0.5;
  options.blob_compaction_readahead_size = 1 << 20;
  options.table_properties_collector_factories.push_back(
      NewVersionCountFactory());
  return options;
}

}  // namespace

rocksdb::DBOptions DatabaseOptions(const DomainTuning& tuning) {
  rocksdb::DBOptions options;
  options.create_if_missing = false;  // only the maker of a store sets it
  // What design.md, "Opened is not trusted", demands.
  options.wal_recovery_mode = rocksdb::WALRecoveryMode::kPointInTimeRecovery;
  options.paranoid_checks = true;
  options.avoid_flush_during_recovery = false;
  options.max_bgerror_resume_count = 0;
  options.manual_wal_flush = false;
  options.recycle_log_file_num = 0;
  options.wal_bytes_per_sync = 0;
  options.enable_pipelined_write = false;
  options.unordered_write = false;
  options.two_write_queues = false;
  // A closed WAL that is missing or short is then found when opening.
  options.track_and_verify_wals_in_manifest = true;
  // The destructor has synced the WAL; writing memtables out would only make
  // closing slow.
  options.avoid_flush_during_shutdown = true;
  options.max_total_wal_size = 4 * tuning.memtable_bytes;
  options.db_write_buffer_size = tuning.memtable_bytes;
  options.max_open_files = kOpenFilesMax;
  options.max_background_jobs = 2;
  // Each change of the file set would start 16 threads to open a file or two.
  options.max_file_opening_threads = 1;
  // Write out as we go, so that a sync does not find a mountain of dirty pages.
  options.bytes_per_sync = 1 << 20;
  // RocksDB's own log: no statistics, little space.
  options.info_log_level = rocksdb::InfoLogLevel::WARN_LEVEL;
  options.keep_log_file_num = 2;
  options.max_log_file_size = 4 << 20;
  options.stats_dump_period_sec = 0;
  options.stats_persist_period_sec = 0;
  options.skip_stats_update_on_db_open = true;
  return options;
}

std::vector<rocksdb::ColumnFamilyDescriptor> FamilyDescriptors(
    const DomainTuning& tuning, std::shared_ptr<const PinSource> pins) {
  std::shared_ptr<rocksdb::Cache> cache =
      rocksdb::NewLRUCache(tuning.block_cache_bytes);
  rocksdb::ColumnFamilyOptions meta = KeyFamily(tuning, cache);
  rocksdb::ColumnFamilyOptions versions = VersionsFamily(tuning, cache);
  rocksdb::ColumnFamilyOptions blocks = KeyFamily(tuning, cache);
  rocksdb::ColumnFamilyOptions changes = KeyFamily(tuning, cache);
  versions.compaction_filter_factory =
      NewReclaimFactory(ReclaimedFamily::kVersions, pins);
  blocks.compaction_filter_factory =
      NewReclaimFactory(ReclaimedFamily::kBlocks, pins);
  changes.compaction_filter_factory =
      NewReclaimFactory(ReclaimedFamily::kChanges, pins);
  return {{rocksdb::kDefaultColumnFamilyName, meta},
          {"versions", versions},
          {"blocks", blocks},
          {"changes", changes}};
}

}  // namespace weir::store
