#include "volume/host/target_times.h"

#include "gtest/gtest.h"

namespace weir::host {
namespace {

constexpr engine::Time At(int64_t us) { return absl::Microseconds(us); }

TEST(CloneTimesTest, StagesAddUpToTheRoundTrip) {
  const CloneTimes times = CloneTimes::Of(At(100), At(130), At(1000), 700);
  EXPECT_TRUE(times.told);
  EXPECT_EQ(times[CloneStage::kSend], At(30));
  EXPECT_EQ(times[CloneStage::kStore], At(700));
  EXPECT_EQ(times[CloneStage::kWire], At(170));
}

TEST(CloneTimesTest, AReplicaThatClaimsMoreThanTheRoundTripIsNotBelieved) {
  const CloneTimes times = CloneTimes::Of(At(100), At(130), At(1000), 5'000'000);
  EXPECT_EQ(times[CloneStage::kStore], At(870));
  EXPECT_EQ(times[CloneStage::kWire], At(0));
}

TEST(CloneTimesTest, OfAnOlderReplicaOnlyTheSendingIsKnown) {
  const CloneTimes times = CloneTimes::Of(At(100), At(130), At(1000), 0);
  EXPECT_FALSE(times.told);
  EXPECT_EQ(times[CloneStage::kSend], At(30));
  EXPECT_EQ(times[CloneStage::kStore], At(0));
  EXPECT_EQ(times[CloneStage::kWire], At(0));
}

TEST(TargetTimesTest, WhatIsNotToldIsNotCounted) {
  TargetTimes times;
  times.Add({CloneTimes::Of(At(0), At(10), At(100), 50), CloneTimes::Of(At(0), At(11), At(100), 0)});
  const TargetTimes::Counts counts = times.Read(At(0));
  const TargetTimes::Stage& send = counts.stages[static_cast<size_t>(CloneStage::kSend)];
  EXPECT_EQ(send.buckets[0], 1u) << "at its bound";
  EXPECT_EQ(send.buckets[1], 1u);
  EXPECT_EQ(send.sum, At(21));
  const TargetTimes::Stage& store = counts.stages[static_cast<size_t>(CloneStage::kStore)];
  EXPECT_EQ(store.buckets[3], 1u) << "40 to 80 us";
  EXPECT_EQ(store.sum, At(50));
  EXPECT_EQ(counts.stages[static_cast<size_t>(CloneStage::kWire)].sum, At(40));
}

TEST(TargetTimesTest, WhatTakesForEverIsInTheLastBucket) {
  TargetTimes times;
  times.Add({CloneTimes::Of(At(0), absl::Minutes(1), absl::Minutes(1), 0)});
  EXPECT_EQ(times.Read(At(0)).stages[0].buckets[TargetTimes::kBounds], 1u);
}

TEST(TargetTimesTest, ATargetIsBusyWhileAnySessionWaitsForIt) {
  TargetTimes times;
  EXPECT_EQ(times.Read(At(10)).busy, At(0));
  times.Began(At(10));
  EXPECT_EQ(times.Read(At(15)).busy, At(5)) << "also while it does not answer";
  times.Began(At(20));
  times.Ended(At(30));
  EXPECT_EQ(times.Read(At(35)).busy, At(25));
  times.Ended(At(40));
  EXPECT_EQ(times.Read(At(100)).busy, At(30));
}

TEST(TargetTimesTest, TheBusyTimeNeverFalls) {
  TargetTimes times;
  times.Began(At(10));
  EXPECT_EQ(times.Read(At(100)).busy, At(90));
  times.Ended(At(95));
  EXPECT_EQ(times.Read(At(200)).busy, At(90));
}

}  // namespace
}  // namespace weir::host
