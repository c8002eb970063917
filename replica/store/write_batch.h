// Builds a RocksDB WriteBatch in the store's words.
#ifndef WEIR_REPLICA_STORE_WRITE_BATCH_H_
#define WEIR_REPLICA_STORE_WRITE_BATCH_H_

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "replica/store/domain.h"
#include "replica/store/keys.h"
#include "rocksdb/write_batch.h"

namespace weir::store {

// Thread-safety: none. The first error is kept and given by Write.
class DomainBatch {
 public:
  explicit DomainBatch(const Domain& domain)
      : versions_(domain.family(Family::kVersions)),
        blocks_(domain.family(Family::kBlocks)),
        changes_(domain.family(Family::kChanges)) {}

  // `data` is copied once, into the batch.
  void PutData(const BlockAddress& address, Position position, uint32_t crc,
               absl::string_view data) {
    PutVersion(address, position, BlockKind::kData, crc, data);
  }
  void PutZero(const BlockAddress& address, Position position) {
    PutVersion(address, position, BlockKind::kZero, 0, "");
  }
  void PutChange(VolumeId volume, LaneId lane, const ChangeEntry& change) {
    Keep(batch_.Put(changes_, ChangeKey(volume, lane, change), ""));
  }
  void PutPosition(VolumeId volume, LaneId lane, Position position) {
    Keep(batch_.Put(PositionKey(volume, lane), EncodeNumber(position.bits())));
  }
  void PutLineage(VolumeId volume, LaneId lane,
                  const std::vector<LineageEntry>& lineage) {
    Keep(batch_.Put(LineageKey(volume, lane), EncodeLineage(lineage)));
  }
  // Applies it. A batch that could not be built is the domain's failure too:
  // memory ran out or a bug.
  absl::Status Write(Domain* domain);

 private:
  void PutVersion(const BlockAddress& address, Position position,
                  BlockKind kind, uint32_t crc, absl::string_view data);
  void Keep(const rocksdb::Status& status) {
    if (status_.ok() && !status.ok()) status_ = status;
  }

  rocksdb::ColumnFamilyHandle* const versions_;
  rocksdb::ColumnFamilyHandle* const blocks_;
  rocksdb::ColumnFamilyHandle* const changes_;
  rocksdb::WriteBatch batch_;
  rocksdb::Status status_;
};

}  // namespace weir::store

#endif  // WEIR_REPLICA_STORE_WRITE_BATCH_H_
