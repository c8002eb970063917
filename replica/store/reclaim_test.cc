// Space comes back: superseded versions, trimmed changes, deleted volumes; and
// what a pin needs stays.
#include "replica/store/reclaim.h"

#include <memory>
#include <thread>

#include "gtest/gtest.h"
#include "replica/store/domain.h"
#include "replica/store/domain_options.h"
#include "replica/store/keys.h"
#include "replica/store/manifest.h"
#include "replica/store/rocks.h"
#include "replica/store/store.h"
#include "replica/store/testing/join_steps.h"
#include "replica/store/testing/machine.h"
#include "replica/store/testing/temp_store.h"

namespace weir::store {
namespace {

using rocksdb::CompactionFilter;
using testing::FaultFs;
using testing::Machine;
using testing::WriteOne;
using testing::Writer;

constexpr VolumeId kVolume{7};
constexpr VolumeId kOther{8};
constexpr LaneId kLane{0};
constexpr VolumeGeometry kGeometry{.size_blocks = 512,
                                   .lanes = {.lanes = 1, .stripe_blocks = 512}};

// --- the rule ---

TEST(MayReclaimTest, AVersionGoesUnlessAPinFallsBetweenItAndANewerOne) {
  const Position p1(1, 1), p2(1, 2), p3(1, 3), p5(1, 5), p9(1, 9);
  struct Case {
    const char* name;
    std::vector<Position> pins;
    Position older, newer;
    bool may;
  };
  const Case cases[] = {
      {"no pins", {}, p1, p2, true},
      {"a pin below", {p1}, p2, p3, true},
      {"a pin at the older", {p2}, p2, p3, false},
      {"a pin between", {p3}, p2, p5, false},
      {"a pin at the newer", {p3}, p2, p3, true},
      {"a pin above", {p9}, p2, p3, true},
      {"two pins around", {p1, p9}, p2, p3, true},
      {"two pins, one between", {p1, p3, p9}, p2, p5, false},
      {"across epochs", {Position(1, 7)}, p5, Position(2, 1), false},
  };
  for (const Case& c : cases) {
    EXPECT_EQ(MayReclaim(c.pins, c.older, c.newer), c.may) << c.name;
  }
}

// Runs versions of one lane, newest first, through the filter of `state`;
// gives the positions kept.
std::vector<Position> Kept(const std::shared_ptr<PinSource>& source,
                           const std::vector<Position>& versions) {
  auto factory = NewReclaimFactory(ReclaimedFamily::kVersions, source);
  auto filter = factory->CreateCompactionFilter({});
  std::vector<Position> kept;
  std::string value, skip;
  for (Position position : versions) {
    const std::string key = VersionKey({kVolume, kLane, 3}, position);
    if (filter->FilterBlobByKey(0, key, &value, &skip) ==
        CompactionFilter::Decision::kKeep) {
      kept.push_back(position);
    }
  }
  return kept;
}

TEST(FilterTest, KeepsTheNewestAndTheNewestAtOrBelowTheDurablePoint) {
  auto source = std::make_shared<PinSource>();
  Lane::State state;
  state.position = Position(1, 0);
  auto lane = std::make_shared<Lane>(kVolume, kLane, 0, state);
  source->AddLane(lane);
  const std::vector<Position> versions = {Position(1, 9), Position(1, 6),
                                          Position(1, 4), Position(1, 2)};
  // Nothing goes before this process was told a point and has synced it.
  EXPECT_EQ(Kept(source, versions), versions);
  lane->Applied(Position(1, 9));
  lane->Noted(Position(1, 5), Position(1, 5));
  EXPECT_EQ(Kept(source, versions), versions);
  lane->Synced(lane->state());
  EXPECT_EQ(Kept(source, versions),
            (std::vector<Position>{Position(1, 9), Position(1, 4)}));
  source->DeleteVolume(kVolume);
  EXPECT_TRUE(Kept(source, versions).empty());
  source->ForgetVolume(kVolume);
  EXPECT_EQ(Kept(source, versions), versions);
}

// A join cuts a history off and deletes what lay on it; a run that does not see
// the tombstone must not take the deleted version for one that stays.
TEST(FilterTest, AVersionThatIsNotOnTheHistoryHidesNothing) {
  auto source = std::make_shared<PinSource>();
  Lane::State state;
  state.position = Position(3, 2);
  state.lineage = {{1, 4}};
  auto lane = std::make_shared<Lane>(kVolume, kLane, 0, state);
  source->AddLane(lane);
  lane->Noted(Position(1, 1), Position(1, 1));
  lane->Synced(lane->state());
  const std::vector<Position> cut_off = {Position(1, 7), Position(1, 3)};
  EXPECT_EQ(Kept(source, cut_off), cut_off);
  const std::vector<Position> never_served = {Position(2, 1), Position(1, 3)};
  EXPECT_EQ(Kept(source, never_served), never_served);
  EXPECT_EQ(Kept(source, {Position(3, 1), Position(1, 7), Position(1, 3)}),
            (std::vector<Position>{Position(3, 1)}));
  EXPECT_EQ(Kept(source, {Position(1, 7), Position(1, 4), Position(1, 3)}),
            (std::vector<Position>{Position(1, 7), Position(1, 4)}));
}

// --- through the store ---

class ReclaimTest : public ::testing::Test {
 protected:
  void SetUp() override {
    Open();
    ASSERT_TRUE(writer_.Attach(store(), 1).ok());
  }
  void Open() {
    machine_.store.reset();
    absl::Status status = machine_.Open(1);
    ASSERT_TRUE(status.ok()) << status;
  }
  Store* store() { return machine_.store.get(); }

