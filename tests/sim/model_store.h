// A replica's store in memory, with the rules of replica/store and a disk that can lose what
// was not synced.
//
// The disk is an image (what is on the medium) and, for each flush domain, the batches written
// since its last sync, in order. A power cut keeps a prefix of each domain's batches, as
// a write-ahead log does. store_conformance_test.cc holds this model and the RocksDB store
// against each other, and names where they may differ.
//
// Thread-safety: none. One volume.
#ifndef WEIR_TESTS_SIM_MODEL_STORE_H_
#define WEIR_TESTS_SIM_MODEL_STORE_H_

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "replica/store/store.h"
#include "tests/sim/dice.h"
#include "tests/sim/replica_store.h"

namespace weir::sim {

class ModelStore final : public store::Store, public ReplicaStore {
 public:
  ModelStore(std::string store_id, uint32_t domains);

  // --- ReplicaStore ---
  store::Store& store() override { return *this; }
  bool verifies_checksums() const override { return false; }
  void Restart() override;
  void CutPower(Dice& dice) override;
  void FailNextSync(uint32_t domain) override { fail_sync_ = domain; }
  void set_full(bool full) override { full_ = full; }
  std::function<std::unique_ptr<ReplicaStore>()> CopyDisks() const override;
  void LoseSynced() override { lost_synced_ = true; }
  void Damage(uint64_t block) override;
  bool damaged(uint64_t block) const override;
  void Reclaim(Dice& dice) override;
  const std::vector<Version>* versions(uint64_t block) const override {
    static const std::vector<Version> kNone;
    return block < now_.blocks.size() ? &now_.blocks[block] : &kNone;
  }
  uint64_t size_blocks() const override { return geometry_.size_blocks; }
  bool has_pin(const Pin& pin) const override { return std::find(pins_.begin(), pins_.end(), pin) != pins_.end(); }
  Position position(uint32_t lane) const override { return has_volume_ ? now_.lanes[lane].position : Position(); }
  Position durable(uint32_t lane) const override { return has_volume_ ? disk_.lanes[lane].position : Position(); }
  std::vector<LineageEntry> lineage(uint32_t lane) const override { return now_.lanes[lane].lineage; }
  Epoch promised() const override { return promised_; }
  bool invalid(uint64_t block) const override { return block < now_.invalid.size() && now_.invalid[block]; }

  // --- Store ---
  store::Identity identity() const override { return identity_; }
  absl::Status BindCluster(const std::string& cluster_id) override;
  absl::Status health() const override { return health_; }
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
  absl::Status Promise(VolumeId id, Epoch epoch) override;
  absl::StatusOr<store::Tail> ReadTail(VolumeId id, LaneId lane, Position from,
                                       Position to) const override;
  absl::Status AdoptTail(VolumeId id, const store::Tail& tail) override;
  absl::Status TakeBase(VolumeId id, Epoch epoch, Epoch act_epoch,
                        absl::Span<const std::pair<LaneId, Position>> expected) override;
  absl::Status KeepChanges(VolumeId id,
                           absl::Span<const std::pair<LaneId, Position>> after) override;
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
  bool HasSpaceFor(uint64_t bytes) const override { return !full_; }

 private:
  static constexpr uint64_t kNoWatermark = ~uint64_t{0};

  // `range` changed at `position`, or at some point after `made_after` and up to `position`.
  struct Change {
    Position position;
    Position made_after;
    BlockRange range;
  };
  struct Lane {
    Position position;
    std::vector<LineageEntry> lineage;
    std::vector<Change> changes;
    Position trimmed;                         // `changes` has nothing at or below
    Position noted;                           // every member has synced it, as we were told
    uint64_t join_id = 0;
    Position join_to;
    // Of a lane that is copied whole, in order: all at or past it is marked, also what is there only once it grows.
    uint64_t watermark = kNoWatermark;
  };
  struct Image {
    std::vector<Lane> lanes;
    std::vector<std::vector<Version>> blocks;  // newest last
    std::vector<bool> invalid;                 // by block
  };
  struct BlockValue {
    uint64_t block = 0;
    Version version;
  };
  // One atomic change of one lane: from `from` to `to`.
  struct Batch {
    uint32_t lane = 0;
    Position to;
    bool sets_lineage = false;
    std::vector<LineageEntry> lineage;
    std::vector<Change> changes;
    std::vector<BlockValue> values;
    std::function<void(Image&)> more;  // of a join; may be empty
  };

  uint32_t DomainOf(uint32_t lane) const { return lane % domains_; }
  void Commit(Batch batch);
  static void Apply(Image& image, const Batch& batch);
  absl::Status Sync(uint32_t domain);
  absl::Status WriteOne(const store::WriteOp& op);
  static bool OnHistory(const Lane& lane, Position position);
  bool OfLane(uint64_t block, uint32_t lane) const {
    return Index(geometry_.lanes.LaneOf(block)) == lane;
  }
  absl::StatusOr<Position> PinnedAt(uint64_t pin, uint32_t lane) const;
  // Where it has come past the pin without having it, a lane knows no change any more.
  void MissedPin(const Pin& pin);
  // Whether a pin needs a version at `older` that is followed by one at `newer`.
  bool Pinned(uint32_t lane, Position older, Position newer) const;
  bool HasInvalid(uint32_t lane) const;
  bool AnyInvalid(BlockRange range) const;

  uint32_t domains_;
  store::RecordCopy record_;  // durable as soon as it is told
  // Of this store and all its copies: an incarnation never comes twice.
  std::shared_ptr<uint64_t> starts_ = std::make_shared<uint64_t>(0);
  store::Identity identity_;
  absl::Status health_;
  Epoch promised_ = 0;  // each is synced before it is answered
  VolumeId id_{};
  bool has_volume_ = false;
  store::VolumeGeometry geometry_;
  Image now_;
  Image disk_;
  std::vector<std::vector<Batch>> unsynced_;  // by domain
  std::vector<Pin> pins_;                     // each change is synced before it is answered
  uint64_t update_version_ = 0;               // of this start of the process
  // Of this start of the process; reclaim is off until it has been told.
  bool told_ = false;
  std::vector<std::pair<LaneId, Position>> keep_after_;
  std::set<std::pair<uint64_t, Position>> rotten_;  // blocks and their versions
  uint32_t fail_sync_ = ~0u;
  bool full_ = false;
  bool lost_synced_ = false;
};

// The usual MakeReplicaStore.
std::unique_ptr<ReplicaStore> MakeModelStore(const std::string& id, uint32_t domains,
                                             const store::VolumeGeometry& geometry);

}  // namespace weir::sim

#endif  // WEIR_TESTS_SIM_MODEL_STORE_H_
