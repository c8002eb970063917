#include "volume/host/parent_reader.h"

#include <algorithm>
#include <map>

#include "absl/strings/str_cat.h"
#include "proto/base/payload.h"
#include "proto/base/status_macros.h"
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
  std::map<uint64_t, std::string> found;  // zeros are found too
  for (const Level& level : levels) {
    const uint64_t end = std::min(range.end(), level.size_blocks);
    // Runs that nobody nearer has anything of.
    for (uint64_t at = range.first; at < end;) {
      if (found.count(at) > 0) {
        ++at;
        continue;
      }
      const auto next = found.upper_bound(at);
      const uint64_t run_end = next == found.end() ? end : std::min(end, next->first);
      ASSIGN_OR_RETURN(std::vector<PinnedReader::Block> read,
                       level.reader->Read({at, run_end - at}));
      for (PinnedReader::Block& block : read) found[block.block] = std::move(block.data);
      at = run_end;
    }
  }
  std::vector<PinnedReader::Block> blocks;
  for (auto& [block, data] : found) {
    if (!data.empty()) blocks.push_back({block, std::move(data)});
  }
  return blocks;
}

absl::StatusOr<std::vector<PinnedReader::Block>> ParentReader::Read(BlockRange range) {
  absl::StatusOr<std::vector<PinnedReader::Block>> read = ReadFrom(levels(), range);
  if (read.ok()) return read;
  // Its replicas may be others by now.
  RETURN_IF_ERROR(Load());
  return ReadFrom(levels(), range);
}

absl::Status ParentReader::Fill(uint64_t first, const std::vector<BlockRange>& absent,
                                std::vector<engine::ReadPart>* parts) {
  std::map<uint64_t, std::string> filled;
  for (const BlockRange& range : absent) {
    ASSIGN_OR_RETURN(std::vector<PinnedReader::Block> read, Read(range));
    for (PinnedReader::Block& block : read) filled[block.block] = std::move(block.data);
  }
  if (filled.empty()) return absl::OkStatus();
  std::string data;
  for (const engine::ReadPart& part : *parts) {
    if (part.data.empty()) {
      data.append(part.blocks * kBlockBytes, '\0');
    } else {
      data.append(part.data.bytes().data(), part.data.size());
    }
  }
  const uint64_t blocks = data.size() / kBlockBytes;
  for (const auto& [block, content] : filled) {
    if (block < first || block - first >= blocks) continue;
    data.replace((block - first) * kBlockBytes, kBlockBytes, content);
  }
  *parts = {engine::ReadPart{blocks, Payload::CopyOf(std::move(data))}};
  return absl::OkStatus();
}

}  // namespace weir::host
