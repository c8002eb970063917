#include "client/csi/mounts.h"

#include <sys/sysmacros.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace weir::csi {
namespace {

constexpr char kTable[] =
    "25 1 253:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard\n"
    "60 25 7:3 / /a\\040b/\\134 ro,nosuid - xfs /dev/loop3 rw,attr2\n"
    "61 25 0:5 /loop3 /target rw,nosuid shared:2 master:1 - devtmpfs devtmpfs rw,size=1k\n"
    "62 25 7:4 / /target ro - ext4 /dev/loop4 ro,noload\n"
    "broken\n"
    "63 25 7:x / /y rw - ext4 /dev/loop5 rw\n";

TEST(MountsTest, TheTableIsReadWithAllThatMayBeInIt) {
  const std::vector<Mount> mounts = ParseMountinfo(kTable);
  ASSERT_EQ(mounts.size(), 4u);
  EXPECT_EQ(mounts[1].mount_point, "/a b/\\");
  EXPECT_EQ(mounts[1].device, makedev(7, 3));
  EXPECT_TRUE(mounts[1].read_only);
  EXPECT_FALSE(mounts[1].read_only_super);
  EXPECT_EQ(mounts[1].source, "/dev/loop3");
  EXPECT_EQ(mounts[2].root, "/loop3");
  EXPECT_EQ(mounts[2].fs_type, "devtmpfs");
  EXPECT_TRUE(mounts[3].read_only_super);
}

TEST(MountsTest, WhatIsSeenAtAPathIsTheLastThatWasMountedThere) {
  const std::vector<Mount> mounts = ParseMountinfo(kTable);
  EXPECT_EQ(MountAt(mounts, "/target")->device, makedev(7, 4));
  EXPECT_FALSE(MountAt(mounts, "/tar").has_value());
  EXPECT_FALSE(MountAt({}, "/").has_value());
}

TEST(MountsTest, OnlyWhatAMountHasStoodOnIsRemoved) {
  const std::string dir = absl::StrCat(testing::TempDir(), "/mounts_", ::getpid());
  std::filesystem::create_directories(dir + "/full/x");
  std::filesystem::create_directories(dir + "/empty");
  std::ofstream(dir + "/file") << "";
  std::ofstream(dir + "/data") << "data";
  EXPECT_TRUE(RemoveMountPoint(dir + "/absent").ok());
  EXPECT_TRUE(RemoveMountPoint(dir + "/data/below").ok());
  EXPECT_TRUE(RemoveMountPoint(dir + "/empty").ok());
  EXPECT_TRUE(RemoveMountPoint(dir + "/file").ok());
  EXPECT_FALSE(RemoveMountPoint(dir + "/full").ok());
  EXPECT_FALSE(RemoveMountPoint(dir + "/data").ok());
  EXPECT_TRUE(std::filesystem::exists(dir + "/full/x"));
  EXPECT_TRUE(std::filesystem::exists(dir + "/data"));
  EXPECT_FALSE(std::filesystem::exists(dir + "/file"));
  EXPECT_TRUE(UnmountAll(dir).ok()) << "nothing is mounted there";
  std::filesystem::remove_all(dir);
}

}  // namespace
}  // namespace weir::csi
