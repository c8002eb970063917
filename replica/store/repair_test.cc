// Blocks that a store has damaged are found by their digests, written anew from another one, and stay so.
#include <algorithm>
#include <cerrno>
#include <memory>
#include <set>
#include <vector>

#include "absl/strings/match.h"
#include "gtest/gtest.h"
#include "proto/base/errno.h"
#include "replica/store/store.h"
#include "replica/store/testing/join_steps.h"
#include "replica/store/testing/machine.h"
#include "replica/store/testing/temp_store.h"

namespace weir::store {
namespace {

using testing::FaultFs;
using testing::Machine;
using testing::WriteOne;
using testing::Writer;

constexpr VolumeId kVolume{7};
constexpr LaneId kLane{0};
constexpr VolumeGeometry kGeometry{.size_blocks = 64, .lanes = {.lanes = 1, .stripe_blocks = 8}};

class RepairTest : public ::testing::Test {
 protected:
  // Two stores with the same blocks; those of the second lie in files, and may be damaged there.
  void SetUp() override {
    Open(&good_, std::make_shared<FaultFs>());
    Open(&bad_, std::make_shared<FaultFs>());
    Writer same(kVolume, kGeometry);
    ASSERT_TRUE(writer_.Attach(good(), 1).ok());
    ASSERT_TRUE(same.Attach(bad(), 1).ok());
    for (uint64_t block = 0; block < kGeometry.size_blocks; block += 2) {
      WriteBoth(writer_.Data(block, 2, block));
    }
    WriteBoth(writer_.Zeroes(WriteKind::kWriteZeroes, 5, 1));
  }
  static void Open(std::unique_ptr<Machine>* machine, std::shared_ptr<FaultFs> disk) {
    *machine = std::make_unique<Machine>(std::move(disk));
    (*machine)->OpenFaster();
    ASSERT_TRUE((*machine)->Open(1).ok());
  }
  Store* good() { return good_->store.get(); }
  Store* bad() { return bad_->store.get(); }
  void WriteBoth(const WriteOp& op) {
    ASSERT_TRUE(WriteOne(good(), kVolume, op).status.ok());
    ASSERT_TRUE(WriteOne(bad(), kVolume, op).status.ok());
  }
  // As a kill leaves it. What was in the log lies in tables and blobs then.
  void RestartBad() { Open(&bad_, bad_->fs->AfterKill()); }
  // Flips a bit in the middle of each file of data.
  int FlipBits() {
    int flipped = 0;
    const std::shared_ptr<FaultFs> disk = bad_->fs->AfterKill();
    for (const std::string& path : disk->Files()) {
      if (!absl::EndsWith(path, ".blob")) continue;
      std::string content = disk->Content(path);
      content[content.size() / 2] ^= 1;
      disk->SetContent(path, content);
      ++flipped;
    }
    Open(&bad_, disk);
    return flipped;
  }
  std::vector<BlockRange> Damaged() {
    std::vector<BlockRange> damaged;
    for (uint64_t block = 0; block < kGeometry.size_blocks; ++block) {
      const absl::StatusOr<ReadResult> read = bad()->Read(kVolume, {block, 1});
      if (read.ok()) continue;
      EXPECT_EQ(StatusToErrno(read.status()), EBADMSG) << read.status();
      damaged.push_back({block, 1});
    }
    return damaged;
  }
  Position position() { return good()->GetVolume(kVolume)->lanes[0].position; }
  CopyPart PartOf(const std::vector<BlockRange>& ranges, Position to) {
    const auto read = good()->ReadVersions(kVolume, kLane, ranges, to, 1 << 20);
    EXPECT_TRUE(read.ok()) << read.status();
    return {.lane = kLane, .to = to, .ranges = read->ranges, .versions = read->versions};
  }
  void ExpectEqual() {
    for (uint64_t block = 0; block < kGeometry.size_blocks; ++block) {
      const auto want = good()->Read(kVolume, {block, 1});
      const auto got = bad()->Read(kVolume, {block, 1});
      ASSERT_TRUE(got.ok()) << got.status();
      EXPECT_EQ(got->data, want->data) << block;
      EXPECT_EQ(got->newest, want->newest) << block;
    }
  }

