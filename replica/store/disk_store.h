// The Store on RocksDB. Its methods are spread by subject: disk_store.cc opens,
// admin.cc has volumes and promises, pins.cc pins, write.cc, read.cc and tail.cc the I/O, digest.cc what a scrub asks,
// changes.cc, join.cc and copy.cc what brings a lane to another one's history.
#ifndef WEIR_REPLICA_STORE_DISK_STORE_H_
#define WEIR_REPLICA_STORE_DISK_STORE_H_

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "replica/store/block_set.h"
#include "replica/store/directory.h"
#include "replica/store/domain.h"
#include "replica/store/keys.h"
#include "replica/store/lane.h"
#include "replica/store/purge.h"
#include "replica/store/relief.h"
#include "replica/store/space.h"
#include "replica/store/store.h"
#include "replica/store/turn.h"
#include "replica/store/write_batch.h"

namespace weir::store {

// One volume in memory. Immutable but for what has a lock of its own.
struct Volume {
  VolumeId id{};
  std::vector<std::shared_ptr<Lane>> lanes;  // by lane
  mutable AllocationCount allocation;

  VolumeGeometry geometry() const { return {size_blocks_.load(), lane_geometry_}; }
  // Once it is shared, only to a larger size.
  void set_geometry(const VolumeGeometry& geometry) {
    lane_geometry_ = geometry.lanes;
    size_blocks_.store(geometry.size_blocks);
  }
  // Ids, ascending. A pin that not all lanes have is none: its update was cut short.
  std::vector<uint64_t> pins() const;

  Epoch promised() const {
    absl::MutexLock lock(&mutex);
    return promised_epoch;
  }
  bool deleted() const {
    absl::MutexLock lock(&mutex);
    return is_deleted;
  }

  mutable absl::Mutex mutex;
  Epoch promised_epoch ABSL_GUARDED_BY(mutex) = 0;
  bool is_deleted ABSL_GUARDED_BY(mutex) = false;
  uint64_t update_version ABSL_GUARDED_BY(mutex) = 0;  // of this process

 private:
  LaneGeometry lane_geometry_;
  std::atomic<uint64_t> size_blocks_{0};
};

class DiskStore : public Store {
 public:
  static absl::StatusOr<std::unique_ptr<Store>> Open(const Options& options);
  ~DiskStore() override;

  Identity identity() const override;
  absl::Status BindCluster(const std::string& cluster_id) override;
  absl::Status health() const override;
  uint32_t num_domains() const override {
    return static_cast<uint32_t>(domains_.size());
  }
  std::vector<DomainStats> GetDomainStats() const override;

  absl::Status CreateVolume(VolumeId id, const VolumeGeometry& geometry) override;
  absl::Status DeleteVolume(VolumeId id) override;
  std::vector<VolumeId> Volumes() const override;
  absl::StatusOr<VolumeState> GetVolume(VolumeId id) const override;
  absl::StatusOr<SpaceUsed> GetSpaceUsed(VolumeId id) const override;

  absl::Status KeepRecord(VolumeId id, const RecordCopy& copy) override;
  absl::StatusOr<RecordCopy> GetRecord(VolumeId id) const override;
  absl::Status UpdateVolume(VolumeId id, const VolumeUpdate& update) override;
  absl::StatusOr<std::vector<BlockVersion>> ReadPinned(VolumeId id, uint64_t pin,
                                                       BlockRange range) const override;
  absl::StatusOr<ChangedPage> ChangedSince(VolumeId id, uint64_t pin, LaneId lane,
                                           uint64_t from_block,
                                           size_t ranges_max) const override;
  absl::StatusOr<KeptBlocks> KeptBy(VolumeId id, uint64_t pin, LaneId lane,
                                    absl::Span<const BlockRange> ranges) const override;

  std::vector<WriteResult> Write(VolumeId id,
                                 absl::Span<const WriteOp> ops) override;
  absl::StatusOr<ReadResult> Read(VolumeId id, BlockRange range) const override;
  absl::StatusOr<ExtentsResult> Extents(VolumeId id,
                                        BlockRange range) const override;
  absl::StatusOr<std::vector<std::pair<LaneId, Position>>> Flush(
      VolumeId id, uint32_t flush_nr) override;
  absl::Status NoteDurablePoints(
      VolumeId id,
      absl::Span<const std::pair<LaneId, Position>> points) override;
  absl::Status KeepChanges(
      VolumeId id,
      absl::Span<const std::pair<LaneId, Position>> after) override;

