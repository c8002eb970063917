// The replica's store: block versions by position, in RocksDB.
//
// One Store is one replica's data: one RocksDB instance ("domain") per data
// directory. A volume's lane L lies whole in domain L modulo the number of
// domains, so all that belongs to one write changes in one WriteBatch of one
// RocksDB. DESIGN.md, "Lanes and positions", gives the layout and the reasons.
//
// Guarantees:
//  * In each lane writes apply strictly in the order of their positions, so a
//    lane is always a prefix of its history, also after kill -9 and power loss.
//  * A position answered by Flush, or by a FUA write, survives power loss.
//  * The first failed sync of any domain is final: the store turns FAILED, stays so
//    across restarts (a mark on disk where the disk still takes one, if need be unsynced, and the floor) and serves nothing more.
//  * A store that opens has lost nothing that it had synced, or Open refuses.
//
// Thread-safety: all methods may be called from any thread. Writes to one lane
// must be ordered by the caller (one stream); different lanes go in parallel.
// Flush blocks for the sync; concurrent flushes of one domain share syncs.
#ifndef WEIR_REPLICA_STORE_STORE_H_
#define WEIR_REPLICA_STORE_STORE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "proto/base/block_digest.h"
#include "proto/base/payload.h"
#include "proto/base/position.h"
#include "replica/store/block_version.h"
#include "replica/store/domain_stats.h"
#include "replica/store/geometry.h"
#include "replica/store/join.h"
#include "replica/store/pins.h"

namespace rocksdb {
class Env;
}

namespace weir::store {

// What is done to a file or a directory, as fault injection sees it.
enum class FileAct { kWrite, kSync };

struct Options {
  // One domain each; the order is part of the store's identity.
  std::vector<std::string> data_dirs;
  // RocksDB's environment for all files, the floors included. Not owned.
  // nullptr: the machine's own.
  rocksdb::Env* env = nullptr;
  // Per domain: RocksDB's memtable budget and block cache, bytes.
  uint64_t memtable_bytes = 16 << 20;
  uint64_t block_cache_bytes = 16 << 20;
  // Admission keeps this much of each directory's file system free, bytes, so that flush and
  // compaction can finish: below it writes are refused with ENOSPC.
  uint64_t reserve_bytes = 64 << 20;
  // Fault injection: asked before each write and sync of what lies in a domain's directory for the errno
  // that it is to fail with; 0: none. Any thread, RocksDB's too; may not call the store. nullptr: no faults.
  std::function<int(uint32_t domain, FileAct act)> file_fault;