  Writer writer_{kVolume, kGeometry};
  std::unique_ptr<Machine> good_, bad_;
};

TEST_F(RepairTest, ADamagedBlockIsWrittenAnewAndStaysSo) {
  RestartBad();
  ASSERT_GT(FlipBits(), 0);
  const std::vector<BlockRange> damaged = Damaged();
  ASSERT_FALSE(damaged.empty());
  ASSERT_TRUE(bad()->Repair(kVolume, PartOf(damaged, position())).ok());
  ExpectEqual();
  ASSERT_TRUE(bad()->Flush(kVolume, 0).ok());
  RestartBad();
  ExpectEqual();
}

// A joiner for the sake of which nobody has a block well: it is brought back without that, and with all else.
class LostTest : public RepairTest {
 protected:
  void SetUp() override {
    RepairTest::SetUp();
    RestartBad();
    ASSERT_GT(FlipBits(), 0);
    for (const BlockRange& range : Damaged()) damaged_.insert(range.first);
    ASSERT_FALSE(damaged_.empty());
    ASSERT_LT(damaged_.size(), kGeometry.size_blocks / 2);
    Open(&joiner_, std::make_shared<FaultFs>());
    Writer same(kVolume, kGeometry);
    ASSERT_TRUE(same.Attach(joiner(), 1).ok());
    ASSERT_TRUE(testing::BeginJoin(bad(), joiner(), kVolume, 1, /*everything=*/true).ok());
  }
  Store* joiner() { return joiner_->store.get(); }
  void CopyAll() {
    const auto read = bad()->ReadVersions(kVolume, kLane, all_, position(), 1 << 20, Damaged::kAsLost);
    ASSERT_TRUE(read.ok()) << read.status();
    const CopyPart part{.lane = kLane, .join_id = 1, .to = position(), .ranges = read->ranges, .versions = read->versions};
    ASSERT_TRUE(joiner()->CopyIn(kVolume, part).ok());
    ASSERT_TRUE(joiner()->FinishJoin(kVolume, 1).ok());
  }
  void ExpectAllElse() {
    for (uint64_t block = 0; block < kGeometry.size_blocks; ++block) {
      const auto got = joiner()->Read(kVolume, {block, 1});
      if (damaged_.contains(block)) {
        EXPECT_EQ(StatusToErrno(got.status()), EBADMSG) << block;
        continue;
      }
      ASSERT_TRUE(got.ok()) << block << " " << got.status();
      EXPECT_EQ(got->data, good()->Read(kVolume, {block, 1})->data) << block;
    }
  }