  absl::Status Promise(VolumeId id, Epoch epoch) override;
  absl::StatusOr<Tail> ReadTail(VolumeId id, LaneId lane, Position from,
                                Position to) const override;
  absl::Status AdoptTail(VolumeId id, const Tail& tail) override;
  absl::Status TakeBase(
      VolumeId id, Epoch epoch, Epoch act_epoch,
      absl::Span<const std::pair<LaneId, Position>> expected) override;

  absl::StatusOr<std::vector<BlockRange>> ReadChanges(
      VolumeId id, LaneId lane, Position from, Position to) const override;
  absl::Status BeginJoin(VolumeId id, const JoinLane& join) override;
  absl::StatusOr<VersionsPart> ReadVersions(
      VolumeId id, LaneId lane, absl::Span<const BlockRange> ranges,
      Position at_most, uint64_t bytes_max, Damaged damaged) const override;
  absl::Status CopyIn(VolumeId id, const CopyPart& part) override;
  absl::Status Repair(VolumeId id, const CopyPart& part) override;
  absl::StatusOr<InvalidPage> InvalidBlocks(VolumeId id, LaneId lane,
                                            uint64_t from_block,
                                            size_t ranges_max) const override;
  absl::Status FinishJoin(VolumeId id, uint64_t join_id) override;

  absl::StatusOr<BlockDigests> Digests(VolumeId id, LaneId lane, BlockRange range, Position at,
                                       uint64_t bytes_max) const override;

  bool HasSpaceFor(uint64_t bytes) const override;

 private:
  // One domain's share of a Write call; write.cc.
  class DomainWrite;
  // Reads what a source retains; copy.cc.
  class VersionReader;
  // One call of CopyIn or Repair; copy.cc.
  class Copying;

  explicit DiskStore(const Options& options);

  absl::Status Copy(VolumeId id, const CopyPart& part, bool repair);

  // --- opening; disk_store.cc ---
  absl::Status OpenDirectories();
  absl::Status MakeDomains(const Directories& found);
  absl::Status OpenDomains(const Directories& found);
  DomainSettings SettingsOf(uint32_t index, const std::string& store_id);
  absl::Status RaiseGeneration();
  absl::Status LoadVolumes();
  absl::Status LoadVolume(VolumeId id, const std::string& record);
  absl::StatusOr<std::shared_ptr<Lane>> LoadLane(const Volume& volume, LaneId lane);
  absl::Status LoadJoin(const Volume& volume, LaneId lane, Lane::State* state);
  absl::Status CheckChanges(const Lane& lane) const;
  absl::Status LoadDeleted();
  void DomainFailed(const absl::Status& reason);
  // Of what lies in one data directory.
  rocksdb::Env* EnvOf(uint32_t index) const {
    return drill_envs_.empty() ? env_ : drill_envs_[index].get();
  }

  // --- volumes ---
  // NOT_FOUND (ENOENT), or why the store serves nothing.
  absl::StatusOr<std::shared_ptr<Volume>> Find(VolumeId id) const;
  std::shared_ptr<Volume> FindOrNull(VolumeId id) const;
  uint32_t DomainOf(LaneId lane) const { return Index(lane) % num_domains(); }
  Domain* DomainOf(const Lane& lane) const {
    return domains_[lane.domain].get();
  }
  // Domains 0 to this, less one, hold lanes of `volume`.
  uint32_t DomainsOf(const VolumeGeometry& geometry) const;
  absl::Status CreateInDomain(uint32_t index, VolumeId id,
                              const VolumeGeometry& geometry);
  absl::Status DeleteInDomain(uint32_t index, const Volume& volume);

  // --- reading; read.cc ---
  // Index entries of `range`, which lies in one stripe; absent ones are zero.
  absl::Status ReadIndex(const Volume& volume, BlockRange range,
                         std::vector<NewestVersion>* newest) const;
  absl::Status ReadStripe(const Volume& volume, BlockRange range,
                          ReadResult* result) const;
  absl::Status ReadData(const Volume& volume, BlockRange range,
                        const std::vector<NewestVersion>& newest,
                        std::vector<size_t>* missing, ReadResult* result) const;
  absl::StatusOr<uint64_t> CountAllocated(const Volume& volume,
                                          const BlockRange& range) const;
  absl::StatusOr<uint64_t> BlocksAbovePoint(const Lane& lane) const;

  // --- pins; pins.cc ---
  // `past`: lanes that have come past a pin that they did not have; claimed.
  absl::Status WriteUpdate(const Volume& volume, const VolumeUpdate& update,
                           absl::Span<const std::shared_ptr<Lane>> past);
  // Where the pin is in the lane; see ReadPinned.
  absl::StatusOr<Position> PinnedAt(const Volume& volume, const Lane& lane, uint64_t pin) const;
  absl::Status ReadPinnedStripe(const Volume& volume, const Lane& lane, Position at,
                                BlockRange range, std::vector<BlockVersion>* out) const;