  absl::Status Validate() const;
};

// A limit on data_dirs.
inline constexpr size_t kDomainsMax = 64;

struct LaneState {
  LaneId lane{};
  Position position;          // applied
  Position durable_position;  // synced
  uint32_t domain = 0;
  std::vector<LineageEntry> lineage;  // oldest first; without position.epoch()
  // Blocks marked invalid. Not 0: it can neither be read as a whole nor be a source.
  uint64_t invalid_blocks = 0;
  uint64_t join_id = 0;  // of the join that is not finished; 0: none
  Position join_to;      // its R
};

struct VolumeState {
  VolumeId id{};
  VolumeGeometry geometry;
  Epoch promised_epoch = 0;
  std::vector<LaneState> lanes;  // by lane
  std::vector<uint64_t> pins;    // ids, ascending
};

struct SpaceUsed {
  uint64_t live_bytes = 0;  // of a large volume an estimate: AllocationCount
  uint64_t pinned_bytes = 0;
  uint64_t reclaimable_bytes = 0;
};

enum class WriteKind { kWrite, kWriteZeroes, kDiscard };

// One fragment of a client's write, in one lane.
struct WriteOp {
  WriteKind kind = WriteKind::kWrite;
  LaneId lane{};
  BlockRange range;                 // within one stripe
  Position position;
  bool fua = false;
  bool overlay = false;             // zeroes leave a version in every block: something may lie beneath
  absl::string_view data;           // kWrite: range.count blocks; not kept
  absl::Span<const uint32_t> crcs;  // kWrite: one a block, verified before anything is stored
};

// What became of one WriteOp.
struct WriteResult {
  // OK: applied now or earlier (a duplicate). errno (see proto/base/errno.h)
  // EAGAIN: its position does not follow the lane's (a gap). ENOSPC. EBADMSG:
  // data does not match crcs. ESTALE: position's epoch is not the lane's.
  // EINVAL: outside the volume. EIO: store failed.
  absl::Status status;
  Position lane_position;     // after this op
  Position durable_position;  // FUA: at or past its position
};

struct ReadResult {
  bool zeroes = false;          // all blocks read as zeros: data and crcs are empty
  std::string data;             // range.count blocks
  std::vector<uint32_t> crcs;   // as stored
  Position newest;              // highest version among the blocks; zero if none
  std::vector<BlockRange> absent;  // blocks without any version, ascending
};

struct ExtentsResult {
  std::vector<std::pair<uint64_t, bool>> runs;  // (blocks, allocated)
  Position newest;
};

struct ChangeEntry {
  Position position;
  BlockRange range;
};

// One lane's tail, as one atomic batch.
struct Tail {
  LaneId lane{};
  Position from;      // where both histories part, or this one ends
  Position to;        // where the lane will be
  Position expected;  // where it must be: `from`, or what has no writes above it
  std::vector<LineageEntry> lineage;
  std::vector<ChangeEntry> changes;
  std::vector<BlockVersion> versions;
};

// A copy of a volume's catalog record, which the store does not look into.
struct RecordCopy {
  Epoch epoch = 0;        // that it was told under
  uint64_t revision = 0;
  std::string record;     // empty: none
};
inline constexpr size_t kRecordCopyBytesMax = 4 << 20;

struct Identity {
  std::string store_id;     // 32 hex digits, made with the store
  std::string cluster_id;   // empty until bound
  uint64_t generation = 0;   // raised durably by every Open
  uint64_t incarnation = 0;  // drawn by every Open, not 0: copies of one disk may have been opened as often
};

class Store {
 public:
  // Opens the store of `options.data_dirs`, or makes it where all of them are
  // empty. Raises the generation. Errors say what to do:
  // FAILED_PRECONDITION: in use by another process, made by a newer format, some directories
  //   empty or of another store or in another order.
  // DATA_LOSS: a domain has less than it had synced, or is damaged, or a sync had failed: this store never
  //   opens again.
  // PERMISSION_DENIED, RESOURCE_EXHAUSTED: as the file system says.
  static absl::StatusOr<std::unique_ptr<Store>> Open(const Options& options);

  // Syncs every domain (best effort), then closes. No call may be running.
  virtual ~Store() = default;

  virtual Identity identity() const = 0;
  // Once, durably. FAILED_PRECONDITION if bound to another cluster.
  virtual absl::Status BindCluster(const std::string& cluster_id) = 0;

  // OK while serving; once a sync or the database failed, the reason, for ever.
  virtual absl::Status health() const = 0;
  virtual uint32_t num_domains() const = 0;
  // By domain; for metrics.
  virtual std::vector<DomainStats> GetDomainStats() const = 0;

  // --- volumes ---
  // Durable. OK if it is there, and stays as it is, whatever its size, if it has the same lanes; else ALREADY_EXISTS.
  virtual absl::Status CreateVolume(VolumeId id, const VolumeGeometry& geometry) = 0;
  // Durable; the space comes back by compaction. OK if there is none.
  virtual absl::Status DeleteVolume(VolumeId id) = 0;
  virtual std::vector<VolumeId> Volumes() const = 0;
  // NOT_FOUND.
  virtual absl::StatusOr<VolumeState> GetVolume(VolumeId id) const = 0;
  virtual absl::StatusOr<SpaceUsed> GetSpaceUsed(VolumeId id) const = 0;

