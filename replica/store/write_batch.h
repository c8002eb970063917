// Builds a RocksDB WriteBatch in the store's words.
#ifndef WEIR_REPLICA_STORE_WRITE_BATCH_H_
#define WEIR_REPLICA_STORE_WRITE_BATCH_H_

#include <string>
#include <vector>

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

  // The next two put a block's newest version: the index names it.
  // `data` is copied once, into the batch.
  void PutData(const BlockAddress& address, Position position, uint32_t crc,
               absl::string_view data) {
    PutVersion(address, position, BlockKind::kData, crc, data);
    PutNewest(address, {position, BlockKind::kData});
  }
  void PutZero(const BlockAddress& address, Position position) {
    PutVersion(address, position, BlockKind::kZero, 0, "");
    PutNewest(address, {position, BlockKind::kZero});
  }
  void PutVersion(const BlockAddress& address, Position position,
                  BlockKind kind, uint32_t crc, absl::string_view data);
  void DeleteVersion(const BlockAddress& address, Position position) {
    Keep(batch_.Delete(versions_, VersionKey(address, position)));
  }
  void PutNewest(const BlockAddress& address, const NewestVersion& newest) {
    Keep(batch_.Put(blocks_, BlockKey(address), NewestValue(newest)));
  }
  void DeleteNewest(const BlockAddress& address) {
    Keep(batch_.Delete(blocks_, BlockKey(address)));
  }
  void PutChange(VolumeId volume, LaneId lane, const ChangeEntry& change) {
    Keep(batch_.Put(changes_, ChangeKey(volume, lane, change), ""));
  }
  // A change somewhere in (after, change.position].
  void PutChange(VolumeId volume, LaneId lane, const ChangeEntry& change,
                 Position after) {
    Keep(batch_.Put(changes_, ChangeKey(volume, lane, change),
                    EncodeNumber(after.bits())));
  }
  void DeleteChange(VolumeId volume, LaneId lane, const ChangeEntry& change) {
    Keep(batch_.Delete(changes_, ChangeKey(volume, lane, change)));
  }
  void PutPosition(VolumeId volume, LaneId lane, Position position) {
    Put(PositionKey(volume, lane), EncodeNumber(position.bits()));
  }
  void PutLineage(VolumeId volume, LaneId lane,
                  const std::vector<LineageEntry>& lineage) {
    Put(LineageKey(volume, lane), EncodeLineage(lineage));
  }
  // A record of the meta family.
  void Put(const std::string& key, const std::string& value) {
    Keep(batch_.Put(key, value));
  }
  void Delete(const std::string& key) { Keep(batch_.Delete(key)); }
  bool empty() const { return batch_.Count() == 0; }
  // Applies it. A batch that could not be built is the domain's failure too:
  // memory ran out or a bug.
  absl::Status Write(Domain* domain);

 private:
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
