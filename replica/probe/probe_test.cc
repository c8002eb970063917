#include "replica/probe/probe.h"

#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "replica/probe/sync_times.h"

namespace weir::probe {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

constexpr absl::Duration kMs = absl::Milliseconds(1);

class ProbeTest : public ::testing::Test {
 protected:
  ProbeTest()
      : directory_(fs::path(testing::TempDir()) / testing::UnitTest::GetInstance()->current_test_info()->name()) {
    fs::remove_all(directory_);
    fs::create_directories(directory_);
  }

  const fs::path directory_;
};

TEST_F(ProbeTest, MeasuresAndLeavesNothingBehind) {
  const absl::StatusOr<DiskTruth> truth = ProbeDirectory(directory_, Rounds());
  ASSERT_TRUE(truth.ok()) << truth.status();
  const SyncTimes& times = truth->facts.times;
  EXPECT_GT(times.rounds, 0);
  EXPECT_LE(times.rounds, 64);
  EXPECT_GT(times.sync_median, absl::ZeroDuration());
  EXPECT_LE(times.sync_median, times.sync_p99);
  EXPECT_LE(times.sync_p99, times.sync_max);
  EXPECT_GT(times.cached_median, absl::ZeroDuration());
  EXPECT_FALSE(truth->reasons.empty());
  EXPECT_FALSE(truth->facts.mounts.empty());
  EXPECT_TRUE(fs::is_empty(directory_));
}

TEST_F(ProbeTest, EndsAfterTheRoundsAndWhenItIsStopped) {
  EXPECT_EQ(MeasureSyncs(directory_, {3, absl::InfiniteDuration(), nullptr})->rounds, 3);
  const std::atomic<bool> stop = true;
  EXPECT_EQ(MeasureSyncs(directory_, {1000, absl::InfiniteDuration(), &stop})->rounds, 1);
  EXPECT_EQ(MeasureSyncs(directory_, {1000, absl::ZeroDuration(), nullptr})->rounds, 1);
}

TEST_F(ProbeTest, WhatIsNoDirectoryToWriteToIsRefused) {
  EXPECT_TRUE(absl::IsNotFound(ProbeDirectory(directory_ / "missing", Rounds()).status()));
  std::ofstream(directory_ / "file") << "x";
  const absl::Status file = ProbeDirectory(directory_ / "file", Rounds()).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(file));
  EXPECT_THAT(std::string(file.message()), HasSubstr("is no directory"));
  EXPECT_THAT(std::string(ProbeDirectory("/proc", Rounds()).status().message()), HasSubstr("no file can be made there"));
}

TEST_F(ProbeTest, TmpfsIsNotDurable) {
  if (access("/dev/shm", W_OK) != 0) GTEST_SKIP() << "/dev/shm cannot be written to";
  const absl::StatusOr<DiskTruth> truth = ProbeDirectory("/dev/shm", Rounds());
  ASSERT_TRUE(truth.ok()) << truth.status();
  EXPECT_EQ(truth->verdict, Verdict::kNotDurable);
}

TEST(SummarizeTest, SortsAndTakesTheMiddleAndTheEnds) {
  std::vector<absl::Duration> syncs;
  for (int i = 200; i > 0; --i) syncs.push_back(i * kMs);
  const SyncTimes times = Summarize(syncs, {3 * kMs, 1 * kMs, 2 * kMs}, {});
  EXPECT_EQ(times.rounds, 200);
  EXPECT_EQ(times.sync_median, 101 * kMs);
  EXPECT_EQ(times.sync_p99, 199 * kMs);
  EXPECT_EQ(times.sync_max, 200 * kMs);
  EXPECT_EQ(times.direct_median, 2 * kMs);
  EXPECT_EQ(times.cached_median, absl::ZeroDuration());
}

}  // namespace
}  // namespace weir::probe
