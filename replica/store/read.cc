// Reading: the index of newest versions, then the versions.
#include <algorithm>
#include <cerrno>

#include "absl/strings/str_cat.h"
#include "proto/base/crc32c.h"
#include "proto/base/errno.h"
#include "proto/base/status_macros.h"
#include "replica/store/disk_store.h"
#include "replica/store/rocks.h"
#include "replica/store/version_count.h"

namespace weir::store {
namespace {

// Up to here blocks are looked up one by one; above, by one scan.
constexpr uint64_t kGetsMax = 4;

absl::Status CheckRange(const VolumeGeometry& geometry, BlockRange range) {
  if (range.count > 0 && range.first < geometry.size_blocks &&
      range.count <= geometry.size_blocks - range.first) {
    return absl::OkStatus();
  }
  absl::Status status = absl::OutOfRangeError(
      absl::StrCat("blocks ", range.first, "+", range.count,
                   " are not in the volume of ", geometry.size_blocks));
  return status;
}

absl::Status DamagedIndex(const Volume& volume, uint64_t block) {
  return ErrnoToStatus(
      EBADMSG, absl::StrCat("the index entry of block ", block, " of volume ",
                            static_cast<uint64_t>(volume.id), " is damaged"));
}

// The kinds of an index entry that is not there and one that is.
absl::Status LoadEntry(const Volume& volume, uint64_t block,
                       const rocksdb::Slice& value, NewestVersion* newest) {
  if (!ParseNewestValue(View(value), newest)) return DamagedIndex(volume, block);
  return absl::OkStatus();
}

void AddAbsent(uint64_t block, ReadResult* result) {
  if (!result->absent.empty() && result->absent.back().end() == block) {
    ++result->absent.back().count;
  } else {
    result->absent.push_back({block, 1});
  }
}

}  // namespace

std::vector<BlockRange> SplitByStripe(const LaneGeometry& geometry,
                                      BlockRange range) {
  std::vector<BlockRange> parts;
  for (uint64_t at = range.first; at < range.end();) {
    const uint64_t stripe_end =
        (at / geometry.stripe_blocks + 1) * geometry.stripe_blocks;
    const uint64_t end = std::min(range.end(), stripe_end);
    parts.push_back({at, end - at});
    at = end;
  }
  return parts;
}

absl::Status DiskStore::ReadIndex(const Volume& volume, BlockRange range,
                                  std::vector<NewestVersion>* newest) const {
  newest->assign(range.count, NewestVersion());
  const LaneId lane = volume.geometry().lanes.LaneOf(range.first);
  const Domain& domain = *domains_[DomainOf(lane)];
  rocksdb::ColumnFamilyHandle* blocks = domain.family(Family::kBlocks);
  const std::string what = absl::StrCat("read ", domain.directory());
  if (range.count <= kGetsMax) {
    for (uint64_t i = 0; i < range.count; ++i) {
      const uint64_t block = range.first + i;
      rocksdb::PinnableSlice value;
      rocksdb::Status status =
          domain.db()->Get(rocksdb::ReadOptions(), blocks,
                           BlockKey({volume.id, lane, block}), &value);
      if (status.IsNotFound()) continue;
      RETURN_IF_ERROR(FromRocks(status, what));
      RETURN_IF_ERROR(LoadEntry(volume, block, value, &(*newest)[i]));
    }
    return absl::OkStatus();
  }
  const std::string end = BlockKey({volume.id, lane, range.end()});
  const rocksdb::Slice end_slice(end);
  rocksdb::ReadOptions options;
  options.iterate_upper_bound = &end_slice;
  std::unique_ptr<rocksdb::Iterator> keys(
      domain.db()->NewIterator(options, blocks));
  for (keys->Seek(BlockKey({volume.id, lane, range.first})); keys->Valid();
       keys->Next()) {
    BlockAddress address;
    if (!ParseBlockKey(View(keys->key()), &address)) {
      return DamagedIndex(volume, range.first);
    }
    RETURN_IF_ERROR(LoadEntry(volume, address.block, keys->value(),
                              &(*newest)[address.block - range.first]));
  }
  return FromRocks(keys->status(), what);
}

absl::StatusOr<ReadResult> DiskStore::Read(VolumeId id, BlockRange range) const {
  ASSIGN_OR_RETURN(std::shared_ptr<Volume> volume, Find(id));
  RETURN_IF_ERROR(CheckRange(volume->geometry(), range));
  ReadResult result;
  result.zeroes = true;
  result.data.reserve(range.count * kBlockBytes);
  result.crcs.reserve(range.count);
  for (const BlockRange& part :
       SplitByStripe(volume->geometry().lanes, range)) {
    absl::Status status = CheckValid(*volume, part);
    if (status.ok()) status = ReadStripe(*volume, part, &result);
    if (!status.ok() && volume->deleted()) {
      return ErrnoToStatus(ENOENT, "volume was deleted");
    }
    RETURN_IF_ERROR(status);
  }
  if (result.zeroes) {
    result.data.clear();
    result.crcs.clear();
  }
  return result;
}

// Appends the blocks of one stripe to `result`. A version that the index named
// may have been reclaimed meanwhile, but then the index names a newer one.
absl::Status DiskStore::ReadStripe(const Volume& volume, BlockRange range,
                                   ReadResult* result) const {
  StepTimer timer(domains_[DomainOf(volume.geometry().lanes.LaneOf(range.first))]->times(), Step::kRead);
  std::vector<NewestVersion> newest;
  RETURN_IF_ERROR(ReadIndex(volume, range, &newest));
  const size_t data_before = result->data.size();
  const size_t crcs_before = result->crcs.size();
  const bool zeroes_before = result->zeroes;
  const std::vector<BlockRange> absent_before = result->absent;
  for (;;) {
    std::vector<size_t> missing;
    result->data.resize(data_before);
    result->crcs.resize(crcs_before);
    result->zeroes = zeroes_before;
    result->absent = absent_before;
    RETURN_IF_ERROR(ReadData(volume, range, newest, &missing, result));
    if (missing.empty()) return absl::OkStatus();
    const std::vector<NewestVersion> before = newest;
    RETURN_IF_ERROR(ReadIndex(volume, range, &newest));
    for (size_t i : missing) {
      if (newest[i] == before[i]) {
        return ErrnoToStatus(
            EBADMSG,
            absl::StrCat("block ", range.first + i, " of volume ",
                         static_cast<uint64_t>(volume.id), " at ",
                         newest[i].position.ToString(), " is lost"));
      }
    }
  }
}

// Sets `missing` to the blocks whose version is not there.
absl::Status DiskStore::ReadData(const Volume& volume, BlockRange range,
                                 const std::vector<NewestVersion>& newest,
                                 std::vector<size_t>* missing,
                                 ReadResult* result) const {
  static const uint32_t kZeroCrc = Crc32c(std::string(kBlockBytes, 0));
  const LaneId lane = volume.geometry().lanes.LaneOf(range.first);
  const Domain& domain = *domains_[DomainOf(lane)];
  std::vector<std::string> keys;
  std::vector<rocksdb::Slice> key_slices;
  for (size_t i = 0; i < newest.size(); ++i) {
    if (newest[i].kind != BlockKind::kData) continue;
    keys.push_back(VersionKey({volume.id, lane, range.first + i},
                              newest[i].position));
  }
  for (const std::string& key : keys) key_slices.emplace_back(key);
  std::vector<rocksdb::PinnableSlice> values(keys.size());
  std::vector<rocksdb::Status> statuses(keys.size());
  if (keys.size() == 1) {
    statuses[0] = domain.db()->Get(rocksdb::ReadOptions(),
                                   domain.family(Family::kVersions),
                                   key_slices[0], &values[0]);
  } else if (!keys.empty()) {
    domain.db()->MultiGet(rocksdb::ReadOptions(),
                          domain.family(Family::kVersions), keys.size(),
                          key_slices.data(), values.data(), statuses.data());
  }
  size_t at = 0;
  for (size_t i = 0; i < newest.size(); ++i) {
    result->newest = std::max(result->newest, newest[i].position);
    if (newest[i].kind != BlockKind::kData) {
      if (newest[i].position == Position()) AddAbsent(range.first + i, result);
      result->data.append(kBlockBytes, '\0');
      result->crcs.push_back(kZeroCrc);
      continue;
    }
    const size_t mine = at++;
    if (statuses[mine].IsNotFound()) {
      missing->push_back(i);
      continue;
    }
    RETURN_IF_ERROR(FromRocks(statuses[mine],
                              absl::StrCat("read ", domain.directory())));
    ASSIGN_OR_RETURN(VersionValue version,
                     ParseVersion({volume.id, lane, range.first + i},
                                  newest[i].position, View(values[mine])));
    if (version.kind != BlockKind::kData) return DamagedIndex(volume, range.first + i);
    result->zeroes = false;
    result->data.append(version.data.data(), version.data.size());
    result->crcs.push_back(version.crc);
  }
  return absl::OkStatus();
}

absl::StatusOr<ExtentsResult> DiskStore::Extents(VolumeId id,
                                                 BlockRange range) const {
  ASSIGN_OR_RETURN(std::shared_ptr<Volume> volume, Find(id));
  RETURN_IF_ERROR(CheckRange(volume->geometry(), range));
  ExtentsResult result;
  for (const BlockRange& part :
       SplitByStripe(volume->geometry().lanes, range)) {
    std::vector<NewestVersion> newest;
    RETURN_IF_ERROR(CheckValid(*volume, part));
    RETURN_IF_ERROR(ReadIndex(*volume, part, &newest));
    for (const NewestVersion& entry : newest) {
      const bool allocated = entry.kind == BlockKind::kData;
      result.newest = std::max(result.newest, entry.position);
      if (result.runs.empty() || result.runs.back().second != allocated) {
        result.runs.emplace_back(0, allocated);
      }
      ++result.runs.back().first;
    }
  }
  return result;
}

// A part of the volume is one run of keys in each lane.
absl::StatusOr<uint64_t> DiskStore::CountAllocated(
    const Volume& volume, const BlockRange& range) const {
  uint64_t allocated = 0;
  for (const auto& lane : volume.lanes) {
    const Domain& domain = *DomainOf(*lane);
    const std::string end = BlockKey({volume.id, lane->id, range.end()});
    const rocksdb::Slice end_slice(end);
    rocksdb::ReadOptions options;
    options.iterate_upper_bound = &end_slice;
    options.fill_cache = false;
    std::unique_ptr<rocksdb::Iterator> keys(
        domain.db()->NewIterator(options, domain.family(Family::kBlocks)));
    for (keys->Seek(BlockKey({volume.id, lane->id, range.first}));
         keys->Valid(); keys->Next()) {
      NewestVersion newest;
      RETURN_IF_ERROR(
          LoadEntry(volume, range.first, keys->value(), &newest));
      if (newest.kind == BlockKind::kData) ++allocated;
    }
    RETURN_IF_ERROR(FromRocks(
        keys->status(), absl::StrCat("count ", domain.directory())));
  }
  return allocated;
}

absl::StatusOr<uint64_t> DiskStore::BlocksAbovePoint(const Lane& lane) const {
  uint64_t blocks = 0;
  RETURN_IF_ERROR(ForEachChange(NewChangesIterator(lane).get(), lane, lane.state().point,
                                [&blocks](const ChangeEntry& change, Position) {
                                  blocks += change.range.count;
                                  return true;
                                }));
  return blocks;
}

// live is AllocationCount's. Of the older versions those that the files are known to hold
// are counted, so what is still in memory is not; at most as many as blocks
// were written above the durable points are called pinned, the rest reclaimable; all, as long as the
// volume has pins: which of them a pin needs only a look at each could tell.
absl::StatusOr<SpaceUsed> DiskStore::GetSpaceUsed(VolumeId id) const {
  ASSIGN_OR_RETURN(std::shared_ptr<Volume> volume, Find(id));
  ASSIGN_OR_RETURN(uint64_t live,
                   volume->allocation.Count(
                       volume->geometry().size_blocks,
                       [&](const BlockRange& part) {
                         return CountAllocated(*volume, part);
                       }));
  uint64_t stored = 0;
  for (uint32_t i = 0; i < DomainsOf(volume->geometry()); ++i) {
    rocksdb::TablePropertiesCollection tables;
    RETURN_IF_ERROR(FromRocks(
        domains_[i]->db()->GetPropertiesOfAllTables(
            domains_[i]->family(Family::kVersions), &tables),
        absl::StrCat("count ", domains_[i]->directory())));
    stored += CountVersions(tables, id);
  }
  uint64_t above = 0;
  for (const auto& lane : volume->lanes) {
    ASSIGN_OR_RETURN(uint64_t blocks, BlocksAbovePoint(*lane));
    above += blocks;
  }
  const uint64_t older = stored > live ? stored - live : 0;
  const uint64_t pinned = volume->pins().empty() ? std::min(older, above) : older;
  return SpaceUsed{live * kBlockBytes, pinned * kBlockBytes,
                   (older - pinned) * kBlockBytes};
}

}  // namespace weir::store
