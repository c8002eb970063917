// The rules of a join, one test a sentence of store.h and join.h, on the real
// store and on the one in memory that stands in for it.
#include <cerrno>
#include <functional>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "gtest/gtest.h"
#include "proto/base/errno.h"
#include "replica/server/fake_store.h"
#include "replica/store/store.h"
#include "replica/store/testing/join_steps.h"
#include "replica/store/testing/temp_store.h"

namespace weir::replica {
namespace {

using store::BlockVersion;
using store::CopyPart;
using store::InvalidPage;
using store::JoinLane;
using store::Store;
using store::WriteKind;
using store::WriteOp;
using store::testing::BeginJoin;
using store::testing::BlockOf;
using store::testing::CopyAll;
using store::testing::CopySome;
using store::testing::PlanJoin;
using store::testing::TempDir;
using store::testing::WriteOne;
using store::testing::Writer;

// Two lanes, stripes of 8 blocks: lane 0 has blocks 0-7, 16-23, ...
constexpr store::VolumeGeometry kGeometry{.size_blocks = 256,
                                          .lanes = {.lanes = 2, .stripe_blocks = 8}};
constexpr VolumeId kVolume{77};
constexpr LaneId kLane{0};
constexpr uint64_t kLaneBlocks = 128;

#define ASSERT_OK(expr) \
  if (absl::Status weir_got = (expr); !weir_got.ok()) FAIL() << weir_got
#define EXPECT_OK(expr) \
  if (absl::Status weir_got = (expr); !weir_got.ok()) ADD_FAILURE() << weir_got

struct Stores {
  const char* name;
  std::function<std::unique_ptr<Store>(const TempDir&)> make;
};

std::unique_ptr<Store> MakeDisk(const TempDir& dir) {
  auto opened = Store::Open(store::testing::SmallOptions(dir, 2));
  EXPECT_TRUE(opened.ok()) << opened.status();
  return opened.ok() ? *std::move(opened) : nullptr;
}

// A source and a target with the same beginning: blocks 0 to 7 have stamps 100 to
// 107 at 1.1, block 16 is 116 at 1.2. Then the target went on alone in epoch 1
// (block 1 is 901, block 17 is 917), and the source, in epoch 2, without it:
// block 0 is 200, block 2 is discarded, block 20 is 220.
class JoinRulesTest : public ::testing::TestWithParam<Stores> {
 protected:
  void SetUp() override {
    source_ = GetParam().make(source_dir_);
    target_ = GetParam().make(target_dir_);
    ASSERT_OK(writer_.Attach(source_.get(), 1));
    Writer same(kVolume, kGeometry);
    ASSERT_OK(same.Attach(target_.get(), 1));
    WriteBoth(writer_.Data(0, 8, 100));
    WriteBoth(writer_.Data(16, 1, 116));
    Writer alone(kVolume, kGeometry);
    alone.SetPosition(kLane, Position(1, 2));
    ASSERT_OK(WriteOne(target_.get(), kVolume, alone.Data(1, 1, 901)).status);
    ASSERT_OK(WriteOne(target_.get(), kVolume, alone.Data(17, 1, 917)).status);
    ASSERT_OK(writer_.Attach(source_.get(), 2));
    WriteSource(writer_.Data(0, 1, 200));
    WriteSource(writer_.Zeroes(WriteKind::kDiscard, 2, 1));
    WriteSource(writer_.Data(20, 1, 220));
    ASSERT_OK(target_->Promise(kVolume, 2));
  }
  void WriteSource(const WriteOp& op) { ASSERT_OK(WriteOne(source_.get(), kVolume, op).status); }
  void WriteTarget(const WriteOp& op) { ASSERT_OK(WriteOne(target_.get(), kVolume, op).status); }
  void WriteBoth(const WriteOp& op) {
    WriteSource(op);
    WriteTarget(op);
  }
  JoinLane Plan(uint64_t join_id = 1, bool everything = false) {
    auto join = PlanJoin(source_.get(), target_.get(), kVolume, kLane, join_id, everything);
    EXPECT_TRUE(join.ok()) << join.status();
    return join.ok() ? *join : JoinLane();
  }
  void Begin(uint64_t join_id = 1, bool everything = false) {
    ASSERT_OK(BeginJoin(source_.get(), target_.get(), kVolume, join_id, everything));
  }
  store::LaneState TargetLane() { return target_->GetVolume(kVolume)->lanes[0]; }
  std::vector<BlockRange> Invalid(uint64_t from = 0, size_t max = 1000) {
    auto page = target_->InvalidBlocks(kVolume, kLane, from, max);
    EXPECT_TRUE(page.ok()) << page.status();
    return page.ok() ? page->ranges : std::vector<BlockRange>();
  }
  // What would copy `ranges` now.
  CopyPart Copy(std::vector<BlockRange> ranges, uint64_t bytes_max = 1 << 20) {
    const store::LaneState lane = TargetLane();
    auto read = source_->ReadVersions(kVolume, kLane, ranges, lane.join_to, bytes_max);
    EXPECT_TRUE(read.ok()) << read.status();
    if (!read.ok()) return CopyPart();
    return {kLane, lane.join_id, lane.join_to, read->ranges, read->versions};
  }
  int ReadErrno(uint64_t first, uint64_t count) {
    return StatusToErrno(target_->Read(kVolume, {first, count}).status());
  }
  std::string DataOf(Store* store, uint64_t block) {
    auto read = store->Read(kVolume, {block, 1});
    EXPECT_TRUE(read.ok()) << read.status();
    if (!read.ok()) return "";
    return read->zeroes ? std::string(kBlockBytes, '\0') : read->data;
  }
  void ExpectSame() {
    for (uint64_t block = 0; block < kGeometry.size_blocks; ++block) {
      EXPECT_EQ(DataOf(target_.get(), block), DataOf(source_.get(), block)) << block;
    }
  }

