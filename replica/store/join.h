// Words of a join: bringing a volume's part on one store (the target) back to
// the history of another (the source) while writes go on. DESIGN.md, "Join".
//
// The one who joins a member calls, with S the source and T the target:
//
//   T.BeginJoin    once a lane: its history becomes the source's up to R, and
//                  the blocks that may differ are marked invalid
//   T.Write        from R + 1 on, at any time from now on
//   S.ReadVersions, T.CopyIn, until T.InvalidBlocks has no more
//   T.FinishJoin   drops the record of it; then any Flush makes it durable
//
// Each step is one atomic batch, in the order of the WAL. A crash takes the
// target back to an earlier point of this list, never to a state between.
#ifndef WEIR_REPLICA_STORE_JOIN_H_
#define WEIR_REPLICA_STORE_JOIN_H_

#include <cerrno>
#include <cstdint>
#include <vector>

#include "proto/base/position.h"
#include "replica/store/block_version.h"

namespace weir::store {

// The errno of a read of a block that is marked invalid: its versions <= R are
// not those of the lane's history. The data is not damaged, only not copied
// yet; ask another member.
inline constexpr int kBlockInvalid = EUCLEAN;

// So many ranges are told, or taken, in one call. Beyond it whole stripes are
// told, then nothing: copying everything is not much dearer. A message with
// two such lists stays below 4 MiB.
inline constexpr size_t kJoinRangesMax = 1 << 17;

// How one lane joins.
struct JoinLane {
  LaneId lane{};
  uint64_t join_id = 0;  // not 0; another one for each attempt
  Position expected;     // where the target's lane must be
  Position to;           // R, where it will be: at or past `expected`, on the source's history
  std::vector<LineageEntry> lineage;  // the source's; without to.epoch()
  // A point on both histories: what either side changed after it is marked.
  Position common;
  // What the source changed in (common, to], as its ReadChanges tells. Marked
  // here and kept as this lane's own changes. What the target changed after
  // `common` it finds and marks by itself.
  std::vector<BlockRange> changes;
  std::vector<BlockRange> invalid;  // further blocks to mark
  // No common point is known: all blocks are marked, `common`, `changes` and
  // `invalid` are not looked at. The blocks are then to be copied in ascending
  // order, and changes are known from `to` on.
  bool everything = false;
};

// What a source does where it cannot read a version any more.
enum class Damaged {
  kRefused,  // EBADMSG
  kAsLost,   // BlockVersion::lost
};

// What a source retains of some blocks.
struct VersionsPart {
  // Ascending. The source has nothing at or below the position asked for of
  // those blocks in here that have no entry in `versions`.
  std::vector<BlockRange> ranges;
  std::vector<BlockVersion> versions;  // by block, newest first
  // Where the source's lane was when this had been read. Of what it had
  // overwritten by then it may retain less than the newest version <= R; so the
  // target is whole only at or past this position.
  Position position;
};

// Blocks of one repair at most.
inline constexpr uint64_t kRepairBlocksMax = 1 << 16;

// What goes into a target.
struct CopyPart {
  LaneId lane{};
  uint64_t join_id = 0;
  Position to;
  std::vector<BlockRange> ranges;      // as in VersionsPart
  std::vector<BlockVersion> versions;  // as in VersionsPart
};

// A page of the blocks of one lane that are marked invalid.
struct InvalidPage {
  uint64_t join_id = 0;  // 0: none
  Position to;
  uint64_t invalid_blocks = 0;  // of the lane, all pages together
  // Ascending. Blocks of other lanes that lie in a range do not count.
  std::vector<BlockRange> ranges;
  // Where the next page begins; the volume's size: there is none.
  uint64_t next_block = 0;
};

}  // namespace weir::store

#endif  // WEIR_REPLICA_STORE_JOIN_H_