  // --- pins, and the size; see pins.h ---
  // Durable. The space of what only dropped pins kept comes back by compaction, which is asked for.
  // ABORTED: an update of a higher version has come. INVALID_ARGUMENT.
  virtual absl::Status UpdateVolume(VolumeId id, const VolumeUpdate& update) = 0;
  // Of each block of `range` the newest version at or below the pin, by block; a block without one
  // had none. NOT_FOUND: no such pin. FAILED_PRECONDITION: the lane has not come to it. kBlockInvalid, EBADMSG,
  // OUT_OF_RANGE as Read. INVALID_ARGUMENT: more than kPinnedReadBlocksMax blocks.
  virtual absl::StatusOr<std::vector<BlockVersion>> ReadPinned(VolumeId id, uint64_t pin,
                                                               BlockRange range) const = 0;
  // Blocks of the lane at or past `from_block` that were written after the pin; at most `ranges_max` (> 0)
  // ranges. Errors as ReadPinned; FAILED_PRECONDITION also if blocks are marked invalid.
  virtual absl::StatusOr<ChangedPage> ChangedSince(VolumeId id, uint64_t pin, LaneId lane,
                                                   uint64_t from_block,
                                                   size_t ranges_max) const = 0;
  // What the pin keeps of `ranges` of the lane, whose versions as of the pin are read for that. Errors as ReadPinned's of the pin; EBADMSG.
  virtual absl::StatusOr<KeptBlocks> KeptBy(VolumeId id, uint64_t pin, LaneId lane,
                                            absl::Span<const BlockRange> ranges) const = 0;

  // --- the copy of its catalog record ---
  // Durable. One of a lower epoch, or of the same and a lower revision, than it has changes nothing. INVALID_ARGUMENT:
  // it is empty or too large.
  virtual absl::Status KeepRecord(VolumeId id, const RecordCopy& copy) = 0;
  virtual absl::StatusOr<RecordCopy> GetRecord(VolumeId id) const = 0;

  // --- I/O ---
  // Applies `ops` in order; those of one domain are one WriteBatch. One sync a domain covers all FUA ops.
  // A failed op does not stop ops of other lanes; later ops of its lane are gaps.
  virtual std::vector<WriteResult> Write(VolumeId id, absl::Span<const WriteOp> ops) = 0;
  // The newest versions. EBADMSG (DATA_LOSS): a stored block does not match its
  // checksums. kBlockInvalid: one is marked invalid. OUT_OF_RANGE.
  virtual absl::StatusOr<ReadResult> Read(VolumeId id, BlockRange range) const = 0;
  virtual absl::StatusOr<ExtentsResult> Extents(VolumeId id, BlockRange range) const = 0;
  // Syncs domain `flush_nr`; answers what was applied in each of the volume's lanes there
  // when the sync began. NOT OK is final for the store.
  [[nodiscard]] virtual absl::StatusOr<std::vector<std::pair<LaneId, Position>>>
  Flush(VolumeId id, uint32_t flush_nr) = 0;
  // What every member has synced, by lane; kept and, once itself synced, used
  // to reclaim versions and trim changes.
  virtual absl::Status NoteDurablePoints(
      VolumeId id, absl::Span<const std::pair<LaneId, Position>> points) = 0;
  // What changed after these positions stays known whatever the durable points
  // are, since an absent member may need it; of other lanes nothing is kept.
  // Replaces what was said before. Not kept across a start: to be said again
  // before the first durable points.
  virtual absl::Status KeepChanges(
      VolumeId id, absl::Span<const std::pair<LaneId, Position>> after) = 0;

  // --- takeover ---
  // But for Promise: FAILED_PRECONDITION if a block of the lane is marked invalid.
  // Durable when it returns. FAILED_PRECONDITION below the promise.
  virtual absl::Status Promise(VolumeId id, Epoch epoch) = 0;
  // The lane's changes in (from, to] and, of each block they touch, the newest
  // version at or below `to`. `to` must be the lane's position. OUT_OF_RANGE: trimmed past `from`.
  // Memory: the caller's tail limit bounds it.
  virtual absl::StatusOr<Tail> ReadTail(VolumeId id, LaneId lane, Position from,
                                        Position to) const = 0;
  // All or nothing, checksums verified. OK if the lane is at tail.to already. ABORTED unless it is
  // at tail.expected, and FAILED_PRECONDITION if it was written to above tail.from.
  virtual absl::Status AdoptTail(VolumeId id, const Tail& tail) = 0;
  // Every lane takes (epoch, 0) with its lineage, without what lies above
  // `act_epoch`, the last epoch that served; every domain is synced. ABORTED
  // unless each lane is at `expected` or already at (epoch, 0).
  virtual absl::Status TakeBase(VolumeId id, Epoch epoch, Epoch act_epoch,
                                absl::Span<const std::pair<LaneId, Position>> expected) = 0;

