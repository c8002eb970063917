// A store in memory, for tests of the server: the same rules, no disk. Tests
// can hold up syncs and make them fail.
//
// Thread-safety: safe.
#ifndef WEIR_REPLICA_SERVER_FAKE_STORE_H_
#define WEIR_REPLICA_SERVER_FAKE_STORE_H_

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "replica/store/store.h"

namespace weir::replica {

class FakeStore final : public store::Store {
 public:
  explicit FakeStore(uint32_t domains = 2) : domains_(domains) {}

  // --- what tests turn ---
  // From now on Flush waits until ReleaseSyncs.
  void HoldSyncs() ABSL_LOCKS_EXCLUDED(mutex_);
  void ReleaseSyncs() ABSL_LOCKS_EXCLUDED(mutex_);
  void SetFreeBytes(uint64_t bytes) ABSL_LOCKS_EXCLUDED(mutex_);
  // The next Flush fails, and that is final.
  void FailNextSync() ABSL_LOCKS_EXCLUDED(mutex_);
  int syncs() const ABSL_LOCKS_EXCLUDED(mutex_);
  int write_calls() const ABSL_LOCKS_EXCLUDED(mutex_);
  void WaitUntilSyncsWait(int count) ABSL_LOCKS_EXCLUDED(mutex_);
  // From now on DeleteVolume waits until ReleaseDeletes.
  void HoldDeletes() ABSL_LOCKS_EXCLUDED(mutex_);
  void ReleaseDeletes() ABSL_LOCKS_EXCLUDED(mutex_);
  void WaitUntilDeletesWait(int count) ABSL_LOCKS_EXCLUDED(mutex_);
  // As the last KeepChanges said.
  std::vector<std::pair<LaneId, Position>> kept_changes() const ABSL_LOCKS_EXCLUDED(mutex_);

  // --- Store ---
  store::Identity identity() const override;
  absl::Status BindCluster(const std::string& cluster_id) override;
  absl::Status health() const override;
  uint32_t num_domains() const override { return domains_; }
  std::vector<store::DomainStats> GetDomainStats() const override { return {}; }
  absl::Status CreateVolume(VolumeId id, const store::VolumeGeometry& geometry) override;
  absl::Status DeleteVolume(VolumeId id) override;
  std::vector<VolumeId> Volumes() const override;
  absl::StatusOr<store::VolumeState> GetVolume(VolumeId id) const override;
  absl::StatusOr<store::SpaceUsed> GetSpaceUsed(VolumeId id) const override;
  absl::Status UpdateVolume(VolumeId id, const store::VolumeUpdate& update) override;
  absl::Status KeepRecord(VolumeId id, const store::RecordCopy& copy) override;
  absl::StatusOr<store::RecordCopy> GetRecord(VolumeId id) const override;
  absl::StatusOr<std::vector<store::BlockVersion>> ReadPinned(VolumeId id, uint64_t pin,
                                                              BlockRange range) const override;
  absl::StatusOr<store::ChangedPage> ChangedSince(VolumeId id, uint64_t pin, LaneId lane,
                                                  uint64_t from_block,
                                                  size_t ranges_max) const override;
  absl::StatusOr<store::KeptBlocks> KeptBy(VolumeId id, uint64_t pin, LaneId lane,
                                           absl::Span<const BlockRange> ranges) const override;
  std::vector<store::WriteResult> Write(VolumeId id,
                                        absl::Span<const store::WriteOp> ops) override;
  absl::StatusOr<store::ReadResult> Read(VolumeId id, BlockRange range) const override;
  absl::StatusOr<store::ExtentsResult> Extents(VolumeId id, BlockRange range) const override;
  absl::StatusOr<std::vector<std::pair<LaneId, Position>>> Flush(VolumeId id,
                                                                 uint32_t flush_nr) override;
  absl::Status NoteDurablePoints(
      VolumeId id, absl::Span<const std::pair<LaneId, Position>> points) override;
  absl::Status KeepChanges(VolumeId id,
                           absl::Span<const std::pair<LaneId, Position>> after) override;
  absl::Status Promise(VolumeId id, Epoch epoch) override;
  absl::StatusOr<store::Tail> ReadTail(VolumeId id, LaneId lane, Position from,
                                       Position to) const override;
  absl::Status AdoptTail(VolumeId id, const store::Tail& tail) override;
  absl::Status TakeBase(VolumeId id, Epoch epoch, Epoch act_epoch,
                        absl::Span<const std::pair<LaneId, Position>> expected) override;
  absl::StatusOr<std::vector<BlockRange>> ReadChanges(VolumeId id, LaneId lane, Position from,
                                                      Position to) const override;
  absl::Status BeginJoin(VolumeId id, const store::JoinLane& join) override;
  absl::StatusOr<store::VersionsPart> ReadVersions(VolumeId id, LaneId lane,
                                                   absl::Span<const BlockRange> ranges,
                                                   Position at_most, uint64_t bytes_max,
                                                   store::Damaged damaged) const override;
  absl::Status CopyIn(VolumeId id, const store::CopyPart& part) override;
  absl::Status Repair(VolumeId id, const store::CopyPart& part) override;
  absl::StatusOr<store::InvalidPage> InvalidBlocks(VolumeId id, LaneId lane, uint64_t from_block,
                                                   size_t ranges_max) const override;
  absl::Status FinishJoin(VolumeId id, uint64_t join_id) override;
  absl::StatusOr<BlockDigests> Digests(VolumeId id, LaneId lane, BlockRange range, Position at,
                                       uint64_t bytes_max) const override;
  bool HasSpaceFor(uint64_t bytes) const override;