  // 2 MiB, four memtables: each of 512 blocks once.
  void Overwrite(uint64_t stamp) {
    for (uint64_t block = 0; block < 512; block += 32) {
      WriteResult result =
          WriteOne(store(), kVolume, writer_.Data(block, 32, stamp + block));
      ASSERT_TRUE(result.status.ok()) << result.status;
      writer_.Clear();
    }
  }
  void FlushAndNote() {
    auto flushed = store()->Flush(kVolume, 0);
    ASSERT_TRUE(flushed.ok());
    ASSERT_TRUE(store()->NoteDurablePoints(kVolume, *flushed).ok());
    ASSERT_TRUE(store()->Flush(kVolume, 0).ok());
  }
  uint64_t DiskBytes() { return machine_.fs->BytesUsed(); }
  void ExpectContent(uint64_t stamp) {
    auto read = store()->Read(kVolume, {0, 512});
    ASSERT_TRUE(read.ok()) << read.status();
    for (uint64_t block = 0; block < 512; ++block) {
      ASSERT_EQ(read->data.substr(block * kBlockBytes, kBlockBytes),
                testing::BlockOf(stamp + block));
    }
  }

  Machine machine_{std::make_shared<FaultFs>()};
  Writer writer_{kVolume, kGeometry};
};

TEST_F(ReclaimTest, OverwritingForEverTakesBoundedSpace) {
  uint64_t most = 0;
  for (uint64_t round = 0; round < 40; ++round) {
    Overwrite(round * 1000);
    FlushAndNote();
    if (round >= 10) most = std::max(most, DiskBytes());
  }
  ExpectContent(39000);
  // 2 MiB live and 80 MiB written. The WAL may hold 4 MiB, and compaction runs
  // behind where other tests keep the machine busy.
  EXPECT_LT(most, 32u << 20);
}

TEST_F(ReclaimTest, IsOffUntilDurablePointsWereToldAfterAStart) {
  Overwrite(0);
  FlushAndNote();
  Open();
  for (uint64_t round = 1; round <= 8; ++round) Overwrite(round * 1000);
  EXPECT_GT(DiskBytes(), 16u << 20);
  ExpectContent(8000);
}

TEST_F(ReclaimTest, SpaceUsedTellsWhatCouldComeBack) {
  Overwrite(0);
  Overwrite(1000);
  Overwrite(2000);
  auto before = store()->GetSpaceUsed(kVolume);
  ASSERT_TRUE(before.ok());
  EXPECT_EQ(before->live_bytes, 512u * kBlockBytes);
  // Approximate: what is in memory is not counted.
  EXPECT_GT(before->pinned_bytes + before->reclaimable_bytes, 0u);
}

TEST_F(ReclaimTest, ADeletedVolumeGivesItsSpaceBackAndItsNeighbourStays) {
  Writer other(kOther, kGeometry);
  ASSERT_TRUE(other.Attach(store(), 1).ok());
  for (uint64_t block = 0; block < 512; block += 32) {
    ASSERT_TRUE(WriteOne(store(), kOther, other.Data(block, 32, block)).status.ok());
  }
  Overwrite(500);
  Overwrite(1000);
  const uint64_t before = DiskBytes();
  ASSERT_TRUE(store()->DeleteVolume(kOther).ok());
  // Creating it again waits for the end of the purge.
  ASSERT_TRUE(store()->CreateVolume(kOther, kGeometry).ok());
  EXPECT_EQ(store()->GetSpaceUsed(kOther)->live_bytes, 0u);
  EXPECT_TRUE(store()->Read(kOther, {0, 512})->zeroes);
  // RocksDB removes a WAL a moment after it was done with; the test's time limit is the deadline.
  while (DiskBytes() >= before) std::this_thread::yield();
  ExpectContent(1000);
  Open();
  EXPECT_TRUE(store()->Read(kOther, {0, 512})->zeroes);
  ExpectContent(1000);
}

TEST_F(ReclaimTest, ADeletionInterruptedAnywhereIsFinishedAfterTheNextStart) {
  Overwrite(0);
  std::vector<std::shared_ptr<FaultFs>> images;
  machine_.fs->SetHook(
      [&](const testing::FileOp&, const FaultFs::Cut& cut) {
        if (images.size() < 60) images.push_back(cut(images.size()));
      });
  ASSERT_TRUE(store()->DeleteVolume(kVolume).ok());
  ASSERT_TRUE(store()->CreateVolume(kVolume, kGeometry).ok());
  machine_.fs->SetHook(nullptr);
  ASSERT_GT(images.size(), 10u);
  for (const auto& image : images) {
    Machine after(image);
    after.OpenFaster();
    absl::Status status = after.Open(1);
    ASSERT_TRUE(status.ok()) << status;
    // It was there whole, or it is gone and can be made anew, empty.
    if (after.store->Volumes().empty()) {
      ASSERT_TRUE(after.store->CreateVolume(kVolume, kGeometry).ok());
      EXPECT_TRUE(after.store->Read(kVolume, {0, 512})->zeroes);
    } else {
      EXPECT_TRUE(after.store->Read(kVolume, {0, 512}).ok());
    }
  }
}

TEST_F(ReclaimTest, AFullDiskGivesDiscardedSpaceBackWithoutAnyWrite) {
  Overwrite(0);
  ASSERT_TRUE(WriteOne(store(), kVolume, writer_.Zeroes(WriteKind::kDiscard, 0, 512)).status.ok());
  // The 2 MiB that were discarded lie in the WAL, in a blob file or in both, and
  // none may go before a durable point is told. After that a compaction may come
  // by itself.
  ASSERT_TRUE(store()->Flush(kVolume, 0).ok());
  ASSERT_GT(DiskBytes(), 2u << 20);
  FlushAndNote();
  machine_.fs->SetFreeBytes(0);
  // Whoever asks in vain makes it look; the test's time limit is the deadline.
  while (DiskBytes() > (1u << 20)) {
    store()->HasSpaceFor(1);
    std::this_thread::yield();
  }
  EXPECT_TRUE(store()->Read(kVolume, {0, 512})->zeroes);
}

TEST_F(ReclaimTest, DiscardingWhatWasNeverWrittenTakesNoSpace) {
  const uint64_t before = DiskBytes();
  for (int i = 0; i < 100; ++i) {
    ASSERT_TRUE(WriteOne(store(), kVolume,
                         writer_.Zeroes(WriteKind::kDiscard, 0, 512))
                    .status.ok());
  }
  EXPECT_LT(DiskBytes() - before, 64u << 10);
}

// Positions of a block's versions as they lie in the database of a closed store.
std::vector<Position> RawVersions(const Machine& machine, uint64_t block) {
  rocksdb::DBOptions options = DatabaseOptions(DomainTuning());
  options.env = machine.env.get();
  std::vector<rocksdb::ColumnFamilyHandle*> families;
  rocksdb::DB* opened = nullptr;
  const rocksdb::Status status = rocksdb::DB::OpenForReadOnly(
      options, DatabasePath(Machine::Directory(0)),
      FamilyDescriptors(DomainTuning(), std::make_shared<PinSource>()), &families, &opened);
  EXPECT_TRUE(status.ok()) << status.ToString();
  if (!status.ok()) return {};
  const std::unique_ptr<rocksdb::DB> db(opened);
  std::vector<Position> positions;
  std::unique_ptr<rocksdb::Iterator> keys(
      db->NewIterator(rocksdb::ReadOptions(), families[static_cast<int>(Family::kVersions)]));
  VersionKeyParts parts;
  for (keys->SeekToFirst(); keys->Valid(); keys->Next()) {
    if (ParseVersionKey(View(keys->key()), &parts) && parts.address.block == block) {
      positions.push_back(parts.position);
    }
  }
  keys.reset();
  for (rocksdb::ColumnFamilyHandle* family : families) {
    EXPECT_TRUE(db->DestroyColumnFamilyHandle(family).ok());
  }
  return positions;
}

TEST_F(ReclaimTest, ACopyDeletesWhatWasCutOffAndNothingOfTheHistory) {
  Machine source(std::make_shared<FaultFs>());
  source.OpenFaster();
  ASSERT_TRUE(source.Open(1).ok());
  Writer same(kVolume, kGeometry);
  ASSERT_TRUE(same.Attach(source.store.get(), 1).ok());
  for (int i = 0; i < 2; ++i) {
    const WriteOp op = writer_.Data(3, 2, i);
    ASSERT_TRUE(WriteOne(store(), kVolume, op).status.ok());
    ASSERT_TRUE(WriteOne(source.store.get(), kVolume, op).status.ok());
  }
  // The target alone, then the source alone.
  ASSERT_TRUE(WriteOne(store(), kVolume, writer_.Data(3, 2, 7)).status.ok());
  ASSERT_TRUE(writer_.Attach(source.store.get(), 2).ok());
  ASSERT_TRUE(WriteOne(source.store.get(), kVolume, writer_.Data(3, 1, 8)).status.ok());
  ASSERT_TRUE(store()->Promise(kVolume, 2).ok());
  ASSERT_TRUE(testing::BeginJoin(source.store.get(), store(), kVolume, 1).ok());
  // Block 3 is written again before it is copied.
  ASSERT_TRUE(WriteOne(store(), kVolume, writer_.Data(3, 1, 9)).status.ok());
  ASSERT_TRUE(testing::CopyAll(source.store.get(), store(), kVolume).ok());
  machine_.store.reset();
  EXPECT_EQ(RawVersions(machine_, 3), (std::vector<Position>{Position(2, 2), Position(2, 1),
                                                             Position(1, 2), Position(1, 1)}));
  EXPECT_EQ(RawVersions(machine_, 4), (std::vector<Position>{Position(1, 2), Position(1, 1)}));
}

// --- the parts that look at RocksDB's files ---

TEST(WholeRecordsTest, EndsAtTheLastWholeRecord) {
  EXPECT_EQ(WholeRecordsBytes(""), 0u);
  EXPECT_EQ(WholeRecordsBytes(std::string(100, '\0')), 0u);
  EXPECT_EQ(WholeRecordsBytes("garbage that is no record"), 0u);
}

TEST(KeysTest, SortAsTheirNumbersDoAndRoundTrip) {
  const BlockAddress address{VolumeId{9}, LaneId{3}, 1234567};
  EXPECT_LT(VersionKey(address, Position(2, 1)), VersionKey(address, Position(1, 9)));
  EXPECT_LT(VersionKey(address, Position(1, 1)),
            VersionKey({VolumeId{9}, LaneId{3}, 1234568}, Position(1, 1)));
  VersionKeyParts parts;
  ASSERT_TRUE(ParseVersionKey(VersionKey(address, Position(5, 6)), &parts));
  EXPECT_EQ(parts.address.block, 1234567u);
  EXPECT_EQ(parts.address.lane, LaneId{3});
  EXPECT_EQ(parts.position, Position(5, 6));
  EXPECT_EQ(VolumeEnd(VolumeId{~uint64_t{0}}), "");
}

TEST(VersionTest, IsRefusedAtAnyOtherPlaceThanItsOwn) {
  const BlockAddress address{VolumeId{9}, LaneId{3}, 10};
  const std::string value =
      VersionHeader(address, Position(1, 1), BlockKind::kZero, 0);
  EXPECT_TRUE(ParseVersion(address, Position(1, 1), value).ok());
  EXPECT_FALSE(ParseVersion(address, Position(1, 2), value).ok());
  EXPECT_FALSE(
      ParseVersion({VolumeId{9}, LaneId{3}, 11}, Position(1, 1), value).ok());
  EXPECT_FALSE(
      ParseVersion({VolumeId{8}, LaneId{3}, 10}, Position(1, 1), value).ok());
}

}  // namespace
}  // namespace weir::store
