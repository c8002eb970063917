// What a flush domain tells of its work: how long each step takes, and how its RocksDB is.
#ifndef WEIR_REPLICA_STORE_DOMAIN_STATS_H_
#define WEIR_REPLICA_STORE_DOMAIN_STATS_H_

#include <array>
#include <cstddef>
#include <cstdint>

#include "absl/time/time.h"

namespace weir::store {

enum class Step {
  kWriteBatch,  // a batch goes into RocksDB; stalls are part of it
  kWalSync,     // of a sync: the mark is written and the WAL synced
  kFloor,       // then: the floor file is written and synced
  kRead,        // of one stripe: index and data
};
inline constexpr size_t kSteps = 4;

struct StepCounts {
  // 10 us, a read from memory, to 5 s, in steps of 2; the last bucket is for what took longer.
  static constexpr size_t kBounds = 20;
  static absl::Duration Bound(size_t bucket) { return absl::Microseconds(uint64_t{10} << bucket); }

  std::array<uint64_t, kBounds + 1> buckets{};  // at most its bound, and more than the one before
  absl::Duration sum;
};

// Counters begin with the open. All column families together.
struct DomainStats {
  std::array<StepCounts, kSteps> steps;  // by step
  // RocksDB slowed writes down, or stopped them: a family came to that.
  uint64_t slowdowns = 0;
  uint64_t stops = 0;
  bool stopped = false;                   // now
  uint64_t delayed_bytes_per_second = 0;  // what writes are slowed down to now; 0: they are not
  uint64_t compaction_pending_bytes = 0;  // estimated
  uint64_t compactions_running = 0;
  uint64_t compactions = 0;
  uint64_t compaction_written_bytes = 0;
  absl::Duration compaction_time;
  uint64_t memtable_flushes = 0;
  uint64_t memtable_bytes = 0;
  uint64_t block_cache_bytes = 0;
  uint64_t wal_bytes = 0;
  uint64_t table_bytes = 0;
  uint64_t blob_bytes = 0;
  uint64_t blob_garbage_bytes = 0;        // of these, for which compaction has still to come
};

}  // namespace weir::store

#endif  // WEIR_REPLICA_STORE_DOMAIN_STATS_H_
