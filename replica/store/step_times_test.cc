#include "replica/store/step_times.h"

#include <chrono>

#include "gtest/gtest.h"

namespace weir::store {
namespace {

using std::chrono::microseconds;
using std::chrono::nanoseconds;

// In which bucket of kRead the one time is.
size_t BucketOf(nanoseconds took) {
  StepTimes times;
  times.Add(Step::kRead, took);
  const StepCounts counts = times.Get()[static_cast<size_t>(Step::kRead)];
  for (size_t i = 0; i < counts.buckets.size(); ++i) {
    if (counts.buckets[i] == 1) return i;
  }
  ADD_FAILURE() << "in no bucket: " << took.count() << " ns";
  return 0;
}

TEST(StepTimesTest, ATimeIsInTheFirstBucketWhoseBoundItDoesNotPass) {
  EXPECT_EQ(BucketOf(nanoseconds(-5)), 0u);
  EXPECT_EQ(BucketOf(nanoseconds(0)), 0u);
  EXPECT_EQ(BucketOf(nanoseconds(1)), 0u);
  for (size_t i = 0; i < StepCounts::kBounds; ++i) {
    const nanoseconds bound = absl::ToChronoNanoseconds(StepCounts::Bound(i));
    EXPECT_EQ(BucketOf(bound), i);
    EXPECT_EQ(BucketOf(bound + nanoseconds(1)), i + 1);
  }
  EXPECT_EQ(BucketOf(std::chrono::hours(24)), StepCounts::kBounds);
}

TEST(StepTimesTest, StepsAreCountedApartAndSummedUp) {
  StepTimes times;
  times.Add(Step::kRead, microseconds(30));
  times.Add(Step::kRead, microseconds(40));
  times.Add(Step::kFloor, microseconds(5));
  EXPECT_EQ(times.Get()[static_cast<size_t>(Step::kRead)].sum, absl::Microseconds(70));
  EXPECT_EQ(times.Get()[static_cast<size_t>(Step::kFloor)].sum, absl::Microseconds(5));
  EXPECT_EQ(times.Get()[static_cast<size_t>(Step::kWalSync)].sum, absl::ZeroDuration());
}

}  // namespace
}  // namespace weir::store
