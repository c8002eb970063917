#include "tests/chaos/history.h"

#include <string>

#include "absl/strings/match.h"
#include "gtest/gtest.h"
#include "tests/chaos/block_contents.h"

namespace weir::chaos {
namespace {

constexpr Request kWriteBlock3{Kind::kWrite, {3, 1}, false};
constexpr Request kReadBlock3{Kind::kRead, {3, 1}, false};

class HistoryTest : public ::testing::Test {
 protected:
  HistoryTest() { history_.Activated(1); }

  // The value that it has written.
  uint64_t Write(Epoch epoch = 1) {
    const History::Call call = history_.Begin(kWriteBlock3, epoch, "test");
    history_.Answered(call, absl::OkStatus(), "");
    return call.id;
  }
  void Read(const std::string& data, Epoch epoch = 1) {
    history_.Answered(history_.Begin(kReadBlock3, epoch, "test"), absl::OkStatus(), data);
  }

  History history_{16};
};

TEST_F(HistoryTest, WhatWasWrittenMayBeRead) {
  Read(std::string(kBlockBytes, '\0'));
  Read(Contents(Write(), {3, 1}));
  EXPECT_EQ(history_.NextNews(), "");
  EXPECT_EQ(history_.TakeCounts().answered, 3);
}

TEST_F(HistoryTest, AStaleReadIsAViolation) {
  const uint64_t old = Write();
  Write();
  Read(Contents(old, {3, 1}));
  EXPECT_TRUE(absl::StartsWith(history_.NextNews(), "violation C1/C2"));
  EXPECT_TRUE(history_.violated());
}

TEST_F(HistoryTest, ATornBlockIsAViolation) {
  std::string data = Contents(Write(), {3, 1});
  data.back() ^= 1;
  Read(data);
  EXPECT_TRUE(absl::StartsWith(history_.NextNews(), "violation C10"));
}

TEST_F(HistoryTest, AShortReadIsAViolation) {
  Read("short");
  EXPECT_TRUE(history_.violated());
}

TEST_F(HistoryTest, AnAnsweredWriteThatATakeoverLosesIsAViolation) {
  Write();
  history_.Activated(2);
  Read(std::string(kBlockBytes, '\0'), 2);
  EXPECT_TRUE(history_.violated());
}

TEST_F(HistoryTest, AnUnansweredWriteMayOrMayNotBeThereButDoesNotComeLater) {
  const History::Call call = history_.Begin(kWriteBlock3, 1, "test");
  history_.Unanswered(call);
  Read(std::string(kBlockBytes, '\0'));
  history_.Activated(2);
  Read(std::string(kBlockBytes, '\0'), 2);
  EXPECT_FALSE(history_.violated());
  Read(Contents(call.id, {3, 1}), 2);
  EXPECT_TRUE(history_.violated());
}

TEST_F(HistoryTest, ErrorsOfAReplacedSessionAreCountedApart) {
  const History::Call first = history_.Begin(kWriteBlock3, 1, "test");
  const History::Call second = history_.Begin(kWriteBlock3, 1, "test");
  history_.Answered(first, absl::DataLossError("no"), "");
  history_.Activated(2);
  history_.Answered(second, absl::DataLossError("no"), "");
  const History::Counts counts = history_.TakeCounts();
  EXPECT_EQ(counts.errors, 1);
  EXPECT_EQ(counts.refused, 1);
  EXPECT_TRUE(absl::StartsWith(history_.NextNews(), "error write of blocks 3+1 by test"));
}

}  // namespace
}  // namespace weir::chaos
