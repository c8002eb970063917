// Space: admission by what the file system has left, and what volumes use.
#ifndef WEIR_REPLICA_STORE_SPACE_H_
#define WEIR_REPLICA_STORE_SPACE_H_

#include <cstdint>
#include <functional>
#include <map>
#include <string>

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

// Counts a volume's blocks that hold data, exactly, by scanning the keys of
// those parts that were written since they were counted last.
// Thread-safety: yes.
class AllocationCount {
 public:
  // 4096 blocks, 16 MiB: one scan of a part is about a millisecond.
  static constexpr uint64_t kPartBlocks = 4096;

  // After a write to `range` was applied.
  void Changed(const BlockRange& range);
  // `count_part` counts one part; it runs without the lock.
  absl::StatusOr<uint64_t> Count(
      uint64_t size_blocks,
      const std::function<absl::StatusOr<uint64_t>(const BlockRange&)>&
          count_part);

 private:
  struct Part {
    uint64_t changes = 0;  // rises with every change
    uint64_t counted_at = ~uint64_t{0};  // `changes` when `allocated` was counted
    uint64_t allocated = 0;
  };
  absl::Mutex mutex_;
  std::map<uint64_t, Part> parts_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace weir::store

#endif  // WEIR_REPLICA_STORE_SPACE_H_
