#include "replica/store/version_scan.h"

#include <cerrno>
#include <string>

#include "absl/strings/str_cat.h"
#include "proto/base/errno.h"
#include "replica/store/rocks.h"

namespace weir::store {
namespace {

rocksdb::ReadOptions ScanOptions() {
  rocksdb::ReadOptions options;
  options.fill_cache = false;
  return options;
}

}  // namespace

absl::StatusOr<std::optional<FoundVersion>> VersionScan::Find(const BlockAddress& address, Position at) {
  if (versions_ == nullptr) versions_.reset(domain_.db()->NewIterator(ScanOptions(), domain_.family(Family::kVersions)));
  versions_->Seek(VersionKey(address, at));
  const absl::Status status = FromRocks(versions_->status(), absl::StrCat("read versions in ", domain_.directory()));
  if (StatusToErrno(status) == EBADMSG) return FoundVersion{DamagedPosition(address, at), status};
  if (!status.ok()) return status;
  VersionKeyParts parts;
  const bool found = versions_->Valid() && ParseVersionKey(View(versions_->key()), &parts) &&
                     parts.address.volume == address.volume && parts.address.lane == address.lane &&
                     parts.address.block == address.block;
  if (!found) return std::nullopt;
  return FoundVersion{parts.position, ParseVersion(address, parts.position, View(versions_->value()))};
}

// Of the version that an iterator from `at` on cannot pass, and does not name: one with a bound before it ends there, without
// having read it.
Position VersionScan::DamagedPosition(const BlockAddress& address, Position at) const {
  uint64_t some_above = 0;          // there is a version in (some_above, at]
  uint64_t none_above = at.bits();  // there is none in (none_above, at]
  while (none_above - some_above > 1) {
    const uint64_t middle = some_above + (none_above - some_above) / 2;
    (IsNoneIn(address, Position::FromBits(middle), at) ? none_above : some_above) = middle;
  }
  return Position::FromBits(none_above);
}

bool VersionScan::IsNoneIn(const BlockAddress& address, Position above, Position at) const {
  const std::string end = VersionKey(address, above);
  const rocksdb::Slice bound(end);
  rocksdb::ReadOptions options = ScanOptions();
  options.iterate_upper_bound = &bound;
  const std::unique_ptr<rocksdb::Iterator> it(domain_.db()->NewIterator(options, domain_.family(Family::kVersions)));
  it->Seek(VersionKey(address, at));
  return !it->Valid() && it->status().ok();
}

}  // namespace weir::store
