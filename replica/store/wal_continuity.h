// Stops the replay of WALs at the first hole.
//
// After a power cut an older WAL may end early, at a record's boundary, while a
// younger one has reached the disk. RocksDB takes that for a clean end and goes
// on with the younger one; the result is no prefix of history. The records'
// sequence numbers tell.
#ifndef WEIR_REPLICA_STORE_WAL_CONTINUITY_H_
#define WEIR_REPLICA_STORE_WAL_CONTINUITY_H_

#include <cstdint>
#include <optional>
#include <string>

#include "rocksdb/wal_filter.h"
#include "rocksdb/write_batch.h"

namespace weir::store {

// Thread-safety: none; RocksDB replays on the thread that opens.
class WalContinuity : public rocksdb::WalFilter {
 public:
  WalProcessingOption LogRecordFound(unsigned long long log_number,
                                     const std::string& log_file_name,
                                     const rocksdb::WriteBatch& batch,
                                     rocksdb::WriteBatch* new_batch,
                                     bool* batch_changed) override {
    // A batch starts with its sequence number, 8 bytes, and count, 4 bytes,
    // both little endian; that is RocksDB's documented on-disk format.
    const std::string& bytes = batch.Data();
    if (bytes.size() < 12) return WalProcessingOption::kCorruptedRecord;
    const uint64_t sequence = LittleEndian(bytes, 0, 8);
    if (next_ && sequence != *next_) {
      found_hole_ = true;
      return WalProcessingOption::kStopReplay;
    }
    next_ = sequence + LittleEndian(bytes, 8, 4);
    return WalProcessingOption::kContinueProcessing;
  }

  bool found_hole() const { return found_hole_; }

  const char* Name() const override { return "weir.WalContinuity"; }

 private:
  static uint64_t LittleEndian(const std::string& bytes, size_t at, int size) {
    uint64_t number = 0;
    for (int i = size - 1; i >= 0; --i) {
      number = number << 8 | static_cast<uint8_t>(bytes[at + i]);
    }
    return number;
  }

  std::optional<uint64_t> next_;
  bool found_hole_ = false;
};

}  // namespace weir::store

#endif  // WEIR_REPLICA_STORE_WAL_CONTINUITY_H_
