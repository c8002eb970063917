#include "replica/probe/layers.h"

#include <filesystem>
#include <fstream>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace weir::probe {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// A /proc and a /sys of its own.
class LayersTest : public ::testing::Test {
 protected:
  LayersTest()
      : root_(fs::path(testing::TempDir()) / testing::UnitTest::GetInstance()->current_test_info()->name()) {
    fs::remove_all(root_);
    Write("proc/self/mountinfo",
          "22 1 8:2 / / rw,relatime - ext4 /dev/sda2 rw,errors=remount-ro\n"
          "23 22 0:21 / /proc rw - proc proc rw\n");
    Device("sda", "8:0", "write back", "1");
    Write("sys/devices/sda/device/model", "ST4000NM0035    \n");
    Partition("sda", "sda2", "8:2");
  }

  void Write(const std::string& name, const std::string& text) {
    const fs::path path = root_ / name;
    fs::create_directories(path.parent_path());
    std::ofstream(path, std::ios::app) << text;
  }
  void Link(const std::string& name, const fs::path& to) {
    fs::create_directories((root_ / name).parent_path());
    fs::create_symlink(root_ / to, root_ / name);
  }
  void Number(const std::string& path, const std::string& name, const std::string& number) {
    Write(path + "/dev", number + "\n");
    Link("sys/dev/block/" + number, path);
    Link("sys/class/block/" + name, path);
  }
  void Device(const std::string& name, const std::string& number, const std::string& cache,
              const std::string& rotational) {
    const std::string path = "sys/devices/" + name;
    Write(path + "/queue/write_cache", cache + "\n");
    Write(path + "/queue/rotational", rotational + "\n");
    Write(path + "/queue/fua", "1\n");
    Number(path, name, number);
  }
  void Partition(const std::string& disk, const std::string& name, const std::string& number) {
    const std::string path = "sys/devices/" + disk + "/" + name;
    Write(path + "/partition", "2\n");
    Number(path, name, number);
  }
  void StandsOn(const std::string& upper, const std::string& lower_name, const std::string& lower_path) {
    Link("sys/devices/" + upper + "/slaves/" + lower_name, "sys/devices/" + lower_path);
  }

  DiskFacts Below(const std::string& path) { return LayersBelow(path, root_); }

  const fs::path root_;
};

TEST_F(LayersTest, APartitionIsOfItsWholeDevice) {
  const DiskFacts facts = Below("/var/lib/weir");
  EXPECT_EQ(facts.unseen, "");
  ASSERT_EQ(facts.mounts.size(), 1);
  EXPECT_EQ(facts.mounts[0].type, "ext4");
  EXPECT_THAT(facts.mounts[0].options, ElementsAre("rw", "relatime", "rw", "errors=remount-ro"));
  ASSERT_EQ(facts.layers.size(), 1);
  const DiskLayer& disk = facts.layers[0];
  EXPECT_EQ(disk.device, "sda");
  EXPECT_EQ(disk.model, "ST4000NM0035");
  EXPECT_EQ(disk.write_back, true);
  EXPECT_TRUE(disk.fua && disk.rotational && disk.lowest);
}

TEST_F(LayersTest, WriteThroughIsNoVolatileCache) {
  Device("nvme0n1", "259:0", "write through", "0");
  Write("proc/self/mountinfo", "30 22 259:0 / /data rw - xfs /dev/nvme0n1 rw\n");
  const DiskFacts facts = Below("/data/weir");
  ASSERT_EQ(facts.layers.size(), 1);
  EXPECT_EQ(facts.layers[0].write_back, false);
  EXPECT_FALSE(facts.layers[0].rotational);
}

TEST_F(LayersTest, TheNearestMountCountsAndOfTwoOnOnePointTheLaterOne) {
  Write("proc/self/mountinfo",
        "30 22 0:40 / /data rw - nfs4 server:/x rw\n"
        "31 22 0:41 / /data rw - tmpfs tmpfs rw\n"
        "32 22 0:42 / /with\\040space rw - ramfs none rw\n");
  EXPECT_EQ(Below("/data/weir").mounts[0].type, "tmpfs");
  EXPECT_EQ(Below("/data").mounts[0].type, "tmpfs");
  EXPECT_EQ(Below("/database").mounts[0].type, "ext4");
  EXPECT_EQ(Below("/with space/weir").mounts[0].type, "ramfs");
}

