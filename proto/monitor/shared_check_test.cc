#include "proto/monitor/shared_check.h"

#include <thread>

#include "absl/synchronization/notification.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace weir::monitor {
namespace {

using testing::HasSubstr;

TEST(SharedCheckTest, AnAnswerIsGoodForAWhile) {
  int asked = 0;
  SharedCheck check({.whom = "the catalog", .fresh = absl::Hours(1)}, [&] {
    ++asked;
    return absl::UnavailableError("no");
  });
  EXPECT_EQ(check.Get(), absl::UnavailableError("no"));
  EXPECT_EQ(check.Get(), absl::UnavailableError("no"));
  EXPECT_EQ(asked, 1);
}

TEST(SharedCheckTest, TheLastAnswerIsToldWithoutAsking) {
  int asked = 0;
  SharedCheck check({.whom = "the catalog", .fresh = absl::ZeroDuration()}, [&] {
    ++asked;
    return absl::UnavailableError("no");
  });
  EXPECT_TRUE(check.Last().ok()) << "nobody has asked";
  EXPECT_EQ(asked, 0);
  EXPECT_EQ(check.Get(), absl::UnavailableError("no"));
  EXPECT_EQ(check.Last(), absl::UnavailableError("no"));
  EXPECT_EQ(asked, 1);
}

TEST(SharedCheckTest, IsAskedAgainOnceTheAnswerIsOld) {
  int asked = 0;
  SharedCheck check({.whom = "the catalog", .fresh = absl::ZeroDuration()},
                    [&] { return ++asked == 1 ? absl::UnavailableError("no") : absl::OkStatus(); });
  EXPECT_EQ(check.Get(), absl::UnavailableError("no"));
  EXPECT_TRUE(check.Get().ok());
}

// One caller waits for the answer; `patience` decides what others hear meanwhile.
absl::Status HeardMeanwhile(absl::Duration patience) {
  absl::Notification asked, answer;
  SharedCheck check({.whom = "the catalog", .patience = patience}, [&] {
    asked.Notify();
    answer.WaitForNotification();
    return absl::UnavailableError("no");
  });
  std::thread first([&] { EXPECT_EQ(check.Get(), absl::UnavailableError("no")); });
  asked.WaitForNotification();
  const absl::Status heard = check.Get();
  EXPECT_EQ(check.Last().ok(), heard.ok());
  answer.Notify();
  first.join();
  return heard;
}

TEST(SharedCheckTest, NobodyElseWaitsForAnAnswer) { EXPECT_TRUE(HeardMeanwhile(absl::Hours(1)).ok()); }

TEST(SharedCheckTest, NoAnswerInTimeIsOne) {
  const absl::Status heard = HeardMeanwhile(-absl::Seconds(1));
  EXPECT_EQ(heard.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(heard.message()), HasSubstr("the catalog has not answered for"));
}

}  // namespace
}  // namespace weir::monitor
