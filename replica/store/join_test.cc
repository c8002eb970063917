// What the real store owes to a join beyond the rules that both stores follow
// (replica/server/join_rules_test.cc): restarts, limits, pins and trimming.
#include <cerrno>
#include <memory>
#include <thread>

#include "gtest/gtest.h"
#include "proto/base/errno.h"
#include "replica/store/store.h"
#include "replica/store/testing/join_steps.h"
#include "replica/store/testing/machine.h"
#include "replica/store/testing/temp_store.h"

namespace weir::store {
namespace {

using testing::BlockOf;
using testing::CopyAll;
using testing::FaultFs;
using testing::Machine;
using testing::WriteOne;
using testing::Writer;

constexpr VolumeId kVolume{7};
constexpr LaneId kLane{0};
using Ranges = std::vector<BlockRange>;

#define ASSERT_OK(expr) \
  if (absl::Status weir_got = (expr); !weir_got.ok()) FAIL() << weir_got
#define EXPECT_OK(expr) \
  if (absl::Status weir_got = (expr); !weir_got.ok()) ADD_FAILURE() << weir_got

// One lane, so that a position says it all.
class JoinTest : public ::testing::Test {
 protected:
  explicit JoinTest(VolumeGeometry geometry = {.size_blocks = 256,
                                               .lanes = {.lanes = 1, .stripe_blocks = 8}})
      : geometry_(geometry), writer_(kVolume, geometry) {}

  void SetUp() override {
    Open(&source_);
    Open(&target_);
    ASSERT_OK(writer_.Attach(source(), 1));
    Writer same(kVolume, geometry_);
    ASSERT_OK(same.Attach(target(), 1));
  }
  static void Open(Machine* machine) {
    machine->store.reset();
    machine->OpenFaster();
    ASSERT_OK(machine->Open(1));
  }
  // As a kill leaves it: nothing synced in between, nothing lost by the system.
  static void Kill(std::unique_ptr<Machine>* machine) {
    auto after = std::make_unique<Machine>((*machine)->fs->AfterKill());
    machine->reset();
    Open(after.get());
    *machine = std::move(after);
  }
  void Open(std::unique_ptr<Machine>* machine) {
    *machine = std::make_unique<Machine>(std::make_shared<FaultFs>());
    Open(machine->get());
  }
  Store* source() { return source_->store.get(); }
  Store* target() { return target_->store.get(); }
  void Write(Store* store, const WriteOp& op) {
    ASSERT_OK(WriteOne(store, kVolume, op).status);
  }
  void WriteBoth(const WriteOp& op) {
    Write(source(), op);
    Write(target(), op);
  }
  static LaneState LaneOf(Store* store) { return store->GetVolume(kVolume)->lanes[0]; }
  static void FlushAndNote(Store* store) {
    auto flushed = store->Flush(kVolume, 0);
    ASSERT_TRUE(flushed.ok());
    ASSERT_OK(store->NoteDurablePoints(kVolume, *flushed));
    ASSERT_TRUE(store->Flush(kVolume, 0).ok());
  }
  Ranges Invalid() { return target()->InvalidBlocks(kVolume, kLane, 0, 1000)->ranges; }
  std::vector<Position> VersionsOf(Store* store, uint64_t block, Position at_most) {
    const Ranges range = {{block, 1}};
    auto read = store->ReadVersions(kVolume, kLane, range, at_most, 1);
    EXPECT_TRUE(read.ok()) << read.status();
    std::vector<Position> positions;
    for (const BlockVersion& version : read->versions) positions.push_back(version.position);
    return positions;
  }
  // The target misses epoch 2 of the source, and the source has changed blocks 0, 4 and 5.
  void GoOnWithoutTarget() {
    WriteBoth(writer_.Data(0, 8, 100));
    ASSERT_OK(writer_.Attach(source(), 2));
    Write(source(), writer_.Data(0, 1, 200));
    Write(source(), writer_.Data(4, 2, 204));
    ASSERT_OK(target()->Promise(kVolume, 2));
  }

