// Volumes that grow while clients go on.
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "gtest/gtest.h"
#include "volume/host/testing/fixture.h"

namespace weir::host {
namespace {

class ExpandTest : public HostFixture {
 protected:
  std::vector<uint64_t> SizesOnReplicas() {
    std::vector<uint64_t> sizes;
    for (auto& replica : replicas_) sizes.push_back(replica->size_bytes());
    return sizes;
  }
};

TEST_F(ExpandTest, ClientsGoOnAndFindTheNewPartEmpty) {
  StartAttached();
  EXPECT_EQ(Write(0, 'a'), 0);
  EXPECT_NE(Write(kSize, 'b'), 0);
  const auto grown = host_->ExpandVolume("demo", 2 * kSize);
  ASSERT_TRUE(grown.ok()) << grown.status();
  EXPECT_EQ(grown->size_bytes(), 2 * kSize);
  EXPECT_EQ(SizesOnReplicas(), (std::vector<uint64_t>(3, 2 * kSize)));
  EXPECT_EQ(volume_->size_bytes(), 2 * kSize);
  EXPECT_EQ(Read(kSize), std::string(4096, '\0'));
  EXPECT_EQ(Write(2 * kSize - 4096, 'b'), 0);
  EXPECT_EQ(Read(0), std::string(4096, 'a'));
  ASSERT_TRUE(host_->Detach("demo", false).ok());
  Attach();
  EXPECT_EQ(volume_->size_bytes(), 2 * kSize);
  EXPECT_EQ(Read(2 * kSize - 4096), std::string(4096, 'b'));
}

TEST_F(ExpandTest, TheSameSizeAgainIsFineAndASmallerOneRefused) {
  StartAttached();
  ASSERT_TRUE(host_->ExpandVolume("demo", 2 * kSize).ok());
  EXPECT_TRUE(host_->ExpandVolume("demo", 2 * kSize).ok());
  const absl::Status shrunk = host_->ExpandVolume("demo", kSize).status();
  EXPECT_TRUE(absl::IsInvalidArgument(shrunk));
  EXPECT_TRUE(absl::StrContains(shrunk.message(), "does not shrink")) << shrunk;
  EXPECT_TRUE(absl::IsInvalidArgument(host_->ExpandVolume("demo", 2 * kSize + 1).status()));
  EXPECT_TRUE(absl::IsNotFound(host_->ExpandVolume("other", kSize).status()));
}

TEST_F(ExpandTest, WhatNotEveryMemberHasIsNotThere) {
  StartAttached();
  replicas_[1]->FailUpdates(1 << 20, grpc::Status(grpc::StatusCode::UNAVAILABLE, "not now"));
  EXPECT_TRUE(absl::IsDeadlineExceeded(host_->ExpandVolume("demo", 2 * kSize).status()));
  EXPECT_EQ(host_->GetVolume("demo")->size_bytes(), kSize);
  EXPECT_EQ(volume_->size_bytes(), kSize);
  replicas_[1]->FailUpdates(0, grpc::Status());
  EXPECT_TRUE(host_->ExpandVolume("demo", 2 * kSize).ok());
}

TEST_F(ExpandTest, AVolumeThatNobodyHasGrowsToo) {
  StartHost();
  ASSERT_TRUE(host_->CreateVolume(CreateRequest()).ok());
  ASSERT_TRUE(host_->ExpandVolume("demo", 2 * kSize).ok());
  EXPECT_EQ(host_->GetVolume("demo")->state(), "DETACHED");
  EXPECT_EQ(host_->GetVolume("demo")->size_bytes(), 2 * kSize);
}

}  // namespace
}  // namespace weir::host