 private:
  struct Block {
    std::string data;  // empty: zeros
    uint32_t crc = 0;
  };
  using Versions = std::map<Position, Block, std::greater<>>;  // newest first
  struct Change {
    store::ChangeEntry entry;
    Position made_after;
  };
  struct Volume {
    store::VolumeState state;
    std::map<uint64_t, Versions> blocks;  // without empty entries
    std::vector<Change> changes;
    std::set<uint64_t> invalid;
    std::map<LaneId, Position> known;  // changes are known above it
    uint64_t update_version = 0;
    std::vector<Pin> pins;
    store::RecordCopy record;
    // All of the lane from here on is to be copied in order.
    std::map<LaneId, uint64_t> watermark;
  };
  static LaneId LaneOf(const Volume& volume, uint64_t block) {
    return volume.state.geometry.lanes.LaneOf(block);
  }
  static bool InvalidIn(const Volume& volume, BlockRange range);
  static void CountInvalid(Volume& volume, LaneId lane);
  static void MarkForJoin(Volume& volume, const store::JoinLane& join);
  static absl::Status CheckCopy(const Volume& volume, const store::CopyPart& part);
  static absl::StatusOr<Position> PinnedAt(const Volume& volume, uint64_t pin, LaneId lane);
  // The lane, or why there is none.
  static absl::Status CheckLane(const Volume& volume, LaneId lane);
  // FAILED_PRECONDITION if the lane has invalid blocks.
  static absl::Status CheckWhole(const Volume& volume, LaneId lane);

  absl::Status ApplyLocked(Volume& volume, const store::WriteOp& op)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const uint32_t domains_;
  mutable absl::Mutex mutex_;
  store::Identity identity_ ABSL_GUARDED_BY(mutex_) = {"store-under-test", "", 1, 7};
  absl::Status health_ ABSL_GUARDED_BY(mutex_);
  std::map<VolumeId, Volume> volumes_ ABSL_GUARDED_BY(mutex_);
  uint64_t free_bytes_ ABSL_GUARDED_BY(mutex_) = ~uint64_t{0};
  bool hold_syncs_ ABSL_GUARDED_BY(mutex_) = false;
  bool fail_next_sync_ ABSL_GUARDED_BY(mutex_) = false;
  int syncs_ ABSL_GUARDED_BY(mutex_) = 0;
  int waiting_syncs_ ABSL_GUARDED_BY(mutex_) = 0;
  bool hold_deletes_ ABSL_GUARDED_BY(mutex_) = false;
  int waiting_deletes_ ABSL_GUARDED_BY(mutex_) = 0;
  int write_calls_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<std::pair<LaneId, Position>> kept_changes_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace weir::replica

#endif  // WEIR_REPLICA_SERVER_FAKE_STORE_H_
