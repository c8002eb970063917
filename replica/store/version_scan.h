// The versions of one block, those that are damaged too.
#ifndef WEIR_REPLICA_STORE_VERSION_SCAN_H_
#define WEIR_REPLICA_STORE_VERSION_SCAN_H_

#include <memory>
#include <optional>

#include "absl/status/statusor.h"
#include "proto/base/position.h"
#include "replica/store/domain.h"
#include "replica/store/keys.h"
#include "rocksdb/iterator.h"

namespace weir::store {

struct FoundVersion {
  Position position;
  absl::StatusOr<VersionValue> value;  // EBADMSG: it is damaged. Its data is valid until the next Find
};

// Thread-safety: none. `domain` must outlive it.
class VersionScan {
 public:
  explicit VersionScan(const Domain& domain) : domain_(domain) {}

  // The newest version at or below `at`; nothing: there is none. Where a whole part of a table is damaged it cannot be said
  // which versions are in it, and one at `at` itself stands for them.
  absl::StatusOr<std::optional<FoundVersion>> Find(const BlockAddress& address, Position at);

 private:
  Position DamagedPosition(const BlockAddress& address, Position at) const;
  bool IsNoneIn(const BlockAddress& address, Position above, Position at) const;

  const Domain& domain_;
  std::unique_ptr<rocksdb::Iterator> versions_;  // from the first Find on
};

}  // namespace weir::store

#endif  // WEIR_REPLICA_STORE_VERSION_SCAN_H_
