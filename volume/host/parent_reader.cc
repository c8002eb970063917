#include "volume/host/parent_reader.h"

#include <algorithm>
#include <cerrno>
#include <iterator>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "proto/base/errno.h"
#include "proto/base/status_macros.h"
#include "volume/engine/parent.h"
#include "volume/host/volume_record.h"

namespace weir::host {

absl::StatusOr<std::shared_ptr<ParentReader>> ParentReader::Open(catalog::Catalog* catalog,
                                                                 const v1::ParentRecord& parent) {
  std::shared_ptr<ParentReader> reader(new ParentReader(catalog, parent));
  RETURN_IF_ERROR(reader->Load());
  return reader;
}

absl::Status ParentReader::Load() {
  std::vector<Level> levels;
  v1::ParentRecord next = parent_;
  while (next.pin() != 0) {
    const std::string name = absl::StrCat(next.volume(), "@", next.snapshot());
    ASSIGN_OR_RETURN(const catalog::VersionedVolume volume, catalog_->GetVolume(next.volume()));
    const v1::SnapshotRecord* snapshot = FindSnapshot(volume.record, next.snapshot());
    if (volume.record.id() != next.volume_id() || snapshot == nullptr ||
        snapshot->pin().id() != next.pin() || levels.size() > kCloneDepthMax) {
      return absl::FailedPreconditionError(
          absl::StrCat("the snapshot ", name, ", from which a clone reads, is not there any more"));
    }
    levels.push_back({next.volume_id(), std::make_shared<PinnedReader>(catalog_, volume.record, next.pin()),
                      next.size_bytes() / kBlockBytes});
    next = snapshot->parent();
  }
  absl::MutexLock lock(&mu_);
  levels_ = std::move(levels);
  return absl::OkStatus();
}

std::vector<ParentReader::Level> ParentReader::levels() const {
  absl::MutexLock lock(&mu_);
  return levels_;
}

int ParentReader::depth() const { return static_cast<int>(levels().size()); }

std::vector<uint64_t> ParentReader::volume_ids() const {
  std::vector<uint64_t> ids;
  for (const Level& level : levels()) ids.push_back(level.volume_id);
  return ids;
}

absl::StatusOr<std::vector<PinnedReader::Block>> ParentReader::ReadFrom(
    const std::vector<Level>& levels, BlockRange range) {
  std::vector<uint64_t> sizes;
  for (const Level& level : levels) sizes.push_back(level.size_blocks);
  engine::LineRead read(range, std::move(sizes));
  while (const std::optional<engine::LineRead::Ask> ask = read.Next()) {
    ASSIGN_OR_RETURN(std::vector<PinnedReader::Block> blocks, levels[ask->level].reader->Read(ask->range));
    read.Came(std::move(blocks));
  }
  return read.Take();
}

absl::StatusOr<std::vector<PinnedReader::Block>> ParentReader::Read(BlockRange range) {
  absl::StatusOr<std::vector<PinnedReader::Block>> read = ReadFrom(levels(), range);
  if (read.ok()) return read;
  // Its replicas may be others by now; while the catalog does not say so, what those said that were known is not the last word. That a
  // block is damaged is.
  const absl::Status loaded = Load();
  if (!loaded.ok()) return StatusToErrno(read.status()) == EBADMSG ? read.status() : loaded;
  return ReadFrom(levels(), range);
}

absl::Status ParentReader::Fill(uint64_t first, const std::vector<BlockRange>& absent,
                                std::vector<engine::ReadPart>* parts) {
  std::vector<PinnedReader::Block> filled;
  for (const BlockRange& range : absent) {
    ASSIGN_OR_RETURN(std::vector<PinnedReader::Block> read, Read(range));
    std::move(read.begin(), read.end(), std::back_inserter(filled));
  }
  engine::FillParts(first, filled, parts);
  return absl::OkStatus();
}

}  // namespace weir::host
