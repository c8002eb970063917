#include "volume/host/tracer.h"

#include <cerrno>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace weir::host {
namespace {

using engine::RequestKind;

constexpr engine::Time At(int64_t us) { return absl::Microseconds(us); }

class TracerTest : public testing::Test {
 protected:
  absl::Status Start(size_t slowest = 10, absl::Duration length = absl::Seconds(10)) {
    return tracer_.Start({.length = length, .slowest = slowest}, At(0), [this] { ++stops_; });
  }
  void Queue(uint64_t id, const std::string& replica, RequestKind kind, BlockRange range, engine::Time now) {
    engine::Clone clone;
    clone.id = engine::CloneId{id};
    clone.kind = kind;
    clone.range = range;
    tracer_.Queued(replica, clone, now);
  }
  void Answer(uint64_t id, engine::Time queued, engine::Time now, uint64_t store_us = 1) {
    tracer_.Answered(engine::CloneId{id}, CloneTimes::Of(queued, queued, now, store_us), now);
  }

  Tracer tracer_;
  int stops_ = 0;
};

TEST_F(TracerTest, IsActiveOnlyWhileItTracesAndForOneAtATime) {
  EXPECT_FALSE(tracer_.active());
  EXPECT_EQ(tracer_.Submitted(RequestKind::kWrite, {0, 1}, At(0)), 0u);
  ASSERT_TRUE(Start().ok());
  EXPECT_TRUE(tracer_.active());
  EXPECT_TRUE(absl::IsResourceExhausted(Start()));
  tracer_.Finish(At(1));
  EXPECT_FALSE(tracer_.active());
  EXPECT_TRUE(Start().ok());
}

TEST_F(TracerTest, ARequestsPartsAddUpToItsTotal) {
  ASSERT_TRUE(Start().ok());
  const uint64_t sample = tracer_.Submitted(RequestKind::kWrite, {4, 2}, At(100));
  ASSERT_NE(sample, 0u);
  Queue(1, "r1", RequestKind::kWrite, {4, 2}, At(130));
  Queue(2, "r2", RequestKind::kWrite, {4, 2}, At(131));
  Answer(1, At(130), At(200), 50);
  Answer(2, At(131), At(400), 250);
  tracer_.Completed(sample, RequestKind::kWrite, EIO, At(110), At(405));
  const v1::TraceResponse told = tracer_.Finish(At(2'000'000));
  EXPECT_EQ(told.traced_ms(), 2000u);
  EXPECT_EQ(told.ended_because(), "");
  ASSERT_EQ(told.slowest_size(), 1);
  const v1::TracedRequest& request = told.slowest(0);
  EXPECT_EQ(request.kind(), "write");
  EXPECT_EQ(request.offset_bytes(), 4u * 4096);
  EXPECT_EQ(request.length_bytes(), 2u * 4096);
  EXPECT_EQ(request.error(), EIO);
  EXPECT_EQ(request.total_us(), 305u);
  EXPECT_EQ(request.backlog_us(), 10u);
  EXPECT_EQ(request.engine_us(), 20u);
  EXPECT_EQ(request.replicas_us(), 270u);
  EXPECT_EQ(request.finish_us(), 5u);
  ASSERT_EQ(request.clones_size(), 2);
  EXPECT_EQ(request.clones(1).replica(), "r2");
  EXPECT_TRUE(request.clones(1).answered());
  EXPECT_EQ(request.clones(1).store_us(), 250u);
  EXPECT_EQ(request.clones(1).wire_us(), 19u);
  ASSERT_EQ(told.kinds_size(), 1);
  EXPECT_EQ(told.kinds(0).requests(), 1u);
  ASSERT_EQ(told.kinds(0).by_replica_size(), 2);
  EXPECT_EQ(told.kinds(0).by_replica(0).store().median_us(), 50u);
}

TEST_F(TracerTest, AReplicaThatDoesNotAnswerIsWaitedForUntilTheEnd) {
  ASSERT_TRUE(Start().ok());
  const uint64_t sample = tracer_.Submitted(RequestKind::kWrite, {0, 1}, At(0));
  Queue(1, "r1", RequestKind::kWrite, {0, 1}, At(10));
  Queue(2, "r2", RequestKind::kWrite, {0, 1}, At(10));
  Answer(1, At(10), At(50));
  tracer_.Completed(sample, RequestKind::kWrite, 0, At(0), At(900));
  const v1::TraceResponse told = tracer_.Finish(At(1000));
  EXPECT_EQ(told.slowest(0).replicas_us(), 890u);
  EXPECT_FALSE(told.slowest(0).clones(1).answered());
  EXPECT_EQ(told.kinds(0).by_replica_size(), 1) << "it has no times";
}

TEST_F(TracerTest, OfEqualRequestsEachHasItsOwnClones) {
  ASSERT_TRUE(Start().ok());
  const uint64_t first = tracer_.Submitted(RequestKind::kRead, {0, 1}, At(0));
  const uint64_t second = tracer_.Submitted(RequestKind::kRead, {0, 1}, At(1));
  Queue(1, "r1", RequestKind::kRead, {0, 1}, At(5));
  Queue(2, "r2", RequestKind::kRead, {0, 1}, At(6));
  Queue(3, "r1", RequestKind::kWrite, {0, 1}, At(7));    // of nobody's
  Queue(4, "r1", RequestKind::kRead, {0, 2}, At(7));     // nor this
  Answer(2, At(6), At(100));
  Answer(1, At(5), At(300));
  tracer_.Completed(second, RequestKind::kRead, 0, At(1), At(101));
  tracer_.Completed(first, RequestKind::kRead, 0, At(0), At(301));
  const v1::TraceResponse told = tracer_.Finish(At(1000));
  ASSERT_EQ(told.slowest_size(), 2);
  ASSERT_EQ(told.slowest(0).clones_size(), 1);
  EXPECT_EQ(told.slowest(0).clones(0).replica(), "r1");
  ASSERT_EQ(told.slowest(1).clones_size(), 1);
  EXPECT_EQ(told.slowest(1).clones(0).replica(), "r2");
}

TEST_F(TracerTest, AFlushCloneIsOfEveryFlushUnderWay) {
  ASSERT_TRUE(Start().ok());
  const uint64_t flush = tracer_.Submitted(RequestKind::kFlush, {}, At(0));
  const uint64_t barrier = tracer_.Submitted(RequestKind::kBarrier, {8, 1}, At(0));
  const uint64_t write = tracer_.Submitted(RequestKind::kWrite, {0, 1}, At(0));
  Queue(1, "r1", RequestKind::kFlush, {}, At(5));
  Queue(2, "r1", RequestKind::kWrite, {8, 1}, At(6));
  Answer(1, At(5), At(50));
  Answer(2, At(6), At(60));
  for (const auto& [sample, kind] : {std::pair(flush, RequestKind::kFlush), std::pair(barrier, RequestKind::kBarrier),
                                     std::pair(write, RequestKind::kWrite)}) {
    tracer_.Completed(sample, kind, 0, At(0), At(100));
  }
  const v1::TraceResponse told = tracer_.Finish(At(1000));
  for (const v1::TracedRequest& request : told.slowest()) {
    EXPECT_EQ(request.clones_size(), request.kind() == "flush" ? 1 : request.kind() == "barrier" ? 2 : 0)
        << request.kind();
  }
}

TEST_F(TracerTest, TheSlowestAreKeptInOrder) {
  ASSERT_TRUE(Start(/*slowest=*/2).ok());
  for (const int64_t took : {30, 10, 50, 40}) {
    const uint64_t sample = tracer_.Submitted(RequestKind::kRead, {0, 1}, At(0));
    tracer_.Completed(sample, RequestKind::kRead, 0, At(0), At(took));
  }
  const v1::TraceResponse told = tracer_.Finish(At(100));
  ASSERT_EQ(told.slowest_size(), 2);
  EXPECT_EQ(told.slowest(0).total_us(), 50u);
  EXPECT_EQ(told.slowest(1).total_us(), 40u);
  EXPECT_EQ(told.slowest(0).engine_us(), 50u) << "no clone of it was seen";
  EXPECT_EQ(told.kinds(0).total().median_us(), 30u);
}

TEST_F(TracerTest, BeyondTheLimitASecondOneInManyIsSampled) {
  ASSERT_TRUE(Start().ok());
  uint64_t sampled = 0;
  for (uint64_t i = 0; i < 3 * Tracer::kAllUpTo; ++i) {
    const uint64_t sample = tracer_.Submitted(RequestKind::kWrite, {i, 1}, At(1));
    if (sample != 0) ++sampled;
    tracer_.Completed(sample, RequestKind::kWrite, 0, At(1), At(2));
  }
  EXPECT_EQ(sampled, Tracer::kAllUpTo + 2 * Tracer::kAllUpTo / Tracer::kOneIn);
  EXPECT_NE(tracer_.Submitted(RequestKind::kWrite, {0, 1}, At(1'000'001)), 0u) << "the next second";
  const v1::TraceResponse told = tracer_.Finish(At(2'000'000));
  EXPECT_EQ(told.kinds(0).requests(), 3 * Tracer::kAllUpTo);
  EXPECT_EQ(told.kinds(0).sampled(), sampled);
  EXPECT_EQ(told.unanswered(), 1u);
}

TEST_F(TracerTest, WhatItHoldsIsBounded) {
  ASSERT_TRUE(Start(10, absl::Seconds(600)).ok());
  uint64_t live = 0;
  for (uint64_t i = 0; i < Tracer::kLiveMax + 10; ++i) {
    // In seconds of their own: so the limit a second is not what holds them back.
    if (tracer_.Submitted(RequestKind::kWrite, {i, 1}, absl::Seconds(i)) != 0) ++live;
  }
  EXPECT_EQ(live, Tracer::kLiveMax);
  EXPECT_EQ(tracer_.Finish(absl::Seconds(600)).unanswered(), Tracer::kLiveMax);
}

TEST_F(TracerTest, AnOldSampleIsOfNoLaterTrace) {
  ASSERT_TRUE(Start().ok());
  const uint64_t sample = tracer_.Submitted(RequestKind::kWrite, {0, 1}, At(0));
  EXPECT_EQ(tracer_.Finish(At(10)).unanswered(), 1u);
  ASSERT_TRUE(Start().ok());
  tracer_.Completed(sample, RequestKind::kWrite, 0, At(0), At(20));
  const v1::TraceResponse told = tracer_.Finish(At(30));
  EXPECT_EQ(told.kinds(0).requests(), 1u);
  EXPECT_EQ(told.kinds(0).sampled(), 0u);
}

TEST_F(TracerTest, AVolumeThatIsLetGoEndsTheTraceAndSaysWhy) {
  ASSERT_TRUE(Start().ok());
  tracer_.Stop("volume demo was detached");
  tracer_.Stop("and again");
  EXPECT_EQ(stops_, 1);
  EXPECT_EQ(tracer_.Finish(At(10)).ended_because(), "volume demo was detached");
  const absl::Status again = Start();
  EXPECT_TRUE(absl::IsFailedPrecondition(again));
  EXPECT_EQ(again.message(), "volume demo was detached");
}

}  // namespace
}  // namespace weir::host
