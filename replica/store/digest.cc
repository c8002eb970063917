// What a store has of a lane's blocks, checked as by a read: for a scrub to compare.
#include <cerrno>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "proto/base/errno.h"
#include "proto/base/status_macros.h"
#include "replica/store/disk_store.h"
#include "replica/store/history.h"
#include "replica/store/rocks.h"

namespace weir::store {

absl::StatusOr<BlockDigests> DiskStore::Digests(VolumeId id, LaneId lane_id, BlockRange range,
                                                Position at, uint64_t bytes_max) const {
  ASSIGN_OR_RETURN(std::shared_ptr<Volume> volume, Find(id));
  const uint64_t size_blocks = volume->geometry().size_blocks;
  if (Index(lane_id) >= volume->lanes.size() || range.count == 0 || range.first >= size_blocks ||
      range.count > size_blocks - range.first) {
    return absl::InvalidArgumentError(absl::StrCat("no blocks ", range.first, "+", range.count,
                                                   " in lane ", Index(lane_id)));
  }
  const Lane& lane = *volume->lanes[Index(lane_id)];
  RETURN_IF_ERROR(CheckNoneInvalid(*volume, lane));
  // Before the iterator: it sees what has been applied by now, so all up to `at`.
  const Lane::State state = lane.state();
  if (!OnHistory(state.lineage, state.position, at)) {
    return absl::FailedPreconditionError(
        absl::StrCat("lane ", Index(lane_id), " is at ", state.position.ToString(), "; ",
                     at.ToString(), " is not on its history"));
  }
  const Domain& domain = *DomainOf(lane);
  const std::string what = absl::StrCat("look through ", domain.directory());
  const std::string end = BlockKey({id, lane_id, range.end()});
  const rocksdb::Slice end_slice(end);
  rocksdb::ReadOptions options;
  options.iterate_upper_bound = &end_slice;
  options.fill_cache = false;
  const std::unique_ptr<rocksdb::Iterator> index(
      domain.db()->NewIterator(options, domain.family(Family::kBlocks)));
  BlockDigests digests;
  digests.next_block = range.end();
  for (index->Seek(BlockKey({id, lane_id, range.first})); index->Valid(); index->Next()) {
    BlockAddress address;
    NewestVersion newest;
    if (!ParseBlockKey(View(index->key()), &address) ||
        !ParseNewestValue(View(index->value()), &newest)) {
      return ErrnoToStatus(EBADMSG, absl::StrCat(what, ": the index is damaged"));
    }
    const bool full = digests.bytes_read >= bytes_max || digests.blocks.size() == kBlockDigestsMax;
    if (full && !digests.blocks.empty()) {
      digests.next_block = address.block;
      break;
    }
    BlockDigest digest{address.block, BlockDigest::Kind::kNewer, newest.position};
    const bool known = OnHistory(state.lineage, state.position, newest.position) ||
                       IsForgotten(state.lineage, state.position, newest.position);
    if (newest.position <= at && !known) {
      digest.kind = BlockDigest::Kind::kDamaged;
    } else if (newest.position <= at) {
      ASSIGN_OR_RETURN(digest, DigestOf(*volume, lane, address.block, newest, &digests.bytes_read));
    }
    digests.blocks.push_back(digest);
  }
  RETURN_IF_ERROR(FromRocks(index->status(), what));
  // A join that began meanwhile has changed no version yet, and none of its copies counts.
  if (lane.join().id != state.join.id) RETURN_IF_ERROR(CheckNoneInvalid(*volume, lane));
  if (volume->deleted()) return ErrnoToStatus(ENOENT, "volume was deleted");
  return digests;
}

absl::StatusOr<BlockDigest> DiskStore::DigestOf(const Volume& volume, const Lane& lane,
                                                uint64_t block, const NewestVersion& newest,
                                                uint64_t* bytes_read) const {
  using Kind = BlockDigest::Kind;
  BlockDigest digest{block, Kind::kZeroes, newest.position};
  if (newest.kind != BlockKind::kData) return digest;
  const Domain& domain = *DomainOf(lane);
  const BlockAddress address{volume.id, lane.id, block};
  rocksdb::ReadOptions options;
  options.fill_cache = false;
  rocksdb::PinnableSlice value;
  const rocksdb::Status status = domain.db()->Get(options, domain.family(Family::kVersions),
                                                  VersionKey(address, newest.position), &value);
  *bytes_read += kBlockBytes;
  if (status.IsNotFound()) {
    // Reclaimed, and then the index names a newer one; or lost.
    std::vector<NewestVersion> now;
    RETURN_IF_ERROR(ReadIndex(volume, {block, 1}, &now));
    digest.kind = now[0] == newest ? Kind::kDamaged : Kind::kNewer;
    return digest;
  }
  const absl::Status read = FromRocks(status, absl::StrCat("read ", domain.directory()));
  if (!read.ok() && StatusToErrno(read) != EBADMSG) return read;
  const absl::StatusOr<VersionValue> version =
      read.ok() ? ParseVersion(address, newest.position, View(value))
                : absl::StatusOr<VersionValue>(read);
  digest.kind = version.ok() ? Kind::kData : Kind::kDamaged;
  if (version.ok()) digest.crc = version->crc;
  return digest;
}

}  // namespace weir::store
