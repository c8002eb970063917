// Blocks that a store has damaged are written anew from another one, and stay so.
#include <algorithm>
#include <memory>
#include <vector>

#include "absl/strings/match.h"
#include "gtest/gtest.h"
#include "proto/base/errno.h"
#include "replica/store/store.h"
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

}  // namespace
}  // namespace weir::store