  const VolumeGeometry geometry_;
  std::unique_ptr<Machine> source_, target_;
  Writer writer_;
};

TEST_F(JoinTest, IsTheSameAfterARestartAtEveryStep) {
  GoOnWithoutTarget();
  ASSERT_OK(testing::BeginJoin(source(), target(), kVolume, 1));
  WriteBoth(writer_.Data(1, 1, 301));
  Kill(&target_);
  EXPECT_EQ(LaneOf(target()).position, Position(2, 3));
  EXPECT_EQ(LaneOf(target()).durable_position, Position(1, 1));
  EXPECT_EQ(LaneOf(target()).lineage, (std::vector<LineageEntry>{{0, 0}, {1, 1}}));
  EXPECT_EQ(LaneOf(target()).join_id, 1u);
  EXPECT_EQ(LaneOf(target()).join_to, Position(2, 2));
  EXPECT_EQ(Invalid(), (Ranges{{0, 1}, {4, 2}}));
  EXPECT_EQ(StatusToErrno(target()->Read(kVolume, {5, 1}).status()), kBlockInvalid);
  auto copied = testing::CopySome(source(), target(), kVolume, kLane, 1, 1);
  ASSERT_TRUE(copied.ok()) << copied.status();
  Kill(&target_);
  EXPECT_EQ(LaneOf(target()).invalid_blocks, 2u);
  EXPECT_EQ(Invalid(), (Ranges{{4, 2}}));
  EXPECT_EQ(target()->Read(kVolume, {0, 2})->data, BlockOf(200) + BlockOf(301));
  ASSERT_TRUE(CopyAll(source(), target(), kVolume).ok());
  ASSERT_OK(target()->FinishJoin(kVolume, 1));
  WriteBoth(writer_.Data(2, 1, 302));
  Kill(&target_);
  EXPECT_EQ(LaneOf(target()).join_id, 0u);
  EXPECT_EQ(LaneOf(target()).position, Position(2, 4));
  EXPECT_EQ(target()->Read(kVolume, {0, 8})->data, source()->Read(kVolume, {0, 8})->data);
  EXPECT_EQ(*target()->ReadChanges(kVolume, kLane, Position(1, 1), Position(2, 2)),
            (Ranges{{0, 1}, {4, 2}}));
}

TEST_F(JoinTest, OfEverythingIsTheSameAfterARestart) {
  GoOnWithoutTarget();
  ASSERT_OK(testing::BeginJoin(source(), target(), kVolume, 1, /*everything=*/true));
  // Block 0 has two versions, block 1 one.
  ASSERT_TRUE(testing::CopySome(source(), target(), kVolume, kLane, 1, 3 * 4096).ok());
  const uint64_t left = LaneOf(target()).invalid_blocks;
  EXPECT_EQ(left, 256u - 2);
  Kill(&target_);
  EXPECT_EQ(LaneOf(target()).invalid_blocks, left);
  EXPECT_EQ(Invalid(), (Ranges{{2, 254}}));
  EXPECT_TRUE(absl::IsOutOfRange(
      target()->ReadChanges(kVolume, kLane, Position(2, 1), Position(2, 2)).status()));
  ASSERT_TRUE(CopyAll(source(), target(), kVolume).ok());
  ASSERT_OK(target()->FinishJoin(kVolume, 1));
  ASSERT_TRUE(target()->Flush(kVolume, 0).ok());
  Kill(&target_);
  EXPECT_EQ(target()->Read(kVolume, {0, 8})->data, source()->Read(kVolume, {0, 8})->data);
  EXPECT_TRUE(absl::IsOutOfRange(
      target()->ReadChanges(kVolume, kLane, Position(2, 1), Position(2, 2)).status()));
}

TEST_F(JoinTest, AFlushMakesItDurable) {
  GoOnWithoutTarget();
  ASSERT_OK(testing::BeginJoin(source(), target(), kVolume, 1));
  ASSERT_TRUE(CopyAll(source(), target(), kVolume).ok());
  ASSERT_OK(target()->FinishJoin(kVolume, 1));
  auto flushed = target()->Flush(kVolume, 0);
  ASSERT_TRUE(flushed.ok());
  EXPECT_EQ(flushed->front().second, Position(2, 2));
  for (uint64_t seed = 0; seed < 8; ++seed) {
    Machine after(target_->fs->AfterPowerCut(seed));
    Open(&after);
    EXPECT_EQ(LaneOf(after.store.get()).durable_position, Position(2, 2));
    EXPECT_EQ(LaneOf(after.store.get()).join_id, 0u);
    EXPECT_EQ(after.store->Read(kVolume, {0, 8})->data, source()->Read(kVolume, {0, 8})->data);
  }
}

TEST_F(JoinTest, DeletingTheVolumeDropsItsMarks) {
  GoOnWithoutTarget();
  ASSERT_OK(testing::BeginJoin(source(), target(), kVolume, 1));
  ASSERT_OK(target()->DeleteVolume(kVolume));
  ASSERT_OK(target()->CreateVolume(kVolume, geometry_));
  EXPECT_EQ(LaneOf(target()).invalid_blocks, 0u);
  Kill(&target_);
  EXPECT_EQ(LaneOf(target()).invalid_blocks, 0u);
  EXPECT_EQ(LaneOf(target()).join_id, 0u);
  EXPECT_TRUE(target()->Read(kVolume, {0, 256})->zeroes);
}

TEST_F(JoinTest, AnAdoptedTailThatSkipsPositionsIsNoHoleAfterAKill) {
  GoOnWithoutTarget();
  ASSERT_OK(testing::BeginJoin(source(), target(), kVolume, 1));
  ASSERT_TRUE(CopyAll(source(), target(), kVolume).ok());
  ASSERT_OK(target()->FinishJoin(kVolume, 1));
  Write(target(), writer_.Data(6, 1, 306));
  // The target knows only that its changes lie somewhere up to 2.2.
  auto tail = target()->ReadTail(kVolume, kLane, Position(1, 1), Position(2, 3));
  ASSERT_TRUE(tail.ok()) << tail.status();
  std::unique_ptr<Machine> third;
  Open(&third);
  Writer same(kVolume, geometry_);
  ASSERT_OK(same.Attach(third->store.get(), 1));
  Write(third->store.get(), same.Data(0, 8, 100));
  ASSERT_OK(third->store->AdoptTail(kVolume, *tail));
  Kill(&third);
  EXPECT_EQ(LaneOf(third->store.get()).position, Position(2, 3));
  EXPECT_EQ(third->store->Read(kVolume, {0, 8})->data, target()->Read(kVolume, {0, 8})->data);
}

// --- what a source tells ---

TEST_F(JoinTest, ASourceTellsOneVersionAPinAndTheNewest) {
  for (uint64_t i = 1; i <= 9; ++i) {
    Write(source(), writer_.Data(3, 1, i));
    if (i == 4) FlushAndNote(source());
  }
  EXPECT_EQ(VersionsOf(source(), 3, Position(1, 7)),
            (std::vector<Position>{Position(1, 7), Position(1, 4)}));
  EXPECT_EQ(VersionsOf(source(), 3, Position(1, 4)), (std::vector<Position>{Position(1, 4)}));
  EXPECT_EQ(VersionsOf(source(), 3, Position(1, 3)), (std::vector<Position>{Position(1, 3)}));
}

TEST_F(JoinTest, ASourceThatKnowsNoPinsTellsAllButNotMoreThanAMessageHolds) {
  for (uint64_t i = 1; i <= 300; ++i) Write(source(), writer_.Data(3, 1, i));
  EXPECT_EQ(VersionsOf(source(), 3, Position(1, 5)).size(), 5u);
  const Ranges range = {{3, 1}};
  EXPECT_TRUE(absl::IsUnavailable(
      source()->ReadVersions(kVolume, kLane, range, Position(1, 300), 1).status()));
  FlushAndNote(source());
  EXPECT_EQ(VersionsOf(source(), 3, Position(1, 300)), (std::vector<Position>{Position(1, 300)}));
}

TEST_F(JoinTest, ADamagedVersionIsNotCopied) {
  GoOnWithoutTarget();
  ASSERT_OK(testing::BeginJoin(source(), target(), kVolume, 1));
  ASSERT_TRUE(source()->Flush(kVolume, 0).ok());
  const std::string stamped = BlockOf(204);
  source_->store.reset();
  auto damaged = std::make_unique<Machine>(source_->fs->AfterKill());
  Open(damaged.get());  // replays the WAL into a blob file
  damaged->store.reset();
  int found = 0;
  for (const std::string& path : damaged->fs->Files()) {
    std::string content = damaged->fs->Content(path);
    const size_t at = content.find(stamped);
    if (at == std::string::npos || path.find(".blob") == std::string::npos) continue;
    content[at + 1000] ^= 1;
    damaged->fs->SetContent(path, content);
    ++found;
  }
  ASSERT_EQ(found, 1);
  Open(damaged.get());
  source_ = std::move(damaged);
  EXPECT_EQ(StatusToErrno(CopyAll(source(), target(), kVolume).status()), EBADMSG);
  EXPECT_EQ(LaneOf(target()).invalid_blocks, 3u);
}

// --- all at once ---

TEST_F(JoinTest, CopiesAndLiveWritesMayComeInAnyOrderWhileTheSourceReclaims) {
  WriteBoth(writer_.Data(0, 8, 100));
  ASSERT_OK(writer_.Attach(source(), 2));
  for (uint64_t block = 0; block < 256; block += 8) {
    Write(source(), writer_.Data(block, 8, 1000 + block));
  }
  FlushAndNote(source());
  ASSERT_OK(target()->Promise(kVolume, 2));
  ASSERT_OK(testing::BeginJoin(source(), target(), kVolume, 1));
  // 16 MiB to each store, enough for many memtables and some compactions. Each
  // write may reach the target before or after the copy of its blocks.
  std::thread live([this] {
    for (uint64_t i = 0; i < 512; ++i) {
      const uint64_t block = i * 7 % 32 * 8;
      WriteBoth(i % 5 == 4 ? writer_.Zeroes(WriteKind::kDiscard, block, 3)
                           : writer_.Data(block, 8, 10000 + i * 8));
      writer_.Clear();
      if (i % 32 == 0) FlushAndNote(source());
    }
  });
  uint64_t from = 0;
  while (LaneOf(target()).invalid_blocks > 0) {
    auto copied = testing::CopySome(source(), target(), kVolume, kLane, 2, 1, &from);
    if (!copied.ok()) ADD_FAILURE() << copied.status();
    if (!copied.ok()) break;
  }
  live.join();
  ASSERT_OK(target()->FinishJoin(kVolume, 1));
  EXPECT_EQ(LaneOf(target()).position, LaneOf(source()).position);
  for (uint64_t block = 0; block < 256; ++block) {
    auto ours = source()->Read(kVolume, {block, 1});
    auto theirs = target()->Read(kVolume, {block, 1});
    ASSERT_TRUE(ours.ok() && theirs.ok()) << theirs.status();
    EXPECT_TRUE(ours->data == theirs->data) << block;
  }
}

// 1 MiB, so that it shows; each write fills one stripe.
class JoinSpaceTest : public JoinTest {
 protected:
  void SetUp() override {
    JoinTest::SetUp();
    for (uint64_t block = 0; block < 256; block += 8) WriteBoth(writer_.Data(block, 8, 100 + block));
    FlushAndNote(target());
    ASSERT_OK(writer_.Attach(source(), 2));
    ASSERT_OK(target()->Promise(kVolume, 2));
    ASSERT_GT(target_->fs->BytesUsed(), 1u << 20);
  }
  // Compaction comes in time; the test's time limit is the deadline.
  void AwaitSpace() {
    FlushAndNote(target());
    while (target_->fs->BytesUsed() > (1u << 19)) std::this_thread::yield();
  }
};

TEST_F(JoinSpaceTest, WhatIsDiscardedMeanwhileGivesItsSpaceBackBeforeItEnds) {
  Write(source(), writer_.Data(0, 1, 200));
  ASSERT_OK(testing::BeginJoin(source(), target(), kVolume, 1));
  for (uint64_t block = 0; block < 256; block += 8) {
    WriteBoth(writer_.Zeroes(WriteKind::kDiscard, block, 8));
  }
  AwaitSpace();
  EXPECT_EQ(Invalid(), (Ranges{{0, 1}}));
  ASSERT_TRUE(CopyAll(source(), target(), kVolume).ok());
  ASSERT_OK(target()->FinishJoin(kVolume, 1));
  EXPECT_TRUE(target()->Read(kVolume, {0, 256})->zeroes);
}

TEST_F(JoinSpaceTest, WhatWasDiscardedWithoutItGoesOnceItsBlocksAreCopied) {
  for (uint64_t block = 0; block < 256; block += 8) {
    Write(source(), writer_.Zeroes(WriteKind::kDiscard, block, 8));
  }
  ASSERT_OK(testing::BeginJoin(source(), target(), kVolume, 1));
  ASSERT_TRUE(CopyAll(source(), target(), kVolume).ok());
  AwaitSpace();
  EXPECT_EQ(LaneOf(target()).join_id, 1u);
  EXPECT_TRUE(target()->Read(kVolume, {0, 256})->zeroes);
}

// --- changes ---

TEST_F(JoinTest, ChangesAreTrimmedByTheDurablePointUnlessSomebodyNeedsThem) {
  WriteBoth(writer_.Data(0, 1, 1));
  const std::vector<std::pair<LaneId, Position>> needed = {{kLane, Position(1, 1)}};
  ASSERT_OK(source()->KeepChanges(kVolume, needed));
  for (uint64_t i = 0; i < 4; ++i) {
    // Enough to write memtables out, which trims.
    for (uint64_t block = 0; block < 256; block += 8) {
      Write(source(), writer_.Data(block, 8, i));
    }
    FlushAndNote(source());
  }
  const Position to = LaneOf(source()).position;
  const auto changes = [&](Position from) {
    return source()->ReadChanges(kVolume, kLane, from, to);
  };
  ASSERT_TRUE(changes(Position(1, 1)).ok());
  EXPECT_EQ(changes(Position(1, 1))->size(), 32u);
  EXPECT_TRUE(absl::IsOutOfRange(changes(Position(1, 0)).status()));
  EXPECT_TRUE(source()->ReadTail(kVolume, kLane, Position(1, 1), to).ok());
  Kill(&source_);
  EXPECT_EQ(changes(Position(1, 1))->size(), 32u);
  // Nobody says so any more.
  FlushAndNote(source());
  EXPECT_TRUE(absl::IsOutOfRange(changes(Position(1, 1)).status()));
  EXPECT_TRUE(changes(to).ok());
  // Then the one that was away copies everything.
  ASSERT_OK(testing::BeginJoin(source(), target(), kVolume, 1));
  EXPECT_EQ(LaneOf(target()).invalid_blocks, 256u);
  ASSERT_TRUE(CopyAll(source(), target(), kVolume).ok());
  EXPECT_EQ(target()->Read(kVolume, {0, 256})->data, source()->Read(kVolume, {0, 256})->data);
}

TEST_F(JoinTest, ATargetWhoseOwnChangesAreTrimmedPastTheCommonPointCopiesEverything) {
  WriteBoth(writer_.Data(0, 8, 100));
  Writer alone(kVolume, geometry_);
  alone.SetPosition(kLane, Position(1, 1));
  Write(target(), alone.Data(1, 1, 901));
  FlushAndNote(target());  // "every member has it", and then it was not so
  ASSERT_OK(writer_.Attach(source(), 2));
  ASSERT_OK(target()->Promise(kVolume, 2));
  auto join = testing::PlanJoin(source(), target(), kVolume, kLane, 1);
  ASSERT_TRUE(join.ok());
  EXPECT_FALSE(join->everything);
  EXPECT_TRUE(absl::IsOutOfRange(target()->BeginJoin(kVolume, *join)));
  ASSERT_OK(testing::BeginJoin(source(), target(), kVolume, 1));
  ASSERT_TRUE(CopyAll(source(), target(), kVolume).ok());
  EXPECT_EQ(target()->Read(kVolume, {1, 1})->data, BlockOf(101));
}

// The first join's changes stand at its end for all since (1, 1). The second one's history has
// only half of that join's, so what it takes back are changes from before its common point too.
TEST_F(JoinTest, ASecondOneFromFurtherBackForgetsWhatTheFirstOnesChangesStoodFor) {
  GoOnWithoutTarget();
  ASSERT_OK(testing::BeginJoin(source(), target(), kVolume, 1));
  ASSERT_TRUE(CopyAll(source(), target(), kVolume).ok());
  ASSERT_OK(target()->FinishJoin(kVolume, 1));
  ASSERT_OK(target()->Promise(kVolume, 3));
  JoinLane second;
  second.join_id = 2;
  second.lane = kLane;
  second.expected = Position(2, 2);
  second.common = Position(2, 1);
  second.to = Position(3, 0);
  second.lineage = {{0, 0}, {1, 1}, {2, 1}};
  ASSERT_OK(target()->BeginJoin(kVolume, second));
  EXPECT_EQ(Invalid(), (Ranges{{0, 1}, {4, 2}}));
  Kill(&target_);
  EXPECT_TRUE(absl::IsOutOfRange(
      target()->ReadChanges(kVolume, kLane, Position(1, 1), Position(3, 0)).status()));
  EXPECT_TRUE(target()->ReadChanges(kVolume, kLane, Position(2, 1), Position(3, 0)).ok());
}

// Stripes enough to overflow every limit, with changes that cost nothing.
class ManyChangesTest : public JoinTest {
 protected:
  ManyChangesTest()
      : JoinTest({.size_blocks = 8 * (kJoinRangesMax + 2),
                  .lanes = {.lanes = 1, .stripe_blocks = 8}}) {}