TEST_F(LayersTest, WhatADeviceMapperDeviceStandsOnIsFollowed) {
  Device("dm-1", "253:1", "write back", "0");
  Device("sdb", "8:16", "write through", "0");
  StandsOn("dm-1", "sda2", "sda/sda2");
  StandsOn("dm-1", "sdb", "sdb");
  Write("proc/self/mountinfo", "30 22 253:1 / /data rw - xfs /dev/mapper/data rw\n");
  const DiskFacts facts = Below("/data");
  ASSERT_EQ(facts.layers.size(), 3);
  EXPECT_EQ(facts.layers[0].device, "dm-1");
  EXPECT_FALSE(facts.layers[0].lowest);
  EXPECT_EQ(facts.layers[1].device, "sda");
  EXPECT_EQ(facts.layers[1].above, 0u);
  EXPECT_EQ(facts.layers[2].device, "sdb");
  EXPECT_EQ(facts.layers[2].above, 0u);
}

TEST_F(LayersTest, ALoopDeviceIsFollowedToItsFile) {
  Device("loop3", "7:3", "write back", "0");
  Write("sys/devices/loop3/loop/backing_file", "/srv/disk.img\n");
  Write("proc/self/mountinfo", "30 22 7:3 / /data rw - ext4 /dev/loop3 rw\n31 22 0:50 / /srv rw - tmpfs tmpfs rw\n");
  const DiskFacts facts = Below("/data");
  ASSERT_EQ(facts.layers.size(), 1);
  EXPECT_EQ(facts.layers[0].backing_file, "/srv/disk.img");
  EXPECT_FALSE(facts.layers[0].lowest);
  ASSERT_EQ(facts.mounts.size(), 2);
  EXPECT_EQ(facts.mounts[1].type, "tmpfs");
}

TEST_F(LayersTest, ADeviceIsFoundBySourceWhereTheKernelMadeTheNumberUp) {
  Write("dev/mapper/x", "");
  Device("sdc", "8:32", "write back", "0");
  Write("proc/self/mountinfo", "30 22 0:44 /sub /data rw - btrfs /dev/sdc rw,subvol=/sub\n");
  const DiskFacts facts = Below("/data");
  ASSERT_EQ(facts.layers.size(), 1);
  EXPECT_EQ(facts.layers[0].device, "sdc");
}

TEST_F(LayersTest, WhatCannotBeSeenIsSaid) {
  Write("proc/self/mountinfo",
        "30 22 0:44 / /tank rw - zfs tank/weir rw\n"
        "31 22 9:9 / /gone rw - ext4 /dev/gone rw\n"
        "garbage\n\n- - -\n");
  EXPECT_THAT(Below("/tank").unseen, HasSubstr("no device is to be seen below zfs on /tank"));
  EXPECT_THAT(Below("/gone").unseen, HasSubstr("device 9:9 is not to be seen in /sys"));
  fs::remove(root_ / "proc/self/mountinfo");
  EXPECT_THAT(Below("/tank").unseen, HasSubstr("no mount of /tank"));
  EXPECT_THAT(Below("/tank").mounts, IsEmpty());
}

TEST_F(LayersTest, ADeviceThatSaysNothingOfItsCacheIsNotTakenToHaveNone) {
  fs::remove(root_ / "sys/devices/sda/queue/write_cache");
  EXPECT_EQ(Below("/").layers[0].write_back, std::nullopt);
}

TEST_F(LayersTest, DevicesThatStandOnThemselvesAreLeft) {
  Device("dm-1", "253:1", "write back", "0");
  StandsOn("dm-1", "dm-1", "dm-1");
  Write("proc/self/mountinfo", "30 22 253:1 / /data rw - xfs /dev/mapper/data rw\n");
  const DiskFacts facts = Below("/data");
  EXPECT_THAT(facts.unseen, HasSubstr("too many"));
  EXPECT_LE(facts.layers.size(), 32);
}

}  // namespace
}  // namespace weir::probe
