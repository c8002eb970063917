#include "client/csi/use.h"

#include "gtest/gtest.h"

namespace weir::csi {
namespace {

using AccessMode = v1csi::VolumeCapability::AccessMode;

v1csi::VolumeCapability Mounted(const std::string& fs_type, AccessMode::Mode mode = AccessMode::SINGLE_NODE_WRITER) {
  v1csi::VolumeCapability capability;
  capability.mutable_mount()->set_fs_type(fs_type);
  capability.mutable_access_mode()->set_mode(mode);
  return capability;
}

TEST(UseTest, WhatIsIncompleteIsInvalidAndWhatWeCannotDoIsUnimplemented) {
  v1csi::VolumeCapability capability;
  EXPECT_TRUE(absl::IsInvalidArgument(UseOf(capability).status()));
  capability.mutable_block();
  EXPECT_TRUE(absl::IsInvalidArgument(UseOf(capability).status())) << "no mode";
  capability.mutable_access_mode();
  EXPECT_TRUE(absl::IsInvalidArgument(UseOf(capability).status())) << "mode UNKNOWN";
  capability.mutable_access_mode()->set_mode(AccessMode::SINGLE_NODE_WRITER);
  EXPECT_TRUE(UseOf(capability).ok());
  capability.clear_access_type();
  EXPECT_TRUE(absl::IsInvalidArgument(UseOf(capability).status())) << "neither block nor mount";
  for (const auto mode : {AccessMode::MULTI_NODE_READER_ONLY, AccessMode::MULTI_NODE_SINGLE_WRITER,
                          AccessMode::MULTI_NODE_MULTI_WRITER}) {
    EXPECT_TRUE(absl::IsUnimplemented(UseOf(Mounted("", mode)).status()));
  }
  EXPECT_TRUE(absl::IsUnimplemented(UseOf(Mounted("ntfs")).status()));
}

TEST(UseTest, NoFileSystemMeansExt4) {
  EXPECT_EQ(UseOf(Mounted(""))->fs_type, "ext4");
  EXPECT_EQ(UseOf(Mounted(""))->ToText(), UseOf(Mounted("ext4"))->ToText());
  EXPECT_EQ(UseOf(Mounted("xfs"))->kind(), "mount xfs");
}

TEST(UseTest, FlagsAreToldApartWhateverIsInThem) {
  v1csi::VolumeCapability one = Mounted("ext4"), two = Mounted("ext4");
  one.mutable_mount()->add_mount_flags("a 1:b");
  two.mutable_mount()->add_mount_flags("a");
  two.mutable_mount()->add_mount_flags("b");
  EXPECT_NE(UseOf(one)->ToText(), UseOf(two)->ToText());
  one.mutable_mount()->add_mount_flags(std::string(5000, 'x'));
  EXPECT_TRUE(absl::IsInvalidArgument(UseOf(one).status()));
  two.mutable_mount()->add_mount_flags("");
  EXPECT_TRUE(absl::IsInvalidArgument(UseOf(two).status()));
}

TEST(UseTest, AGroupIsANumber) {
  v1csi::VolumeCapability capability = Mounted("ext4");
  capability.mutable_mount()->set_volume_mount_group("staff");
  EXPECT_TRUE(absl::IsInvalidArgument(UseOf(capability).status()));
  capability.mutable_mount()->set_volume_mount_group("1234");
  EXPECT_EQ(UseOf(capability)->mount_group, "1234");
}

TEST(UseTest, OneThatCannotBeDoneSpoilsAll) {
  v1csi::CreateVolumeRequest request;
  EXPECT_TRUE(absl::IsInvalidArgument(UsesOf(request.volume_capabilities()).status())) << "none";
  *request.add_volume_capabilities() = Mounted("ext4");
  EXPECT_EQ(UsesOf(request.volume_capabilities())->size(), 1u);
  *request.add_volume_capabilities() = Mounted("ext4", AccessMode::MULTI_NODE_MULTI_WRITER);
  EXPECT_TRUE(absl::IsInvalidArgument(UsesOf(request.volume_capabilities()).status()));
}

}  // namespace
}  // namespace weir::csi
