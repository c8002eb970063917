#include "client/csi/names.h"

#include "gtest/gtest.h"

namespace weir::csi {
namespace {

TEST(NamesTest, ANameThatAVolumeCanHaveStaysAndAnyOtherLeadsToOneThatItCan) {
  EXPECT_EQ(VolumeNameOf("pvc-0a1b2c3d-1111-2222-3333-444455556666"), "pvc-0a1b2c3d-1111-2222-3333-444455556666");
  for (const std::string& name :
       {std::string("Sanity-Test A"), std::string(128, 'x'), std::string("-a"), std::string("\xc3\xa4"), std::string("a\nb")}) {
    const std::string made = VolumeNameOf(name);
    EXPECT_TRUE(IsVolumeName(made)) << made;
    EXPECT_EQ(made, VolumeNameOf(name)) << "always the same";
  }
  EXPECT_NE(VolumeNameOf("Name"), VolumeNameOf("NAME")) << "though they look alike in small letters";
  EXPECT_NE(VolumeNameOf(std::string(127, 'x')), VolumeNameOf(std::string(128, 'x')));
}

TEST(NamesTest, TheLimitsAreTheSpecifications) {
  EXPECT_TRUE(CheckName("name", std::string(128, 'x')).ok());
  EXPECT_TRUE(absl::IsInvalidArgument(CheckName("name", std::string(129, 'x'))));
  EXPECT_TRUE(absl::IsInvalidArgument(CheckName("name", "")));
  EXPECT_TRUE(CheckName("name", "a\tb\nc\rd").ok());
  EXPECT_TRUE(absl::IsInvalidArgument(CheckName("name", "a\x01")));
  EXPECT_TRUE(CheckPath("path", "/" + std::string(1000, 'x')).ok());
  EXPECT_TRUE(absl::IsInvalidArgument(CheckPath("path", "a/b")));
  EXPECT_TRUE(absl::IsInvalidArgument(CheckPath("path", "/" + std::string(5000, 'x'))));
}

TEST(NamesTest, WhatCannotBeAVolumesNameIsKnownAsSuch) {
  for (const char* name : {"", "A", "../x", "a/b", ".a", "a b"}) EXPECT_FALSE(IsVolumeName(name)) << name;
  EXPECT_FALSE(IsVolumeName(std::string(64, 'a')));
  EXPECT_TRUE(IsVolumeName(std::string(63, 'a')));
}

TEST(NamesTest, ASnapshotsIdSaysWhoseItIs) {
  EXPECT_EQ(SnapshotNameOf("pvc-1@snap-2")->volume, "pvc-1");
  EXPECT_EQ(SnapshotNameOf("pvc-1@snap-2")->snapshot, "snap-2");
  for (const char* id : {"", "pvc-1", "@", "pvc-1@", "@s", "a@b@c", "../a@b"}) {
    EXPECT_TRUE(absl::IsNotFound(SnapshotNameOf(id).status())) << id;
  }
}

TEST(NamesTest, ATokenComesBackAndAStrangersIsRefused) {
  EXPECT_EQ(*AfterOfToken(TokenAfter("pvc-1")), "pvc-1");
  EXPECT_EQ(*AfterOfToken(""), "");
  EXPECT_TRUE(absl::IsAborted(AfterOfToken("invalid-token").status()));
}

}  // namespace
}  // namespace weir::csi