  // --- scrub; digest.cc ---
  absl::StatusOr<BlockDigest> DigestOf(const Volume& volume, const Lane& lane, uint64_t block,
                                       const NewestVersion& newest, uint64_t* bytes_read) const;

  // --- changes; changes.cc ---
  // Calls `visit` with each change above `after` and the position after which it
  // was made, in order, until it says false.
  using VisitChange = std::function<bool(const ChangeEntry& change, Position made_after)>;
  static absl::Status ForEachChange(rocksdb::Iterator* changes, const Lane& lane,
                                    Position after, const VisitChange& visit);
  std::unique_ptr<rocksdb::Iterator> NewChangesIterator(const Lane& lane) const;

  // --- tails; tail.cc. REQUIRES: the lane is claimed ---
  absl::Status ReadTailVersions(const Volume& volume, Tail* tail) const;
  absl::Status CheckNothingAbove(const Lane& lane, const Lane::State& state,
                                 Position from) const;

  // --- joins; join.cc ---
  // Calls `visit` with each stripe that has marks, from `stripe` on, until it says false.
  using VisitMarks = std::function<bool(uint64_t stripe, const StripeBits& bits)>;
  absl::Status ForEachMark(const Volume& volume, LaneId lane, uint64_t stripe,
                           const VisitMarks& visit) const;
  // Of one stripe; none if it has no marks.
  absl::StatusOr<std::optional<StripeBits>> MarksOf(const Volume& volume, const Lane& lane,
                                                    uint64_t stripe) const;
  // What a join's target changed after the common point.
  struct OwnChanges {
    std::vector<ChangeEntry> entries;
    // One of them came with an earlier join from further back, and stands for all since there.
    bool reach_below_common = false;
  };
  absl::StatusOr<BlockSet> BlocksToMark(const Volume& volume, const Lane& lane,
                                        const JoinLane& join, OwnChanges* own) const;
  absl::Status AddMarks(const Volume& volume, const Lane& lane, const BlockSet& blocks,
                        Lane::Join* state, DomainBatch* batch) const;
  absl::Status DropMarks(const Volume& volume, const Lane& lane, DomainBatch* batch) const;
  // Which blocks of `range`, which lies in one stripe, are marked invalid.
  absl::StatusOr<StripeBits> InvalidOf(const Volume& volume, const Lane& lane,
                                       BlockRange range) const;
  // kBlockInvalid if one of `range`, which lies in one stripe, is.
  absl::Status CheckValid(const Volume& volume, BlockRange range) const;

  const Options options_;
  rocksdb::Env* env_ = nullptr;
  std::vector<std::unique_ptr<rocksdb::Env>> drill_envs_;  // by domain; none unless faults may be injected
  std::unique_ptr<DirectoryLocks> locks_;
  std::vector<std::unique_ptr<Domain>> domains_;
  std::vector<std::unique_ptr<Admission>> admission_;  // by domain
  std::string store_id_;
  uint64_t generation_ = 0;
  const uint64_t incarnation_;
  // One administrative call at a time.
  Turn admin_;

  mutable absl::Mutex mutex_;
  std::string cluster_id_ ABSL_GUARDED_BY(mutex_);
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);
  std::map<VolumeId, std::shared_ptr<Volume>> volumes_ ABSL_GUARDED_BY(mutex_);

  // Last, so that their threads end before what they work on.
  std::unique_ptr<Purge> purge_;
  std::unique_ptr<Relief> relief_;
};

// So many blocks of a lane that hold nothing any more are worth a compaction.
uint64_t WorthCompacting(const Volume& volume);
// Blocks of `lane` that are marked invalid.
uint64_t InvalidBlockCount(const VolumeGeometry& geometry, LaneId lane,
                           const Lane::Join& join);
// FAILED_PRECONDITION if there are any.
absl::Status CheckNoneInvalid(const Volume& volume, const Lane& lane);
// Whether `range` lies in the volume, in one stripe of `lane`.
bool InOneStripe(const VolumeGeometry& geometry, LaneId lane, BlockRange range);

// The parts of `range` that lie each in one stripe.
std::vector<BlockRange> SplitByStripe(const LaneGeometry& geometry,
                                      BlockRange range);

}  // namespace weir::store

#endif  // WEIR_REPLICA_STORE_DISK_STORE_H_
