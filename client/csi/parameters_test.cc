#include "client/csi/parameters.h"

#include "gtest/gtest.h"

namespace weir::csi {
namespace {

constexpr int64_t kMiB = 1 << 20;

v1csi::CapacityRange Range(int64_t required, int64_t limit) {
  v1csi::CapacityRange range;
  range.set_required_bytes(required);
  range.set_limit_bytes(limit);
  return range;
}

absl::StatusOr<Parameters> Parse(const std::vector<std::pair<std::string, std::string>>& pairs) {
  StringMap map;
  for (const auto& [key, value] : pairs) map[key] = value;
  return ParametersOf(map, {});
}

TEST(ParametersTest, KnownKeysAreReadAndSidecarsKeysPassedOver) {
  const auto parameters = Parse({{"replicas", "5"}, {"minInSync", "3"}, {"holdDeadline", "1h"}, {"lanes", "8"}, {"stripeSize", "1MiB"},
                                 {"mkfsOptions", "-i 4096"}, {"csi.storage.k8s.io/pvc/name", "data"}});
  ASSERT_TRUE(parameters.ok()) << parameters.status();
  EXPECT_EQ(parameters->replicas, 5u);
  EXPECT_EQ(parameters->min_in_sync, 3u);
  EXPECT_EQ(parameters->hold_deadline_s, 3600u);
  EXPECT_EQ(parameters->lanes, 8u);
  EXPECT_EQ(parameters->stripe_bytes, 1u << 20);
  EXPECT_EQ(parameters->mkfs_options, "-i 4096");
  EXPECT_EQ(Parse({{"csi.storage.k8s.io/pvc/name", "data"}})->text, "");
  EXPECT_NE(Parse({{"replicas", "1"}})->text, Parse({{"replicas", "2"}})->text);
}

TEST(ParametersTest, AnythingElseIsRefusedByName) {
  for (const std::pair<std::string, std::string>& wrong : std::vector<std::pair<std::string, std::string>>{
           {"color", "red"}, {"replicas", "0"}, {"replicas", "8"}, {"replicas", "many"}, {"minInSync", "4"}, {"holdDeadline", "5"},
           {"lanes", "65"}, {"stripeSize", "1000"}, {"stripeSize", "8MiB"}, {"csi.storage.k8s.io/other", "x"}}) {
    const auto parameters = Parse({wrong});
    EXPECT_TRUE(absl::IsInvalidArgument(parameters.status())) << wrong.first << "=" << wrong.second;
  }
  StringMap mutable_ones;
  mutable_ones["replicas"] = "3";
  EXPECT_TRUE(absl::IsInvalidArgument(ParametersOf({}, mutable_ones).status()));
}

TEST(SizeTest, WhatIsRequiredInWholeBlocksAndWithinTheLimit) {
  EXPECT_EQ(*SizeFor(Range(10 * kMiB, 10 * kMiB), {}, 0), 10u << 20) << "exactly";
  EXPECT_EQ(*SizeFor(Range(10 * kMiB + 1, 0), {}, 0), (10u << 20) + 4096);
  EXPECT_EQ(*SizeFor(Range(0, 0), {}, 0), 1u << 30);
  EXPECT_EQ(*SizeFor(Range(0, 5 * kMiB + 1), {}, 0), 5u << 20);
  EXPECT_EQ(*SizeFor(Range(1, 0), {}, 0), kVolumeBytesMin);
  for (const auto& range : {Range(10 * kMiB + 1, 10 * kMiB + 2), Range(2 * kMiB, kMiB), Range(-1, 0), Range(0, -1),
                            Range(0, 4096), Range(INT64_MAX, 0)}) {
    EXPECT_TRUE(absl::IsOutOfRange(SizeFor(range, {}, 0).status())) << range.ShortDebugString();
  }
}

TEST(SizeTest, XfsNeedsThreeHundredMebibytes) {
  Use xfs;
  xfs.fs_type = "xfs";
  EXPECT_EQ(*SizeFor(Range(kMiB, 0), {xfs}, 0), 300u << 20);
  EXPECT_TRUE(absl::IsOutOfRange(SizeFor(Range(kMiB, 100 * kMiB), {xfs}, 0).status()));
}

TEST(SizeTest, ACopyHoldsWhatItIsACopyOf) {
  EXPECT_EQ(*SizeFor(Range(0, 0), {}, 8 << 20), 8u << 20);
  EXPECT_EQ(*SizeFor(Range(4 * kMiB, 0), {}, 8 << 20), 8u << 20);
  EXPECT_EQ(*SizeFor(Range(16 * kMiB, 0), {}, 8 << 20), 16u << 20);
  EXPECT_TRUE(absl::IsOutOfRange(SizeFor(Range(0, 4 * kMiB), {}, 8 << 20).status()));
}

TEST(SizeTest, AVolumeFitsARangeThatHoldsItsSize) {
  EXPECT_TRUE(IsInRange(10, Range(10, 10)));
  EXPECT_TRUE(IsInRange(10, Range(0, 0)));
  EXPECT_FALSE(IsInRange(10, Range(11, 0)));
  EXPECT_FALSE(IsInRange(10, Range(0, 9)));
}

TEST(CapacityTest, IsThatOfTheFullestReplicaThatWouldBeTaken) {
  std::vector<v1::ReplicaSummary> replicas(4);
  for (size_t i = 0; i < 4; ++i) {
    replicas[i].set_state("SERVING");
    replicas[i].set_available_bytes((i + 1) << 20);
  }
  EXPECT_EQ(AvailableBytes(replicas, Parameters()), 2u << 20) << "three copies, on those with most space";
  Parameters one;
  one.replicas = 1;
  EXPECT_EQ(AvailableBytes(replicas, one), 4u << 20);
  Parameters many;
  many.replicas = 5;
  EXPECT_EQ(AvailableBytes(replicas, many), 0u);
  replicas[3].set_state("UNREACHABLE");
  EXPECT_EQ(AvailableBytes(replicas, Parameters()), 1u << 20);
  EXPECT_EQ(AvailableBytes({}, Parameters()), 0u);
}

}  // namespace
}  // namespace weir::csi