  // Discards block `offset` of each of `stripes`.
  void Discard(Store* store, uint64_t stripes, uint64_t offset) {
    std::vector<WriteOp> ops;
    for (uint64_t i = 0; i < stripes; ++i) {
      ops.push_back(writer_.Zeroes(WriteKind::kDiscard, i * 8 + offset, 1));
      if (ops.size() < 4096 && i + 1 < stripes) continue;
      for (const WriteResult& result : store->Write(kVolume, ops)) ASSERT_OK(result.status);
      ops.clear();
    }
  }
  absl::StatusOr<Ranges> Changes(Store* store) {
    return store->ReadChanges(kVolume, kLane, Position(1, 0), LaneOf(store).position);
  }
};

TEST_F(ManyChangesTest, AreToldByTheStripeAndThenNotAtAll) {
  constexpr uint64_t kStripes = kJoinRangesMax / 2;
  Discard(source(), kStripes, 1);
  Discard(source(), kStripes, 3);
  EXPECT_EQ(Changes(source())->size(), kJoinRangesMax);
  Discard(source(), 1, 5);
  auto coarse = Changes(source());
  ASSERT_TRUE(coarse.ok());
  EXPECT_EQ(coarse->size(), kStripes);
  EXPECT_EQ(coarse->front(), (BlockRange{1, 5}));
  EXPECT_EQ(coarse->back(), (BlockRange{(kStripes - 1) * 8 + 1, 3}));
  Discard(source(), kJoinRangesMax + 1, 0);
  EXPECT_TRUE(absl::IsOutOfRange(Changes(source()).status()));
}

TEST_F(ManyChangesTest, MarkAsManyStripesInOneBatchAndNoMore) {
  Discard(source(), kJoinRangesMax, 1);
  ASSERT_OK(testing::BeginJoin(source(), target(), kVolume, 1));
  EXPECT_EQ(LaneOf(target()).invalid_blocks, kJoinRangesMax);
  Kill(&target_);
  EXPECT_EQ(LaneOf(target()).invalid_blocks, kJoinRangesMax);
  ASSERT_TRUE(CopyAll(source(), target(), kVolume).ok());
  EXPECT_EQ(LaneOf(target()).invalid_blocks, 0u);
  ASSERT_OK(target()->FinishJoin(kVolume, 1));

  auto join = testing::PlanJoin(source(), target(), kVolume, kLane, 2);
  ASSERT_TRUE(join.ok()) << join.status();
  join->invalid.assign(kJoinRangesMax + 1, BlockRange{0, 1});
  EXPECT_TRUE(absl::IsInvalidArgument(target()->BeginJoin(kVolume, *join)));
}

}  // namespace
}  // namespace weir::store
