// Space: admission by what the file system has left, and what volumes use.
#ifndef WEIR_REPLICA_STORE_SPACE_H_
#define WEIR_REPLICA_STORE_SPACE_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "proto/base/position.h"
#include "rocksdb/env.h"

namespace weir::store {

// Refuses writes of one domain while its file system has less than a reserve.
// Asks the file system rarely, and counts what was admitted since.
// Thread-safety: yes.
class Admission {
 public:
  // After this much was admitted, or this long, the file system is asked again.
  static constexpr uint64_t kRefreshBytes = 64 << 20;
  static constexpr absl::Duration kRefreshEvery = absl::Seconds(1);
  // A byte written lies in the WAL and, until that is dropped, in a blob file
  // too; keys and tables are small beside it.
  static constexpr uint64_t kBytesPerByte = 2;
  // What one operation needs beside its data.
  static constexpr uint64_t kBytesPerOp = 1024;

  // `on_refusal` is called, without a lock, each time that something does not fit.
  Admission(rocksdb::Env* env, std::string directory, uint64_t reserve_bytes,
            std::function<void()> on_refusal)
      : env_(env), directory_(std::move(directory)), reserve_(reserve_bytes),
        on_refusal_(std::move(on_refusal)) {}

  // Whether `bytes` of data fit; does not count them.
  bool HasSpaceFor(uint64_t bytes);
  // Counts them if they fit. False: ENOSPC, and nothing may be written.
  bool Admit(uint64_t bytes);

 private:
  bool Fits(uint64_t bytes) ABSL_LOCKS_EXCLUDED(mutex_);

  rocksdb::Env* const env_;
  const std::string directory_;
  const uint64_t reserve_;
  const std::function<void()> on_refusal_;
  absl::Mutex mutex_;
  uint64_t free_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t admitted_ ABSL_GUARDED_BY(mutex_) = 0;  // since free_ was asked for
  absl::Time asked_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
};

// Counts a volume's blocks that hold data, by scanning the keys of those parts that were written since they were
// counted last. A call scans no more than some 0.1 s: of a large volume that is written to all over the parts that it
// does not come to count as they were found last, or as the average of the others if they never were. So what a scrape
// of the metrics costs does not grow with the volume.
// Thread-safety: yes.
class AllocationCount {
 public:
  // 4096 blocks, 16 MiB: one scan of a part is about a millisecond.
  static constexpr uint64_t kPartBlocks = 4096;
  // A call begins no part after it has found so many blocks, 2 GiB.
  static constexpr uint64_t kBlocksPerCall = 128 * kPartBlocks;
  // What the scan of a part costs beside its blocks, in blocks.
  static constexpr uint64_t kBlocksPerPart = 64;

  // After a write to `range` was applied.
  void Changed(const BlockRange& range);
  // `count_part` counts one part; it runs without the lock.
  absl::StatusOr<uint64_t> Count(
      uint64_t size_blocks,
      const std::function<absl::StatusOr<uint64_t>(const BlockRange&)>&
          count_part);

 private:
  struct Part {
    uint64_t changes = 1;     // rises with every change
    uint64_t counted_at = 0;  // `changes` when `allocated` was counted; 0: never
    uint64_t allocated = 0;
  };
  // The next part to be counted, from `next_` on; none: the end of parts_.
  size_t NextChanged() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Counted(size_t part, uint64_t changes, uint64_t allocated) ABSL_LOCKS_EXCLUDED(mutex_);
  uint64_t Sum() const ABSL_LOCKS_EXCLUDED(mutex_);

  mutable absl::Mutex mutex_;
  std::vector<Part> parts_ ABSL_GUARDED_BY(mutex_);
  size_t next_ ABSL_GUARDED_BY(mutex_) = 0;         // where a call goes on
  uint64_t allocated_ ABSL_GUARDED_BY(mutex_) = 0;  // of all parts that were counted
  size_t counted_ ABSL_GUARDED_BY(mutex_) = 0;      // parts, ever
};

}  // namespace weir::store

#endif  // WEIR_REPLICA_STORE_SPACE_H_