  const std::vector<BlockRange> all_ = {{0, kGeometry.size_blocks}};
  std::set<uint64_t> damaged_;
  std::unique_ptr<Machine> joiner_;
};

TEST_F(LostTest, IsRefusedUnlessAskedFor) {
  EXPECT_EQ(StatusToErrno(bad()->ReadVersions(kVolume, kLane, all_, position(), 1 << 20).status()), EBADMSG);
}

TEST_F(LostTest, IsReadByNobodyAndAllElseIsThere) {
  CopyAll();
  ExpectAllElse();
  ASSERT_TRUE(joiner()->Flush(kVolume, 0).ok());
  Open(&joiner_, joiner_->fs->AfterKill());
  ExpectAllElse();
  const auto digests = joiner()->Digests(kVolume, kLane, all_[0], position(), 1 << 20);
  ASSERT_TRUE(digests.ok()) << digests.status();
  std::set<uint64_t> found;
  for (const BlockDigest& digest : digests->blocks) {
    if (digest.kind == BlockDigest::Kind::kDamaged) found.insert(digest.block);
  }
  EXPECT_EQ(found, damaged_);
}

TEST_F(LostTest, IsThereAgainOnceItIsWrittenOrRepaired) {
  CopyAll();
  const uint64_t written = *damaged_.begin();
  const WriteOp op = writer_.Data(written, 1, 1000);
  ASSERT_TRUE(WriteOne(good(), kVolume, op).status.ok());
  ASSERT_TRUE(WriteOne(joiner(), kVolume, op).status.ok());
  damaged_.erase(written);
  ExpectAllElse();
  ASSERT_TRUE(joiner()->Repair(kVolume, PartOf(all_, position())).ok());
  damaged_.clear();
  ExpectAllElse();
}

// Whoever is asked for a pin shows what it has, or that it cannot be read; nothing older for it.
TEST_F(RepairTest, WhatIsLostOfAPinIsReadByNobody) {
  const Pin pin{.id = 9, .positions = {position()}};
  const VolumeUpdate update{.version = uint64_t{1} << 32, .size_blocks = kGeometry.size_blocks, .pins = {pin}};
  ASSERT_TRUE(good()->UpdateVolume(kVolume, update).ok());
  ASSERT_TRUE(bad()->UpdateVolume(kVolume, update).ok());
  for (uint64_t block = 0; block < kGeometry.size_blocks; block += 4) WriteBoth(writer_.Data(block, 2, 500 + block));
  RestartBad();
  ASSERT_GT(FlipBits(), 0);
  std::unique_ptr<Machine> other;
  Open(&other, std::make_shared<FaultFs>());
  Store& joiner = *other->store;
  Writer same(kVolume, kGeometry);
  ASSERT_TRUE(same.Attach(&joiner, 1).ok());
  ASSERT_TRUE(joiner.UpdateVolume(kVolume, update).ok());
  ASSERT_TRUE(testing::BeginJoin(bad(), &joiner, kVolume, 1, /*everything=*/true).ok());
  const std::vector<BlockRange> all = {{0, kGeometry.size_blocks}};
  const auto read = bad()->ReadVersions(kVolume, kLane, all, position(), 1 << 20, store::Damaged::kAsLost);
  ASSERT_TRUE(read.ok()) << read.status();
  ASSERT_TRUE(joiner.CopyIn(kVolume, {.lane = kLane, .join_id = 1, .to = position(), .ranges = read->ranges,
                                      .versions = read->versions}).ok());
  ASSERT_TRUE(joiner.FinishJoin(kVolume, 1).ok());
  int lost = 0;
  for (uint64_t block = 0; block < kGeometry.size_blocks; ++block) {
    const auto then = joiner.ReadPinned(kVolume, pin.id, {block, 1});
    const auto now = joiner.Read(kVolume, {block, 1});
    lost += (then.ok() ? 0 : 1) + (now.ok() ? 0 : 1);
    const auto was = good()->ReadPinned(kVolume, pin.id, {block, 1});
    ASSERT_TRUE(was.ok());
    if (then.ok()) {
      ASSERT_EQ(then->size(), was->size()) << block;
      if (!was->empty()) EXPECT_EQ((*then)[0].data, (*was)[0].data) << block;
    }
    if (now.ok()) EXPECT_EQ(now->data, good()->Read(kVolume, {block, 1})->data) << block;
  }
  EXPECT_GT(lost, 0);
  EXPECT_LT(lost, 32);
}

// Nor is what a joiner has of it itself hidden: what is lost is lost at its own position.
TEST_F(RepairTest, WhoHasWhatIsLostOfAPinKeepsIt) {
  const Pin pin{.id = 9, .positions = {position()}};
  const VolumeUpdate update{.version = uint64_t{1} << 32, .size_blocks = kGeometry.size_blocks, .pins = {pin}};
  ASSERT_TRUE(good()->UpdateVolume(kVolume, update).ok());
  ASSERT_TRUE(bad()->UpdateVolume(kVolume, update).ok());
  for (uint64_t block = 0; block < kGeometry.size_blocks; block += 4) WriteBoth(writer_.Data(block, 2, 500 + block));
  WriteBoth(writer_.Zeroes(WriteKind::kWriteZeroes, 9, 1));
  std::vector<std::string> was, is;
  const auto look = [this, &pin](std::vector<std::string>* seen) {
    for (uint64_t block = 0; block < kGeometry.size_blocks; ++block) {
      const auto now = good()->Read(kVolume, {block, 1});
      const auto then = good()->ReadPinned(kVolume, pin.id, {block, 1});
      ASSERT_TRUE(now.ok() && then.ok()) << block << " " << now.status() << " " << then.status();
      seen->push_back(now->data);
      seen->push_back(then->empty() ? "" : (*then)[0].data);
    }
  };
  look(&was);
  RestartBad();
  ASSERT_GT(FlipBits(), 0);
  ASSERT_FALSE(Damaged().empty());
  ASSERT_TRUE(testing::BeginJoin(bad(), good(), kVolume, 2, /*everything=*/true).ok());
  const std::vector<BlockRange> all = {{0, kGeometry.size_blocks}};
  const auto read = bad()->ReadVersions(kVolume, kLane, all, position(), 1 << 20, store::Damaged::kAsLost);
  ASSERT_TRUE(read.ok()) << read.status();
  int lost = 0;
  for (const BlockVersion& version : read->versions) lost += version.lost && version.position <= pin.positions[0] ? 1 : 0;
  EXPECT_GT(lost, 0);
  ASSERT_TRUE(good()->CopyIn(kVolume, {.lane = kLane, .join_id = 2, .to = position(), .ranges = read->ranges,
                                       .versions = read->versions}).ok());
  ASSERT_TRUE(good()->FinishJoin(kVolume, 2).ok());
  look(&is);
  EXPECT_EQ(is, was);
}

TEST_F(LostTest, IsLeftAsItIsByARepair) {
  const std::string was = good()->Read(kVolume, {0, 1})->data;
  const CopyPart lost{.lane = kLane, .to = position(), .ranges = {{0, 1}},
                      .versions = {{.block = 0, .position = position(), .crc = 0, .data = "", .lost = true}}};
  EXPECT_TRUE(good()->Repair(kVolume, lost).ok());
  EXPECT_EQ(good()->Read(kVolume, {0, 1})->data, was);
}

// Whoever has it well keeps it when it is brought back from one that has not.
TEST_F(LostTest, IsNotLostToWhoHasIt) {
  ASSERT_TRUE(good()->Promise(kVolume, 1).ok());
  ASSERT_TRUE(testing::BeginJoin(bad(), good(), kVolume, 2, /*everything=*/true).ok());
  const auto read = bad()->ReadVersions(kVolume, kLane, all_, position(), 1 << 20, Damaged::kAsLost);
  ASSERT_TRUE(read.ok()) << read.status();
  ASSERT_TRUE(good()->CopyIn(kVolume, {.lane = kLane, .join_id = 2, .to = position(), .ranges = read->ranges,
                                       .versions = read->versions}).ok());
  ASSERT_TRUE(good()->FinishJoin(kVolume, 2).ok());
  for (uint64_t block = 0; block < kGeometry.size_blocks; ++block) {
    EXPECT_TRUE(good()->Read(kVolume, {block, 1}).ok()) << block;
  }
}

TEST_F(RepairTest, WritesSinceStay) {
  RestartBad();
  ASSERT_GT(FlipBits(), 0);
  const std::vector<BlockRange> damaged = Damaged();
  ASSERT_FALSE(damaged.empty());
  const CopyPart part = PartOf(damaged, position());
  WriteBoth(writer_.Data(damaged[0].first, 1, 1000));
  ASSERT_TRUE(bad()->Repair(kVolume, part).ok());
  ExpectEqual();
}

TEST_F(RepairTest, OfBlocksThatAreWellNothingChanges) {
  const CopyPart all = PartOf({{0, kGeometry.size_blocks}}, position());
  ASSERT_TRUE(bad()->Repair(kVolume, all).ok());
  ASSERT_TRUE(bad()->Repair(kVolume, all).ok());
  ExpectEqual();
}

TEST_F(RepairTest, WhatDoesNotFitIsRefusedAndChangesNothing) {
  const CopyPart good_part = PartOf({{0, 2}}, position());
  CopyPart part = good_part;
  part.to = position().Next();
  EXPECT_TRUE(absl::IsFailedPrecondition(bad()->Repair(kVolume, part)));
  part = good_part;
  part.versions[0].data[0] ^= 1;
  EXPECT_EQ(StatusToErrno(bad()->Repair(kVolume, part)), EBADMSG);
  part = good_part;
  part.versions[0].position = position().Next();
  EXPECT_TRUE(absl::IsInvalidArgument(bad()->Repair(kVolume, part)));
  part = good_part;
  part.ranges = {{0, kGeometry.size_blocks + 1}};
  EXPECT_TRUE(absl::IsInvalidArgument(bad()->Repair(kVolume, part)));
  // A lane that joins gets what it lacks by that.
  ASSERT_TRUE(bad()->BeginJoin(kVolume, {.lane = kLane, .join_id = 1, .expected = position(),
                                         .to = position(), .common = position(),
                                         .invalid = {{1, 1}}}).ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(bad()->Repair(kVolume, good_part)));
}

TEST_F(RepairTest, AJoinThatHasNothingLeftToCopyIsInNobodysWay) {
  RestartBad();
  ASSERT_GT(FlipBits(), 0);
  const std::vector<BlockRange> damaged = Damaged();
  ASSERT_FALSE(damaged.empty());
  ASSERT_TRUE(bad()->BeginJoin(kVolume, {.lane = kLane, .join_id = 1, .expected = position(),
                                         .to = position(), .common = position()}).ok());
  const absl::Status repaired = bad()->Repair(kVolume, PartOf(damaged, position()));
  EXPECT_TRUE(repaired.ok()) << repaired;
  EXPECT_TRUE(Damaged().empty());
}

// What was never acknowledged goes whether it can be read or not, or who had it could not come in again.
TEST_F(RepairTest, WhatACopyDeletesMayBeDamaged) {
  RestartBad();
  // Two of each, so that what lies below one that is damaged is looked at too.
  for (int i = 0; i < 2; ++i) {
    for (uint64_t block = 0; block < kGeometry.size_blocks; block += 8) {
      ASSERT_TRUE(WriteOne(bad(), kVolume, writer_.Data(block, 8, 1000 + block)).status.ok());
    }
  }
  RestartBad();
  ASSERT_GT(FlipBits(), 0);
  const std::vector<BlockRange> damaged = Damaged();
  ASSERT_FALSE(damaged.empty());
  Writer next(kVolume, kGeometry);
  ASSERT_TRUE(next.Attach(good(), 2).ok());
  ASSERT_TRUE(bad()->Promise(kVolume, 2).ok());
  ASSERT_TRUE(testing::BeginJoin(good(), bad(), kVolume, 1).ok());
  const absl::StatusOr<uint64_t> copied = testing::CopyAll(good(), bad(), kVolume);
  ASSERT_TRUE(copied.ok()) << copied.status();
  ASSERT_TRUE(bad()->FinishJoin(kVolume, 1).ok());
  ExpectEqual();
  RestartBad();
  ExpectEqual();
}

using Kind = BlockDigest::Kind;

class DigestTest : public RepairTest {
 protected:
  BlockDigests DigestsOf(Store* store, BlockRange range = {0, kGeometry.size_blocks},
                         uint64_t bytes_max = 1 << 20) {
    const auto digests = store->Digests(kVolume, kLane, range, position(), bytes_max);
    EXPECT_TRUE(digests.ok()) << digests.status();
    return digests.value_or(BlockDigests());
  }
};

TEST_F(DigestTest, EqualStoresHaveEqualDigests) {
  const BlockDigests digests = DigestsOf(good());
  EXPECT_EQ(digests.next_block, kGeometry.size_blocks);
  ASSERT_EQ(digests.blocks.size(), kGeometry.size_blocks);
  EXPECT_EQ(digests.blocks[4].kind, Kind::kData);
  EXPECT_EQ(digests.blocks[5].kind, Kind::kZeroes);
  EXPECT_EQ(digests.blocks[5].position, position());
  EXPECT_EQ(DigestsOf(bad()).blocks, digests.blocks);
  RestartBad();
  EXPECT_EQ(DigestsOf(bad()).blocks, digests.blocks);
}

TEST_F(DigestTest, FindsWhatAReadWouldFindDamaged) {
  RestartBad();
  ASSERT_GT(FlipBits(), 0);
  std::vector<BlockRange> damaged;
  for (const BlockDigest& digest : DigestsOf(bad()).blocks) {
    if (digest.kind == Kind::kDamaged) damaged.push_back({digest.block, 1});
  }
  EXPECT_FALSE(damaged.empty());
  EXPECT_EQ(damaged, Damaged());
  ASSERT_TRUE(bad()->Repair(kVolume, PartOf(damaged, position())).ok());
  EXPECT_EQ(DigestsOf(bad()).blocks, DigestsOf(good()).blocks);
}

TEST_F(DigestTest, WhatWasWrittenSinceIsNewerAndNothingElse) {
  const Position before = position();
  WriteBoth(writer_.Data(7, 1, 1000));
  const auto digests = good()->Digests(kVolume, kLane, {6, 3}, before, 1 << 20);
  ASSERT_TRUE(digests.ok()) << digests.status();
  ASSERT_EQ(digests->blocks.size(), 3u);
  EXPECT_EQ(digests->blocks[0].kind, Kind::kData);
  EXPECT_EQ(digests->blocks[1].kind, Kind::kNewer);
  EXPECT_EQ(digests->blocks[2].kind, Kind::kData);
}

TEST_F(DigestTest, IsToldInPieces) {
  uint64_t next = 0;
  std::vector<BlockDigest> blocks;
  int pieces = 0;
  while (next < kGeometry.size_blocks) {
    const BlockDigests piece =
        DigestsOf(good(), {next, kGeometry.size_blocks - next}, 3 * kBlockBytes);
    ASSERT_GT(piece.next_block, next);
    EXPECT_LE(piece.bytes_read, 3 * kBlockBytes);
    blocks.insert(blocks.end(), piece.blocks.begin(), piece.blocks.end());
    next = piece.next_block;
    ++pieces;
  }
  EXPECT_GT(pieces, 20);
  EXPECT_EQ(blocks, DigestsOf(good()).blocks);
}

TEST_F(DigestTest, WhatItCannotVouchForIsRefused) {
  EXPECT_TRUE(absl::IsFailedPrecondition(
      good()->Digests(kVolume, kLane, {0, 1}, position().Next(), 4096).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(
      good()->Digests(kVolume, kLane, {0, kGeometry.size_blocks + 1}, position(), 4096).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(
      good()->Digests(kVolume, LaneId{1}, {0, 1}, position(), 4096).status()));
  ASSERT_TRUE(bad()->BeginJoin(kVolume, {.lane = kLane, .join_id = 1, .expected = position(),
                                         .to = position(), .common = position(),
                                         .invalid = {{1, 1}}}).ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(
      bad()->Digests(kVolume, kLane, {0, 1}, position(), 4096).status()));
}

}  // namespace
}  // namespace weir::store
