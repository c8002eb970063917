#include "replica/store/write_batch.h"

#include "replica/store/rocks.h"

namespace weir::store {

void DomainBatch::PutVersion(const BlockAddress& address, Position position,
                             BlockKind kind, uint32_t crc,
                             absl::string_view data) {
  const std::string key = VersionKey(address, position);
  const std::string header = VersionHeader(address, position, kind, crc);
  const rocksdb::Slice key_part(key);
  const rocksdb::Slice value_parts[] = {header, AsSlice(data)};
  Keep(batch_.Put(versions_, rocksdb::SliceParts(&key_part, 1),
                  rocksdb::SliceParts(value_parts, 2)));
}

absl::Status DomainBatch::Write(Domain* domain) {
  if (!status_.ok()) {
    domain->Fail(FromRocks(status_, "build a batch"));
    return domain->health();
  }
  return domain->Write(&batch_);
}

}  // namespace weir::store
