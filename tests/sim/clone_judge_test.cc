// What the judge of clones has to reject, and what it may not.
#include "tests/sim/clone_judge.h"

#include <optional>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace weir::sim {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

constexpr uint64_t kSnapshot = kOfParent + 5;  // in block 0; block 1 is zeros there
constexpr uint64_t kLater = kOfParent + 9;
constexpr SessionId kFirst{1};

// A clone of four blocks, of a snapshot of two.
class CloneJudgeTest : public testing::Test {
 protected:
  CloneJudgeTest() : judge_({kSnapshot, 0}, 4), next_(judge_.first_op()) {
    judge_.clients().Activated(kFirst, /*resumed=*/false);
  }
  void Write(uint64_t block, uint64_t value, SessionId session = kFirst) {
    const OpId op{next_++};
    judge_.clients().WriteInvoked(op, session, {block, 1}, value, /*fua=*/false);
    judge_.clients().Returned(op, {.ok = true}, {});
  }
  void Flush() {
    const OpId op{next_++};
    judge_.clients().FlushInvoked(op, kFirst);
    judge_.clients().Returned(op, {.ok = true}, {});
  }
  void Read(uint64_t block, uint64_t value, SessionId session = kFirst) {
    const OpId op{next_++};
    judge_.clients().ReadInvoked(op, session, {block, 1});
    judge_.ReadReturned(op, {block, 1}, {value});
  }

  CloneJudge judge_;
  uint64_t next_;
};

TEST_F(CloneJudgeTest, ABlockIsAsInTheSnapshotUntilItIsWritten) {
  Read(0, kSnapshot);
  Read(1, 0);
  Read(3, 0);  // past the snapshot
  Write(0, 7);
  Read(0, 7);
  Write(1, 8);
  Read(1, 8);
  EXPECT_EQ(judge_.violation(), "");
}

TEST_F(CloneJudgeTest, WhatTheParentGotLaterIsNeverSeen) {
  Read(0, kLater);
  EXPECT_THAT(judge_.violation(), StartsWith("K1: block 0"));
}

TEST_F(CloneJudgeTest, NorWhereTheSnapshotHasZeros) {
  Read(1, kLater);
  EXPECT_THAT(judge_.violation(), StartsWith("K1: block 1"));
}

TEST_F(CloneJudgeTest, NorWhatIsOfAnotherBlockOfTheSnapshot) {
  Read(1, kSnapshot);
  EXPECT_THAT(judge_.violation(), StartsWith("K1: block 1"));
}

TEST_F(CloneJudgeTest, ABlockOfTheSnapshotDoesNotTurnToZeros) {
  Read(0, 0);
  EXPECT_NE(judge_.violation(), "");
}

// As one that copies what was written meanwhile, or loses what was copied.
TEST_F(CloneJudgeTest, TheSnapshotDoesNotComeBackOverAWrite) {
  Write(0, 7);
  Read(0, kSnapshot);
  EXPECT_NE(judge_.violation(), "");
}

TEST_F(CloneJudgeTest, NorThroughZeros) {
  Write(0, 0);
  Read(0, 0);
  EXPECT_EQ(judge_.violation(), "");
  Read(0, kSnapshot);
  EXPECT_NE(judge_.violation(), "");
}

TEST_F(CloneJudgeTest, ACrashMayTakeAWriteBackToTheSnapshotAndNoFurther) {
  Write(0, 7);
  judge_.clients().Activated(SessionId{2}, /*resumed=*/false);
  Read(0, kSnapshot, SessionId{2});
  EXPECT_EQ(judge_.violation(), "");
  Read(0, 7, SessionId{2});
  EXPECT_NE(judge_.violation(), "") << "it was one, and is the other";
}

TEST_F(CloneJudgeTest, NotAfterAFlush) {
  Write(0, 7);
  Flush();
  judge_.clients().Activated(SessionId{2}, /*resumed=*/false);
  Read(0, kSnapshot, SessionId{2});
  EXPECT_NE(judge_.violation(), "");
}

TEST_F(CloneJudgeTest, TheSnapshotIsDurableFromTheFirst) {
  judge_.clients().Activated(SessionId{2}, /*resumed=*/false);
  Read(0, 0, SessionId{2});
  EXPECT_NE(judge_.violation(), "");
}

// --- records ---

constexpr uint64_t kPin = 3;
constexpr uint64_t kId = 12;

v1::VolumeRecord Parent(uint64_t pin, std::optional<uint64_t> named) {
  v1::VolumeRecord record;
  v1::SnapshotRecord* snapshot = record.add_snapshots();
  snapshot->set_name("s");
  snapshot->mutable_pin()->set_id(pin);
  if (named) snapshot->add_clones()->set_volume_id(*named);
  return record;
}

v1::VolumeRecord Clone() {
  v1::VolumeRecord record;
  record.set_id(kId);
  record.set_state(v1::VolumeRecord::DETACHED);
  record.mutable_parent()->set_snapshot("s");
  record.mutable_parent()->set_pin(kPin);
  return record;
}

TEST(CheckParentIsThereTest, TheSnapshotIsThereAndNamesTheClone) {
  EXPECT_EQ(CheckParentIsThere(Clone(), Parent(kPin, kId)), "");
}

TEST(CheckParentIsThereTest, ASnapshotThatIsGoneOrNamesAnotherIsFoundOut) {
  EXPECT_THAT(CheckParentIsThere(Clone(), Parent(kPin + 1, kId)), HasSubstr("is gone"));
  EXPECT_THAT(CheckParentIsThere(Clone(), v1::VolumeRecord()), HasSubstr("is gone"));
  EXPECT_THAT(CheckParentIsThere(Clone(), Parent(kPin, kId + 1)), HasSubstr("does not name"));
  EXPECT_THAT(CheckParentIsThere(Clone(), Parent(kPin, std::nullopt)), HasSubstr("does not name"));
}

TEST(CheckParentIsThereTest, WhoIsNotMadeYetOrHasNoParentNeedsNone) {
  EXPECT_EQ(CheckParentIsThere(std::nullopt, v1::VolumeRecord()), "");
  v1::VolumeRecord clone = Clone();
  clone.set_state(v1::VolumeRecord::CREATING);
  EXPECT_EQ(CheckParentIsThere(clone, v1::VolumeRecord()), "");
  clone = Clone();
  clone.clear_parent();
  EXPECT_EQ(CheckParentIsThere(clone, v1::VolumeRecord()), "");
}

}  // namespace
}  // namespace weir::sim
