#include "tests/chaos/history.h"

#include <cerrno>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "gtest/gtest.h"
#include "proto/base/errno.h"
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
    history_.Answered(call, epoch, absl::OkStatus(), "");
    return call.id;
  }
  void Read(const std::string& data, Epoch epoch = 1) {
    history_.Answered(history_.Begin(kReadBlock3, epoch, "test"), epoch, absl::OkStatus(), data);
  }
  // By a client that goes on, in this epoch so far.
  History::Call Begin(const Request& request, Epoch epoch) {
    return history_.Begin(request, epoch, "test", /*goes_on=*/true);
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

TEST_F(HistoryTest, AViolationTellsWhatWasDoneToItsBlockBefore) {
  history_.Answered(history_.Begin({Kind::kWrite, {7, 1}, false}, 1, "test"), 1, absl::OkStatus(), "");
  const uint64_t old = Write();
  history_.Answered(history_.Begin({Kind::kFlush, {}, false}, 1, "test"), 1, absl::OkStatus(), "");
  Write();
  history_.Answered(history_.Begin({Kind::kRead, {2, 2}, false}, 1, "test"), 1, absl::OkStatus(),
                    std::string(kBlockBytes, '\0') + Contents(old, {3, 1}));
  EXPECT_TRUE(absl::StartsWith(history_.NextNews(), "violation C1/C2"));
  std::vector<std::string> trail;
  for (std::string news = history_.NextNews(); !news.empty(); news = history_.NextNews()) {
    ASSERT_TRUE(absl::StartsWith(news, "trail ")) << news;
    trail.push_back(news.substr(news.find(": ") + 2));
  }
  ASSERT_EQ(trail.size(), 8);
  EXPECT_EQ(trail[1], "write of blocks 3+1 (call 2) by test, begun in epoch 1, is answered in epoch 1 when 1 is the newest: OK");
  EXPECT_TRUE(absl::StartsWith(trail[2], "flush (call 3)"));
  EXPECT_TRUE(absl::StartsWith(trail[7], "read of blocks 2+2 (call 5)"));
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
  history_.Unanswered(call, 1);
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
  history_.Answered(first, 1, absl::DataLossError("no"), "");
  history_.Activated(2);
  history_.Answered(second, 1, absl::DataLossError("no"), "");
  const History::Counts counts = history_.TakeCounts();
  EXPECT_EQ(counts.errors, 1);
  EXPECT_EQ(counts.refused, 1);
  EXPECT_TRUE(absl::StartsWith(history_.NextNews(), "error write of blocks 3+1 by test"));
}

TEST_F(HistoryTest, LackOfSpaceIsNoErrorOfAWriteWhileADiskIsFull) {
  const absl::Status full = ErrnoToStatus(ENOSPC, "full");
  const Request flush{Kind::kFlush, {}, false};
  const auto errors_after = [&](const Request& request) {
    history_.Answered(history_.Begin(request, 1, "test"), 1, full, "");
    return history_.TakeCounts().errors;
  };
  EXPECT_EQ(errors_after(kWriteBlock3), 1);
  history_.LackOfSpace(true);
  EXPECT_EQ(errors_after(kWriteBlock3), 1);
  EXPECT_EQ(errors_after(flush), 2);
  EXPECT_EQ(errors_after({Kind::kDiscard, {3, 1}, false}), 3);
  history_.LackOfSpace(false);
  EXPECT_EQ(errors_after(kWriteBlock3), 4);
  EXPECT_EQ(history_.TakeCounts().no_space, 1);
}

TEST_F(HistoryTest, AnEpochsFirstAnswerIsNoted) {
  history_.Activated(2);
  Read(std::string(kBlockBytes, '\0'), 1);
  EXPECT_EQ(history_.TakeCounts().first, History::Clock::time_point());
  Write(2);
  const auto first = history_.TakeCounts().first;
  EXPECT_NE(first, History::Clock::time_point());
  Write(2);
  EXPECT_EQ(history_.TakeCounts().first, first);
}

TEST_F(HistoryTest, ACallThatGoesOnBelongsToTheSessionThatAnswersIt) {
  const History::Call write = Begin(kWriteBlock3, 1);
  history_.Activated(2);
  EXPECT_EQ(history_.TakeCounts().stale, 0);
  history_.Answered(write, 2, absl::OkStatus(), "");
  Read(Contents(write.id, {3, 1}), 2);
  // Nobody else has found the third one yet.
  const History::Call flush = Begin({Kind::kFlush, {}, false}, 2);
  history_.Answered(flush, 3, absl::OkStatus(), "");
  EXPECT_EQ(history_.TakeCounts().epoch, 3);
  EXPECT_EQ(history_.NextNews(), "");
}

TEST_F(HistoryTest, ACallThatGoesOnMayLandInTheNextSession) {
  const History::Call write = Begin(kWriteBlock3, 1);
  history_.Activated(2);
  Read(std::string(kBlockBytes, '\0'), 2);
  Read(Contents(write.id, {3, 1}), 2);
  history_.Answered(write, 2, absl::OkStatus(), "");
  EXPECT_FALSE(history_.violated());
}

TEST_F(HistoryTest, ACallBegunBeforeTheTakeoverMayBeAnsweredByTheSessionBeforeIt) {
  const History::Call write = Begin(kWriteBlock3, 1);
  history_.Activated(2);
  history_.Answered(write, 1, absl::OkStatus(), "");
  Read(Contents(write.id, {3, 1}), 2);
  EXPECT_FALSE(history_.violated());
}

// "An operation invoked on an old session after T_act never returns ok."
TEST_F(HistoryTest, AFrontendThatWasReplacedMayAcknowledgeNothingThatIsBegunThen) {
  history_.Activated(2);
  history_.Answered(Begin(kReadBlock3, 1), 1, absl::OkStatus(), std::string(kBlockBytes, '\0'));
  EXPECT_FALSE(history_.violated());
  history_.Answered(Begin(kWriteBlock3, 1), 1, absl::OkStatus(), "");
  EXPECT_TRUE(absl::StartsWith(history_.NextNews(), "violation C5"));
}

TEST_F(HistoryTest, AFrontendThatWasReplacedMayNotReadWhatIsOverwritten) {
  history_.Activated(2);
  Write(2);
  history_.Answered(Begin(kReadBlock3, 1), 1, absl::OkStatus(), std::string(kBlockBytes, '\0'));
  EXPECT_TRUE(absl::StartsWith(history_.NextNews(), "violation C1/C2"));
}

TEST_F(HistoryTest, WhatAFrontendThatWasReplacedRefusesIsNeverSeen) {
  history_.Activated(2);
  const History::Call write = Begin(kWriteBlock3, 1);
  history_.Unanswered(write, 1);
  EXPECT_FALSE(history_.violated());
  Read(Contents(write.id, {3, 1}), 2);
  EXPECT_TRUE(history_.violated());
}

TEST_F(HistoryTest, ACallWhoseClientDoesNotGoOnAfterAllDoesNotComeLater) {
  const History::Call write = Begin(kWriteBlock3, 1);
  history_.Activated(2);
  history_.Unanswered(write, 1);
  Read(std::string(kBlockBytes, '\0'), 2);
  EXPECT_FALSE(history_.violated());
  Read(Contents(write.id, {3, 1}), 2);
  EXPECT_TRUE(history_.violated());
}

TEST_F(HistoryTest, AnErrorBelongsToTheSessionThatAnswersIt) {
  const History::Call before = Begin(kWriteBlock3, 1);
  history_.Activated(2);
  history_.Answered(Begin(kWriteBlock3, 1), 1, absl::DataLossError("no"), "");
  history_.Answered(before, 2, absl::DataLossError("no"), "");
  const History::Counts counts = history_.TakeCounts();
  EXPECT_EQ(counts.errors, 1);
  EXPECT_EQ(counts.refused, 1);
}

}  // namespace
}  // namespace weir::chaos
