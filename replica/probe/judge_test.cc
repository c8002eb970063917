#include <functional>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "replica/probe/disk_truth.h"

namespace weir::probe {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr absl::Duration kUs = absl::Microseconds(1);

SyncTimes Times(int sync_us, int direct_us) {
  SyncTimes times;
  times.rounds = 64;
  times.sync_median = sync_us * kUs;
  times.sync_p99 = times.sync_max = 3 * times.sync_median;
  times.direct_median = direct_us * kUs;
  times.cached_median = 2 * kUs;
  return times;
}

DiskLayer Layer(const std::string& device, std::optional<bool> write_back) {
  DiskLayer layer;
  layer.device = device;
  layer.write_back = write_back;
  return layer;
}

// ext4 on one drive.
DiskFacts On(DiskLayer layer, SyncTimes times) {
  DiskFacts facts;
  facts.mounts = {{"ext4", "/dev/" + layer.device, {"rw", "relatime"}}};
  facts.layers = {std::move(layer)};
  facts.times = times;
  return facts;
}

DiskFacts OnMount(const std::string& type, std::vector<std::string> options = {"rw"}) {
  DiskFacts facts = On(Layer("sda", true), Times(900, 30));
  facts.mounts[0].type = type;
  facts.mounts[0].options = std::move(options);
  return facts;
}

DiskFacts Unmeasured(bool io_failed) {
  DiskFacts facts = On(Layer("sda", false), SyncTimes());
  facts.unmeasured = "no space";
  facts.io_failed = io_failed;
  return facts;
}

DiskLayer Spinning() {
  DiskLayer layer = Layer("sda", true);
  layer.rotational = true;
  return layer;
}

DiskFacts StackOf(DiskLayer upper, DiskLayer lower) {
  DiskFacts facts = On(std::move(upper), Times(900, 30));
  facts.layers[0].lowest = false;
  lower.above = 0;
  facts.layers.push_back(std::move(lower));
  return facts;
}

struct Case {
  const char* name;
  DiskFacts facts;
  Verdict verdict;
  const char* first_reason;
};

std::vector<Case> Cases() {
  DiskLayer virtual_disk = Layer("vda", true);
  virtual_disk.rotational = true;
  DiskFacts loop_on_tmpfs = StackOf(Layer("loop0", true), Layer("sda", true));
  loop_on_tmpfs.layers.pop_back();
  loop_on_tmpfs.mounts.push_back({"tmpfs", "tmpfs", {"rw"}});
  DiskFacts zfs;
  zfs.mounts = {{"zfs", "tank/weir", {"rw"}}};
  zfs.unseen = "no device is to be seen below zfs on /data";
  zfs.times = Times(100, 0);
  DiskFacts tmpfs = zfs;
  tmpfs.mounts[0].type = "tmpfs";
  tmpfs.times = Times(1, 1);
  return {
      // A device says what it does, and does what it says.
      {"PowerLossProtected", On(Layer("nvme0n1", false), Times(25, 12)), Verdict::kDurable, "no volatile cache"},
      {"Consumer", On(Layer("nvme0n1", true), Times(1500, 12)), Verdict::kDurable, "claims a volatile cache"},
      {"CacheThatIsNotUsed", On(Layer("sda", true), Times(130, 90)), Verdict::kDurable, "claims a volatile cache"},
      {"SpinningAndFlushing", On(Spinning(), Times(8300, 200)), Verdict::kDurable, "claims a volatile cache"},
      {"Virtual", On(virtual_disk, Times(300, 100)), Verdict::kDurable, "claims a volatile cache"},
      {"PersistentMemory", On(Layer("pmem0", false), Times(3, 2)), Verdict::kDurable, "no volatile cache"},
      // What it says and what it does cannot both be true.
      {"FlushTooFastForFlash", On(Layer("nvme0n1", true), Times(30, 14)), Verdict::kSuspicious, "program flash (50us)"},
      {"FlushTooFastAndNoDirectWrites", On(Layer("nvme0n1", true), Times(49, 0)), Verdict::kSuspicious, "program flash"},
      {"FlushTooFastToSpin", On(Spinning(), Times(999, 600)), Verdict::kSuspicious, "quarter of the fastest turn (1ms)"},
      {"SyncNotSentAtAll", On(Layer("nvme0n1", false), Times(4, 2)), Verdict::kSuspicious, "do not reach it"},
      {"SyncShorterThanTheWrite", On(Layer("sda", false), Times(49, 100)), Verdict::kSuspicious, "cannot have written"},
      {"FlushesNotPassedOn", StackOf(Layer("dm-0", false), Layer("sda", true)), Verdict::kSuspicious, "not passed on"},
      {"FlushesPassedOn", StackOf(Layer("dm-0", true), Layer("sda", true)), Verdict::kDurable, "claims a volatile"},
      {"FailedSync", Unmeasured(true), Verdict::kSuspicious, "could not be measured: no space"},
      // It cannot keep data.
      {"Tmpfs", tmpfs, Verdict::kNotDurable, "tmpfs keeps its files in memory"},
      {"Overlay", OnMount("overlay"), Verdict::kNotDurable, "container's own layer"},
      {"VolatileOverlay", OnMount("overlay", {"rw", "volatile"}), Verdict::kNotDurable, "syncs do nothing"},
      {"NoBarriers", OnMount("ext4", {"rw", "nobarrier"}), Verdict::kNotDurable, "without barriers"},
      {"RamDisk", On(Layer("ram0", true), Times(10, 8)), Verdict::kNotDurable, "ram0 is memory"},
      {"LoopOnTmpfs", loop_on_tmpfs, Verdict::kNotDurable, "tmpfs keeps"},
      // It cannot be seen.
      {"Nfs", OnMount("nfs4"), Verdict::kUnknown, "its server decides"},
      {"Fuse", OnMount("fuse.sshfs"), Verdict::kUnknown, "a program decides"},
      {"Zfs", zfs, Verdict::kUnknown, "no device is to be seen"},
      {"NoSpace", Unmeasured(false), Verdict::kUnknown, "could not be measured: no space"},
      {"SilentDevice", On(Layer("sda", std::nullopt), Times(900, 30)), Verdict::kUnknown, "does not say"},
  };
}

class JudgeTest : public ::testing::TestWithParam<Case> {};

TEST_P(JudgeTest, GivesTheVerdictAndSaysWhy) {
  const DiskTruth truth = Judge(GetParam().facts);
  EXPECT_STREQ(VerdictName(truth.verdict), VerdictName(GetParam().verdict));
  ASSERT_FALSE(truth.reasons.empty());
  EXPECT_THAT(truth.reasons[0], HasSubstr(GetParam().first_reason));
}

INSTANTIATE_TEST_SUITE_P(All, JudgeTest, ::testing::ValuesIn(Cases()),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(JudgeReasonsTest, BarriersThatAreOffDoNoHarmWithoutACache) {
  DiskFacts facts = On(Layer("nvme0n1", false), Times(25, 12));
  facts.mounts[0].options = {"rw", "nobarrier"};
  EXPECT_EQ(Judge(facts).verdict, Verdict::kDurable);
}

TEST(JudgeReasonsTest, AVirtualDiskIsAlwaysSaidToBeOne) {
  DiskLayer layer = Layer("sda", false);
  layer.model = "QEMU HARDDISK";
  const DiskTruth truth = Judge(On(layer, Times(300, 100)));
  EXPECT_EQ(truth.verdict, Verdict::kDurable);
  EXPECT_THAT(truth.reasons, Contains(HasSubstr("virtual disk")));
}

TEST(JudgeReasonsTest, OneCacheOfManyDrivesCounts) {
  DiskFacts facts = StackOf(Layer("md0", true), Layer("sda", false));
  EXPECT_EQ(Judge(facts).volatile_cache, false);
  facts.layers.push_back(Layer("sdb", true));
  facts.layers.back().above = 0;
  EXPECT_EQ(Judge(facts).volatile_cache, true);
}

TEST(JudgeReasonsTest, WhatIsKnownOfMemoryIsNotExcusedByTimes) {
  DiskFacts facts = OnMount("tmpfs");
  const DiskTruth truth = Judge(facts);
  EXPECT_EQ(truth.verdict, Verdict::kNotDurable);
  EXPECT_THAT(truth.reasons, Not(Contains(HasSubstr("cache"))));
}

TEST(ShortDurationTest, KeepsThreeDigits) {
  EXPECT_EQ(ShortDuration(absl::Nanoseconds(12345)), "12.3us");
  EXPECT_EQ(ShortDuration(absl::Nanoseconds(2762499)), "2.76ms");
  EXPECT_EQ(ShortDuration(absl::Seconds(61)), "1m1s");
  EXPECT_EQ(ShortDuration(absl::ZeroDuration()), "0");
}

}  // namespace
}  // namespace weir::probe
