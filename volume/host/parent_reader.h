// What a clone reads that it has nothing of: its parent, a snapshot, and that one's parent, and so on.
//
// All of them are pins, which never change, so this knows no order and no epoch.
//
// Thread-safety: safe; all block.
#ifndef WEIR_VOLUME_HOST_PARENT_READER_H_
#define WEIR_VOLUME_HOST_PARENT_READER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "proto/base/position.h"
#include "volume/catalog/catalog.h"
#include "volume/engine/types.h"
#include "volume/host/pinned_reader.h"
#include "weir/v1/catalog.pb.h"

namespace weir::host {

// A clone of a clone ... so often.
inline constexpr int kCloneDepthMax = 8;

class ParentReader {
 public:
  // `catalog` outlives it, and is asked where replicas are now and again. FAILED_PRECONDITION: a parent is gone.
  static absl::StatusOr<std::shared_ptr<ParentReader>> Open(catalog::Catalog* catalog,
                                                            const v1::ParentRecord& parent);

  // Blocks of `range` that somebody up the line has something else than zeros of, ascending.
  absl::StatusOr<std::vector<PinnedReader::Block>> Read(BlockRange range);
  // Fills what is absent into the parts of a read that begins at block `first`.
  absl::Status Fill(uint64_t first, const std::vector<BlockRange>& absent,
                    std::vector<engine::ReadPart>* parts);
  int depth() const;
  // Whose snapshots it reads, the nearest first.
  std::vector<uint64_t> volume_ids() const;

 private:
  struct Level {
    uint64_t volume_id = 0;
    std::shared_ptr<PinnedReader> reader;
    uint64_t size_blocks = 0;
  };
  ParentReader(catalog::Catalog* catalog, v1::ParentRecord parent)
      : catalog_(catalog), parent_(std::move(parent)) {}
  absl::Status Load() ABSL_LOCKS_EXCLUDED(mu_);
  std::vector<Level> levels() const ABSL_LOCKS_EXCLUDED(mu_);
  static absl::StatusOr<std::vector<PinnedReader::Block>> ReadFrom(
      const std::vector<Level>& levels, BlockRange range);

  catalog::Catalog* const catalog_;
  const v1::ParentRecord parent_;
  mutable absl::Mutex mu_;
  std::vector<Level> levels_ ABSL_GUARDED_BY(mu_);  // the nearest first
};

}  // namespace weir::host

#endif  // WEIR_VOLUME_HOST_PARENT_READER_H_