  TempDir source_dir_, target_dir_;
  std::unique_ptr<Store> source_, target_;
  Writer writer_{kVolume, kGeometry};
};

using Ranges = std::vector<BlockRange>;

TEST_P(JoinRulesTest, ChangesAreToldAsRangesBetweenTwoPoints) {
  const auto changes = [this](Position from, Position to) {
    return source_->ReadChanges(kVolume, kLane, from, to);
  };
  EXPECT_EQ(*changes(Position(1, 2), Position(2, 3)), (Ranges{{0, 1}, {2, 1}, {20, 1}}));
  EXPECT_EQ(*changes(Position(1, 0), Position(1, 2)), (Ranges{{0, 8}, {16, 1}}));
  EXPECT_EQ(*changes(Position(1, 1), Position(2, 1)), (Ranges{{0, 1}, {16, 1}}));
  EXPECT_EQ(*changes(Position(2, 3), Position(2, 3)), Ranges());
  EXPECT_TRUE(absl::IsOutOfRange(changes(Position(1, 3), Position(2, 3)).status()));
  EXPECT_TRUE(absl::IsFailedPrecondition(changes(Position(1, 0), Position(2, 4)).status()));
  EXPECT_TRUE(absl::IsFailedPrecondition(changes(Position(1, 0), Position(1, 3)).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(changes(Position(2, 0), Position(1, 2)).status()));
  EXPECT_TRUE(absl::IsNotFound(
      source_->ReadChanges(VolumeId{5}, kLane, Position(1, 0), Position(1, 0)).status()));
}

TEST_P(JoinRulesTest, BeginningMarksWhatEitherSideChangedAfterTheCommonPoint) {
  const JoinLane join = Plan();
  EXPECT_EQ(join.common, Position(1, 2));
  EXPECT_EQ(join.expected, Position(1, 4));
  ASSERT_OK(target_->BeginJoin(kVolume, join));
  EXPECT_EQ(Invalid(), (Ranges{{0, 3}, {17, 1}, {20, 1}}));
  const store::LaneState lane = TargetLane();
  EXPECT_EQ(lane.position, Position(2, 3));
  EXPECT_EQ(lane.lineage, (std::vector<LineageEntry>{{0, 0}, {1, 2}}));
  EXPECT_EQ(lane.invalid_blocks, 5u);
  EXPECT_EQ(lane.join_id, 1u);
  EXPECT_EQ(lane.join_to, Position(2, 3));
}

TEST_P(JoinRulesTest, BeginningTwiceIsOnceAndFromElsewhereIsAborted) {
  JoinLane join = Plan();
  ASSERT_OK(target_->BeginJoin(kVolume, join));
  WriteBoth(writer_.Data(3, 1, 300));
  EXPECT_OK(target_->BeginJoin(kVolume, join));
  EXPECT_EQ(TargetLane().position, Position(2, 4));
  join.to = Position(2, 4);
  EXPECT_TRUE(absl::IsAborted(target_->BeginJoin(kVolume, join))) << "one id, two joins";
  join.join_id = 2;
  EXPECT_TRUE(absl::IsAborted(target_->BeginJoin(kVolume, join))) << "not at expected";
}

TEST_P(JoinRulesTest, AJoinThatCannotBeRightIsRefused) {
  const JoinLane good = Plan();
  JoinLane bad = good;
  bad.join_id = 0;
  EXPECT_TRUE(absl::IsInvalidArgument(target_->BeginJoin(kVolume, bad)));
  bad = good;
  bad.lane = LaneId{2};
  EXPECT_TRUE(absl::IsInvalidArgument(target_->BeginJoin(kVolume, bad)));
  bad = good;
  bad.common = Position(1, 3);  // on the target's history alone
  EXPECT_TRUE(absl::IsInvalidArgument(target_->BeginJoin(kVolume, bad)));
  bad = good;
  bad.common = Position(2, 1);  // on the source's alone
  EXPECT_TRUE(absl::IsInvalidArgument(target_->BeginJoin(kVolume, bad)));
  bad = good;
  bad.to = Position(1, 3);  // behind the target
  EXPECT_TRUE(absl::IsInvalidArgument(target_->BeginJoin(kVolume, bad)));
  bad = good;
  bad.lineage = {{1, 2}, {0, 0}};
  EXPECT_TRUE(absl::IsInvalidArgument(target_->BeginJoin(kVolume, bad)));
  ASSERT_OK(target_->Promise(kVolume, 3));
  EXPECT_EQ(StatusToErrno(target_->BeginJoin(kVolume, good)), ESTALE);
  EXPECT_EQ(TargetLane().position, Position(1, 4));
  EXPECT_EQ(ReadErrno(0, 8), 0);
}

TEST_P(JoinRulesTest, ReadsOfInvalidBlocksAreRefusedAndOfOthersServed) {
  Begin();
  EXPECT_EQ(ReadErrno(0, 1), store::kBlockInvalid);
  EXPECT_EQ(ReadErrno(3, 20), store::kBlockInvalid);
  EXPECT_EQ(ReadErrno(3, 5), 0);
  EXPECT_EQ(StatusToErrno(target_->Extents(kVolume, {0, 8}).status()), store::kBlockInvalid);
  EXPECT_TRUE(target_->Extents(kVolume, {3, 13}).ok());
  EXPECT_EQ(DataOf(target_.get(), 16), BlockOf(116));
}

TEST_P(JoinRulesTest, ALiveWriteGoesOnAndNeverClearsAMark) {
  Begin();
  WriteBoth(writer_.Data(0, 2, 300));
  EXPECT_EQ(TargetLane().invalid_blocks, 5u);
  EXPECT_EQ(ReadErrno(0, 1), store::kBlockInvalid);
  WriteOp old = writer_.Data(0, 1, 1);
  old.position = Position(1, 5);
  EXPECT_EQ(StatusToErrno(WriteOne(target_.get(), kVolume, old).status), ESTALE);
}

TEST_P(JoinRulesTest, CopiedBlocksAreTheSourcesAndLiveWritesStayAbove) {
  Begin();
  WriteBoth(writer_.Data(1, 2, 301));
  auto copied = CopyAll(source_.get(), target_.get(), kVolume);
  ASSERT_TRUE(copied.ok()) << copied.status();
  EXPECT_EQ(TargetLane().invalid_blocks, 0u);
  ExpectSame();
  EXPECT_EQ(DataOf(target_.get(), 0), BlockOf(200));
  EXPECT_EQ(DataOf(target_.get(), 1), BlockOf(301));
  EXPECT_EQ(DataOf(target_.get(), 17), std::string(kBlockBytes, '\0')) << "cut off";
  EXPECT_EQ(target_->GetSpaceUsed(kVolume)->live_bytes,
            source_->GetSpaceUsed(kVolume)->live_bytes);
}

TEST_P(JoinRulesTest, ADiscardDuringTheJoinHidesWhatIsCopiedAfterIt) {
  Begin();
  // The target has nothing of block 20, so it reads as zeros there already.
  WriteBoth(writer_.Zeroes(WriteKind::kDiscard, 20, 1));
  ASSERT_TRUE(CopyAll(source_.get(), target_.get(), kVolume).ok());
  EXPECT_EQ(DataOf(target_.get(), 20), std::string(kBlockBytes, '\0'));
  ExpectSame();
}

TEST_P(JoinRulesTest, ACopyTwiceIsOnceAndOfAnotherJoinIsAborted) {
  Begin();
  const CopyPart part = Copy({{0, 3}, {20, 1}});
  ASSERT_OK(target_->CopyIn(kVolume, part));
  EXPECT_EQ(Invalid(), (Ranges{{17, 1}}));
  WriteBoth(writer_.Data(0, 1, 300));
  EXPECT_OK(target_->CopyIn(kVolume, part));
  EXPECT_EQ(DataOf(target_.get(), 0), BlockOf(300));
  CopyPart other = part;
  other.join_id = 9;
  EXPECT_TRUE(absl::IsAborted(target_->CopyIn(kVolume, other)));
  other = part;
  other.to = Position(2, 2);
  EXPECT_TRUE(absl::IsAborted(target_->CopyIn(kVolume, other)));
  ASSERT_OK(target_->CopyIn(kVolume, Copy({{17, 1}})));
  ASSERT_OK(target_->FinishJoin(kVolume, 1));
  EXPECT_TRUE(absl::IsAborted(target_->CopyIn(kVolume, part)));
}

TEST_P(JoinRulesTest, ADamagedOrForeignCopyChangesNothing) {
  Begin();
  const CopyPart good = Copy({{0, 3}});
  CopyPart bad = good;
  bad.versions[0].data[100] ^= 1;
  EXPECT_EQ(StatusToErrno(target_->CopyIn(kVolume, bad)), EBADMSG);
  bad = good;
  bad.versions[0].position = Position(2, 4);  // above R
  EXPECT_TRUE(absl::IsInvalidArgument(target_->CopyIn(kVolume, bad)));
  bad = good;
  bad.ranges = {{1, 2}};  // block 0 is not among them
  EXPECT_TRUE(absl::IsInvalidArgument(target_->CopyIn(kVolume, bad)));
  EXPECT_EQ(TargetLane().invalid_blocks, 5u);
  ASSERT_OK(target_->CopyIn(kVolume, good));
  EXPECT_EQ(TargetLane().invalid_blocks, 2u);
}

TEST_P(JoinRulesTest, EverythingIsCopiedInAscendingOrder) {
  Begin(1, /*everything=*/true);
  EXPECT_EQ(TargetLane().invalid_blocks, kLaneBlocks);
  EXPECT_EQ(ReadErrno(200, 1), store::kBlockInvalid);
  EXPECT_TRUE(absl::IsFailedPrecondition(target_->CopyIn(kVolume, Copy({{16, 8}}))));
  ASSERT_OK(target_->CopyIn(kVolume, Copy({{0, 4}})));
  EXPECT_EQ(TargetLane().invalid_blocks, kLaneBlocks - 4);
  EXPECT_EQ(ReadErrno(0, 4), 0);
  EXPECT_EQ(ReadErrno(4, 1), store::kBlockInvalid);
  // Blocks 8 to 15 are of the other lane.
  ASSERT_OK(target_->CopyIn(kVolume, Copy({{4, 4}, {16, 8}})));
  // All the rest is empty: one range, however large.
  const CopyPart rest = Copy({{24, 232}}, /*bytes_max=*/1);
  EXPECT_EQ(rest.ranges, (Ranges{{24, 232}}));
  EXPECT_TRUE(rest.versions.empty());
  ASSERT_OK(target_->CopyIn(kVolume, rest));
  EXPECT_EQ(TargetLane().invalid_blocks, 0u);
  ASSERT_TRUE(CopyAll(source_.get(), target_.get(), kVolume).ok());
  ExpectSame();
}

TEST_P(JoinRulesTest, AfterCopyingEverythingChangesAreKnownFromThereOn) {
  Begin(1, /*everything=*/true);
  ASSERT_TRUE(CopyAll(source_.get(), target_.get(), kVolume).ok());
  WriteBoth(writer_.Data(5, 1, 300));
  const auto changes = [this](Position from) {
    return target_->ReadChanges(kVolume, kLane, from, Position(2, 4));
  };
  EXPECT_TRUE(absl::IsOutOfRange(changes(Position(2, 2)).status()));
  EXPECT_TRUE(absl::IsOutOfRange(changes(Position(1, 2)).status()));
  EXPECT_EQ(*changes(Position(2, 3)), (Ranges{{5, 1}}));
}

TEST_P(JoinRulesTest, AfterADeltaTheTargetKnowsTheSourcesChangesAndNotItsOwn) {
  Begin();
  ASSERT_TRUE(CopyAll(source_.get(), target_.get(), kVolume).ok());
  const auto changes = [this](Position from, Position to) {
    return target_->ReadChanges(kVolume, kLane, from, to);
  };
  EXPECT_EQ(*changes(Position(1, 1), Position(1, 2)), (Ranges{{16, 1}}));
  EXPECT_EQ(*changes(Position(1, 2), Position(2, 3)), (Ranges{{0, 1}, {2, 1}, {20, 1}}));
  // It cannot tell which of them came when, so it tells them all.
  EXPECT_EQ(*changes(Position(2, 1), Position(2, 2)), (Ranges{{0, 1}, {2, 1}, {20, 1}}));
  EXPECT_EQ(*changes(Position(2, 3), Position(2, 3)), Ranges());
}

TEST_P(JoinRulesTest, WhatWasInvalidBeforeStaysInvalidInTheNextJoin) {
  Begin(1, /*everything=*/true);
  ASSERT_OK(target_->CopyIn(kVolume, Copy({{0, 8}, {16, 8}})));
  WriteBoth(writer_.Data(16, 1, 300));
  WriteSource(writer_.Data(3, 1, 303));
  const JoinLane again = Plan(2);
  EXPECT_FALSE(again.everything);
  EXPECT_EQ(again.common, Position(2, 4));
  ASSERT_OK(target_->BeginJoin(kVolume, again));
  EXPECT_EQ(Invalid()[0], (BlockRange{3, 1}));
  EXPECT_EQ(TargetLane().invalid_blocks, 1 + kLaneBlocks - 16);
  ASSERT_OK(target_->CopyIn(kVolume, Copy({{3, 1}, {24, 232}})));
  EXPECT_EQ(TargetLane().invalid_blocks, 0u);
  EXPECT_EQ(DataOf(target_.get(), 3), BlockOf(303));
  EXPECT_EQ(DataOf(target_.get(), 16), BlockOf(300));

  // And so do marks of a delta.
  WriteSource(writer_.Data(4, 2, 304));
  ASSERT_OK(target_->BeginJoin(kVolume, Plan(3)));
  WriteSource(writer_.Data(5, 2, 315));
  ASSERT_OK(target_->BeginJoin(kVolume, Plan(4)));
  EXPECT_EQ(Invalid(), (Ranges{{4, 3}}));
}

TEST_P(JoinRulesTest, ALaneWithInvalidBlocksIsNoSourceAndTakesNoTailAndNoBase) {
  Begin();
  const Ranges first = {{0, 1}};
  EXPECT_TRUE(absl::IsFailedPrecondition(
      target_->ReadVersions(kVolume, kLane, first, Position(1, 1), 4096).status()));
  EXPECT_TRUE(absl::IsFailedPrecondition(
      target_->ReadTail(kVolume, kLane, Position(2, 3), Position(2, 3)).status()));
  store::Tail tail{.lane = kLane, .from = Position(2, 3), .to = Position(2, 3)};
  EXPECT_TRUE(absl::IsFailedPrecondition(target_->AdoptTail(kVolume, tail)));
  EXPECT_OK(target_->Promise(kVolume, 3));
  Writer next(kVolume, kGeometry);
  EXPECT_TRUE(absl::IsFailedPrecondition(next.Attach(target_.get(), 3)));
  EXPECT_EQ(TargetLane().position, Position(2, 3));
}

TEST_P(JoinRulesTest, InvalidBlocksComeInPages) {
  Begin(1, /*everything=*/true);
  ASSERT_OK(target_->CopyIn(kVolume, Copy({{0, 8}, {16, 8}})));
  WriteSource(writer_.Data(1, 2, 300));
  WriteSource(writer_.Data(4, 1, 300));
  WriteSource(writer_.Data(20, 1, 300));
  ASSERT_OK(target_->BeginJoin(kVolume, Plan(2)));
  auto page = target_->InvalidBlocks(kVolume, kLane, 0, 2);
  ASSERT_TRUE(page.ok());
  EXPECT_EQ(page->ranges, (Ranges{{1, 2}, {4, 1}}));
  EXPECT_EQ(page->next_block, 20u);
  EXPECT_EQ(page->join_id, 2u);
  EXPECT_EQ(page->to, Position(2, 6));
  EXPECT_EQ(page->invalid_blocks, 4 + kLaneBlocks - 16);
  page = target_->InvalidBlocks(kVolume, kLane, page->next_block, 1);
  EXPECT_EQ(page->ranges, (Ranges{{20, 1}}));
  EXPECT_GT(page->next_block, 20u);
  EXPECT_LE(page->next_block, 32u);
  page = target_->InvalidBlocks(kVolume, kLane, page->next_block, 1000);
  EXPECT_EQ(page->next_block, kGeometry.size_blocks);
  EXPECT_GE(page->ranges.back().end(), kGeometry.size_blocks - 8) << "the last ones are of lane 1";
  EXPECT_EQ(Invalid(2, 1), (Ranges{{2, 1}})) << "from within a range";
}

TEST_P(JoinRulesTest, FinishingNeedsEveryBlockAndItsOwnJoin) {
  EXPECT_OK(target_->FinishJoin(kVolume, 1)) << "there is none";
  Begin();
  EXPECT_TRUE(absl::IsFailedPrecondition(target_->FinishJoin(kVolume, 1)));
  ASSERT_TRUE(CopyAll(source_.get(), target_.get(), kVolume).ok());
  EXPECT_TRUE(absl::IsAborted(target_->FinishJoin(kVolume, 2)));
  EXPECT_EQ(TargetLane().join_id, 1u);
  EXPECT_OK(target_->FinishJoin(kVolume, 1));
  EXPECT_OK(target_->FinishJoin(kVolume, 1));
  EXPECT_EQ(TargetLane().join_id, 0u);
  EXPECT_TRUE(absl::IsNotFound(target_->FinishJoin(VolumeId{5}, 1)));
}

TEST_P(JoinRulesTest, ASourceTellsAllVersionsUpToAPointAndWhichBlocksHaveNone) {
  WriteSource(writer_.Data(0, 1, 300));
  const Ranges wanted = {{0, 4}, {16, 100}};
  auto read = source_->ReadVersions(kVolume, kLane, wanted, Position(2, 3), 1 << 20);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->ranges, wanted);
  EXPECT_EQ(read->position, Position(2, 4));
  std::vector<std::pair<uint64_t, Position>> got;
  for (const BlockVersion& version : read->versions) {
    got.emplace_back(version.block, version.position);
    EXPECT_EQ(version.zero, version.data.empty());
  }
  EXPECT_EQ(got, (std::vector<std::pair<uint64_t, Position>>{{0, Position(2, 1)},
                                                             {0, Position(1, 1)},
                                                             {1, Position(1, 1)},
                                                             {2, Position(2, 2)},
                                                             {2, Position(1, 1)},
                                                             {3, Position(1, 1)},
                                                             {16, Position(1, 2)},
                                                             {20, Position(2, 3)}}));
  EXPECT_TRUE(read->versions[3].zero);
  // As much as was asked for, in whole blocks; the next call goes on behind.
  read = source_->ReadVersions(kVolume, kLane, wanted, Position(2, 3), 8192);
  EXPECT_EQ(read->ranges, (Ranges{{0, 1}}));
  read = source_->ReadVersions(kVolume, kLane, wanted, Position(2, 3), 1);
  EXPECT_EQ(read->ranges, (Ranges{{0, 1}}));
  EXPECT_TRUE(absl::IsFailedPrecondition(
      source_->ReadVersions(kVolume, kLane, wanted, Position(2, 5), 1).status()));
}

TEST_P(JoinRulesTest, ACopyBringsAllVersionsAndNotTheNewestAlone) {
  WriteSource(writer_.Data(0, 1, 250));  // the second one that the target has missed
  Begin(1, /*everything=*/true);
  ASSERT_TRUE(CopyAll(source_.get(), target_.get(), kVolume).ok());
  const Ranges all = {{0, kGeometry.size_blocks}};
  const auto versions = [&](Store* store) {
    std::vector<std::tuple<uint64_t, Position, bool, std::string>> got;
    auto read = store->ReadVersions(kVolume, kLane, all, Position(2, 4), 1 << 20);
    EXPECT_TRUE(read.ok()) << read.status();
    for (const BlockVersion& version : read->versions) {
      got.emplace_back(version.block, version.position, version.zero, version.data);
    }
    return got;
  };
  EXPECT_EQ(versions(source_.get()).size(), 13u);
  EXPECT_TRUE(versions(target_.get()) == versions(source_.get()));
}

TEST_P(JoinRulesTest, AJoinedLaneIsASourceOfTailsAndOfJoins) {
  Begin();
  ASSERT_TRUE(CopyAll(source_.get(), target_.get(), kVolume).ok());
  ASSERT_OK(target_->FinishJoin(kVolume, 1));
  WriteTarget(writer_.Data(6, 1, 300));
  TempDir third_dir;
  std::unique_ptr<Store> third = GetParam().make(third_dir);
  Writer same(kVolume, kGeometry);
  ASSERT_OK(same.Attach(third.get(), 1));
  ASSERT_OK(WriteOne(third.get(), kVolume, same.Data(0, 8, 100)).status);
  ASSERT_OK(WriteOne(third.get(), kVolume, same.Data(16, 1, 116)).status);
  auto tail = target_->ReadTail(kVolume, kLane, Position(1, 2), Position(2, 4));
  ASSERT_TRUE(tail.ok()) << tail.status();
  ASSERT_OK(third->AdoptTail(kVolume, *tail));
  for (uint64_t block : {0, 1, 2, 3, 6, 16, 17, 20}) {
    EXPECT_EQ(DataOf(third.get(), block), DataOf(target_.get(), block)) << block;
  }
  EXPECT_EQ(*third->ReadChanges(kVolume, kLane, Position(2, 1), Position(2, 4)),
            (Ranges{{0, 1}, {2, 1}, {6, 1}, {20, 1}}));
  // A new store from nothing.
  TempDir fourth_dir;
  std::unique_ptr<Store> fourth = GetParam().make(fourth_dir);
  ASSERT_OK(fourth->CreateVolume(kVolume, kGeometry));
  ASSERT_OK(fourth->Promise(kVolume, 2));
  ASSERT_OK(BeginJoin(target_.get(), fourth.get(), kVolume, 5));
  ASSERT_TRUE(CopyAll(target_.get(), fourth.get(), kVolume).ok());
  ASSERT_OK(fourth->FinishJoin(kVolume, 5));
  for (uint64_t block = 0; block < 24; ++block) {
    EXPECT_EQ(DataOf(fourth.get(), block), DataOf(target_.get(), block)) << block;
  }
}

INSTANTIATE_TEST_SUITE_P(
    , JoinRulesTest,
    ::testing::Values(Stores{"Disk", MakeDisk},
                      Stores{"Fake",
                             [](const TempDir&) { return std::make_unique<FakeStore>(2); }}),
    [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace weir::replica
