#include "volume/host/slow_log.h"

#include <cerrno>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace weir::host {
namespace {

using engine::RequestKind;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

constexpr engine::Time At(int64_t ms) { return absl::Milliseconds(ms); }

class SlowLogTest : public testing::Test {
 protected:
  void LogFlush(engine::Time submitted, engine::Time completed) {
    log_.Log({.kind = RequestKind::kFlush, .submitted = submitted, .admitted = submitted, .completed = completed});
  }
  SlowLog::Clone Clone(const std::string& replica, RequestKind kind, BlockRange range) {
    return {.replica = replica,
            .kind = kind,
            .range = range,
            .queued = At(100),
            .ended = At(1400),
            .answered = true,
            .times = CloneTimes::Of(At(100), At(101), At(1400), 1'200'000)};
  }

  std::vector<std::string> lines_;
  SlowLog log_{absl::Seconds(1), [this](const std::string& line) { lines_.push_back(line); }};
};

TEST_F(SlowLogTest, OnlyWhatTakesLongerIsSlowAndNothingIsIfItNeverIs) {
  EXPECT_FALSE(log_.IsSlow(absl::Seconds(1)));
  EXPECT_TRUE(log_.IsSlow(absl::Milliseconds(1001)));
  EXPECT_FALSE(log_.CloneIsSlow(absl::Milliseconds(500)));
  EXPECT_TRUE(log_.CloneIsSlow(absl::Milliseconds(501)));
  const SlowLog never(absl::InfiniteDuration(), nullptr);
  EXPECT_FALSE(never.enabled());
  EXPECT_FALSE(never.IsSlow(absl::InfiniteDuration()));
  EXPECT_FALSE(never.CloneIsSlow(absl::Hours(100)));
}

TEST_F(SlowLogTest, ALineSaysWhatTheRequestWasAndWhereItsTimeWent) {
  log_.NoteClone(Clone("r2", RequestKind::kWrite, {8, 4}));
  log_.Log({.kind = RequestKind::kWrite,
            .range = {10, 1},
            .error = EIO,
            .submitted = At(0),
            .admitted = At(90),
            .completed = At(1500)});
  EXPECT_THAT(lines_, ElementsAre("slow request: write of 4096 bytes at 40960 took 1.5s and failed with errno 5; waited "
                                  "90ms until the engine took it; r2 send 1ms, store 1.2s, wire 99ms"));
}

TEST_F(SlowLogTest, OnlyClonesOfItsKindAndBlocksAndTimeAreNamed) {
  log_.NoteClone(Clone("read", RequestKind::kRead, {10, 1}));
  log_.NoteClone(Clone("elsewhere", RequestKind::kWrite, {11, 4}));
  log_.NoteClone(Clone("flush", RequestKind::kFlush, {}));
  SlowLog::Clone silent = Clone("silent", RequestKind::kWrite, {10, 1});
  silent.answered = false;
  log_.NoteClone(silent);
  log_.Log({.kind = RequestKind::kWrite, .range = {10, 1}, .submitted = At(0), .admitted = At(0), .completed = At(1500)});
  LogFlush(At(0), At(1500));
  log_.Log({.kind = RequestKind::kWrite, .range = {10, 1}, .submitted = At(1401), .admitted = At(1401),
            .completed = At(2500)});
  EXPECT_THAT(lines_, ElementsAre("slow request: write of 4096 bytes at 40960 took 1.5s; silent did not answer within 1.3s",
                                  "slow request: flush took 1.5s; flush send 1ms, store 1.2s, wire 99ms",
                                  "slow request: write of 4096 bytes at 40960 took 1.099s"));
}

TEST_F(SlowLogTest, OfAnOlderReplicaTheRestIsNotKnown) {
  SlowLog::Clone clone = Clone("old", RequestKind::kFlush, {});
  clone.times = CloneTimes::Of(At(100), At(101), At(1400), 0);
  log_.NoteClone(clone);
  LogFlush(At(0), At(1500));
  EXPECT_THAT(lines_.at(0), HasSubstr("; old send 1ms, the rest of 1.3s not known"));
}

TEST_F(SlowLogTest, SaysWhatRequestsWereHeldForMeanwhile) {
  SlowLog::Held held{};
  held[static_cast<size_t>(engine::HoldReason::kSuspended)] = 3;
  log_.Look(held, At(50));  // before
  held = {};
  held[static_cast<size_t>(engine::HoldReason::kMemberAway)] = 1;
  log_.Look(held, At(500));
  log_.Look({}, At(1000));
  LogFlush(At(100), At(1500));
  EXPECT_THAT(lines_.at(0), HasSubstr("; requests were held meanwhile: member_away at 1 of 2 looks"));
  EXPECT_THAT(lines_.at(0), Not(HasSubstr("suspended")));
}

TEST_F(SlowLogTest, AFewLinesASecondAndHowManyWereLeftOut) {
  for (int i = 0; i < SlowLog::kLinesASecond + 3; ++i) LogFlush(At(0), At(5000));
  EXPECT_EQ(lines_.size(), static_cast<size_t>(SlowLog::kLinesASecond));
  lines_.clear();
  LogFlush(At(0), At(6000));
  EXPECT_THAT(lines_, ElementsAre("slow request: flush took 6s; 3 others before were left out"));
}

TEST_F(SlowLogTest, WhatWasLeftOutIsToldAlsoIfNothingIsSlowAnyMore) {
  for (int i = 0; i < SlowLog::kLinesASecond + 2; ++i) LogFlush(At(0), At(5000));
  lines_.clear();
  log_.Look({}, At(5500));
  EXPECT_THAT(lines_, IsEmpty());
  log_.Look({}, At(6000));
  log_.Look({}, At(7500));
  EXPECT_THAT(lines_, ElementsAre("slow requests; 2 others before were left out"));
}

TEST_F(SlowLogTest, WhatItRemembersIsBounded) {
  log_.NoteClone(Clone("first", RequestKind::kFlush, {}));
  for (size_t i = 0; i < SlowLog::kClonesMax; ++i) log_.NoteClone(Clone("later", RequestKind::kFlush, {}));
  LogFlush(At(0), At(1500));
  EXPECT_THAT(lines_.at(0), Not(HasSubstr("first")));
  EXPECT_THAT(lines_.at(0), HasSubstr("; and more"));
}

}  // namespace
}  // namespace weir::host