  // --- join; see join.h. Nothing here syncs: any Flush of its domain makes it durable ---
  // The blocks that changed in one lane in (from, to], and perhaps others, as
  // ascending ranges of one stripe each. FAILED_PRECONDITION: the lane has not
  // come to `to`. OUT_OF_RANGE: `from` is not on its history, changes are trimmed
  // past it, or too much changed to tell; copy everything.
  virtual absl::StatusOr<std::vector<BlockRange>> ReadChanges(
      VolumeId id, LaneId lane, Position from, Position to) const = 0;
  // OK if a join of this id is there already. ABORTED: the lane is not at
  // `expected`. OUT_OF_RANGE: its own changes after `common` are not known; copy
  // everything. ESTALE, ENOSPC, INVALID_ARGUMENT.
  virtual absl::Status BeginJoin(VolumeId id, const JoinLane& join) = 0;
  // All versions <= at_most of the lane's blocks in `ranges` (ascending, disjoint;
  // blocks of other lanes are passed over) but those that compaction may drop;
  // checksums verified. Covers a prefix of `ranges`, of about `bytes_max`, and at
  // least one block. FAILED_PRECONDITION: the lane has not come to `at_most` or has
  // invalid blocks. UNAVAILABLE: a block has too many versions as long as no durable points were told. EBADMSG: one
  // is damaged; with kAsLost it is told as lost, unless it cannot even be listed.
  virtual absl::StatusOr<VersionsPart> ReadVersions(
      VolumeId id, LaneId lane, absl::Span<const BlockRange> ranges,
      Position at_most, uint64_t bytes_max, Damaged damaged = Damaged::kRefused) const = 0;
  // Gives each block of `part.ranges` that is marked the versions <= R that are given, and clears its mark; what
  // is given as lost is EBADMSG to whoever reads it, unless it was there. Unmarked blocks stay as they are, so
  // repeating it is harmless. All or nothing. ABORTED: it is not of the lane's current join. EBADMSG: data does not match
  // its checksum. FAILED_PRECONDITION: blocks before it are to be copied first (JoinLane::everything). ENOSPC, INVALID_ARGUMENT.
  virtual absl::Status CopyIn(VolumeId id, const CopyPart& part) = 0;
  // Of blocks that are damaged here: writes the versions of `part`, another member's up to `part.to`,
  // anew, all or nothing, but for those that are lost there too. What it has besides, newer versions above all,
  // stays; so repeating it, or doing it to a block that is well, is harmless. FAILED_PRECONDITION: a join is under way, or `part.to` is not on
  // the lane's history. INVALID_ARGUMENT, ENOSPC, EBADMSG as CopyIn; EBADMSG also if the damage is not in the data alone.
  virtual absl::Status Repair(VolumeId id, const CopyPart& part) = 0;
  // The marked blocks at or past `from_block`, at most `ranges_max` (> 0) ranges.
  virtual absl::StatusOr<InvalidPage> InvalidBlocks(
      VolumeId id, LaneId lane, uint64_t from_block, size_t ranges_max) const = 0;
  // Forgets the join in every lane; OK if there is none. FAILED_PRECONDITION:
  // blocks are still marked. ABORTED: a lane has another join.
  virtual absl::Status FinishJoin(VolumeId id, uint64_t join_id) = 0;

  // --- scrub ---
  // What it has of the lane's blocks in `range` (blocks of other lanes are passed over), each read and
  // checked as by Read: a prefix of about `bytes_max` of data, at least one block. A block whose newest
  // version is above `at` is kNewer, and not read. FAILED_PRECONDITION: the lane has not come to `at`,
  // or has invalid blocks. EBADMSG: what it has cannot even be listed.
  virtual absl::StatusOr<BlockDigests> Digests(VolumeId id, LaneId lane, BlockRange range,
                                               Position at, uint64_t bytes_max) const = 0;

  // Whether a write of `bytes` is admitted now in every domain.
  virtual bool HasSpaceFor(uint64_t bytes) const = 0;
};

}  // namespace weir::store

#endif  // WEIR_REPLICA_STORE_STORE_H_
