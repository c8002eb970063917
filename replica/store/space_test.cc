#include "replica/store/space.h"

#include <cstdint>
#include <functional>
#include <vector>

#include "gtest/gtest.h"

namespace weir::store {
namespace {

constexpr uint64_t kPart = AllocationCount::kPartBlocks;

class AllocationCountTest : public ::testing::Test {
 protected:
  // Counts a volume of `parts`, each with `allocated` blocks.
  uint64_t Count(uint64_t parts, const std::function<uint64_t(uint64_t part)>& allocated) {
    scanned_ = 0;
    absl::StatusOr<uint64_t> count = count_.Count(parts * kPart, [&](const BlockRange& range) -> absl::StatusOr<uint64_t> {
      EXPECT_EQ(range.first % kPart, 0u);
      ++scanned_;
      return allocated(range.first / kPart);
    });
    EXPECT_TRUE(count.ok()) << count.status();
    return count.value_or(0);
  }

  AllocationCount count_;
  uint64_t scanned_ = 0;  // parts, by the last call
};

TEST_F(AllocationCountTest, OnlyWhatWasWrittenIsCountedAgain) {
  std::vector<uint64_t> parts = {5, 0, kPart};
  auto of = [&parts](uint64_t part) { return parts[part]; };
  EXPECT_EQ(Count(3, of), kPart + 5);
  EXPECT_EQ(scanned_, 3u);
  EXPECT_EQ(Count(3, of), kPart + 5);
  EXPECT_EQ(scanned_, 0u);
  parts = {5, 9, kPart - 1};
  count_.Changed({2 * kPart - 1, 2});
  EXPECT_EQ(Count(3, of), kPart + 13);
  EXPECT_EQ(scanned_, 2u);
}

TEST_F(AllocationCountTest, AVolumeGrows) {
  auto of = [](uint64_t) { return uint64_t{7}; };
  EXPECT_EQ(Count(2, of), 14u);
  EXPECT_EQ(Count(5, of), 35u);
  EXPECT_EQ(scanned_, 3u);
}

TEST_F(AllocationCountTest, WhatIsWrittenWhileItIsCountedIsCountedByTheNextCall) {
  auto of = [this](uint64_t part) {
    count_.Changed({part * kPart, 1});
    return uint64_t{1};
  };
  EXPECT_EQ(Count(4, of), 4u);
  EXPECT_EQ(scanned_, 4u);
  EXPECT_EQ(Count(4, of), 4u);
  EXPECT_EQ(scanned_, 4u);
}

TEST_F(AllocationCountTest, ACallTakesNoLongerForALargerVolume) {
  constexpr uint64_t kParts = 10000;
  constexpr uint64_t kFullParts = AllocationCount::kBlocksPerCall / kPart;
  // The first tenth is full.
  auto of = [](uint64_t part) { return part < kParts / 10 ? kPart : 0; };
  const uint64_t all = kParts / 10 * kPart;
  const uint64_t estimate = Count(kParts, of);
  EXPECT_LT(scanned_, 20 * kFullParts);
  EXPECT_GT(estimate, all / 2);
  EXPECT_LT(estimate, all * 2);
  for (int i = 0; i < 20; ++i) Count(kParts, of);
  EXPECT_EQ(Count(kParts, of), all);
  EXPECT_EQ(scanned_, 0u);
  // Overwritten all over, all the time: each has its turn, and counts as it was found last.
  auto halved = [](uint64_t part) { return part < kParts / 10 ? kPart / 2 : 0; };
  uint64_t before = all;
  for (int i = 0; i < 40; ++i) {
    count_.Changed({0, kParts * kPart});
    const uint64_t now = Count(kParts, halved);
    EXPECT_LE(now, before);
    EXPECT_LT(scanned_, 20 * kFullParts);
    before = now;
  }
  EXPECT_EQ(before, all / 2);
}

}  // namespace
}  // namespace weir::store
