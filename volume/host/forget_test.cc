// Replicas that are gone for ever, and are taken off the catalog.
#include <memory>
#include <string>

#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "volume/catalog/catalog.h"
#include "volume/host/provision.h"
#include "volume/host/testing/fixture.h"

namespace weir::host {
namespace {

using ::testing::HasSubstr;

class ForgetTest : public HostFixture {
 protected:
  void SetUp() override {
    replicas_.push_back(std::make_unique<FakeReplica>("r4"));
    StartHost();
    v1::CreateVolumeRequest request = CreateRequest();
    for (const char* name : {"r1", "r2", "r3"}) request.add_replicas(name);
    ASSERT_TRUE(host_->CreateVolume(request).ok());
  }
  size_t Known() { return host_->ListReplicas()->size(); }
  void ExpectRefused(const std::string& name, const std::string& why) {
    const absl::Status refused = host_->ForgetReplica(name);
    EXPECT_TRUE(absl::IsFailedPrecondition(refused)) << refused;
    EXPECT_THAT(refused.message(), HasSubstr(why));
    EXPECT_EQ(Known(), 4u);
  }
};

TEST_F(ForgetTest, OneThatLivesOrIsAMemberIsNot) {
  EXPECT_TRUE(absl::IsNotFound(host_->ForgetReplica("r9")));
  EXPECT_TRUE(absl::IsNotFound(host_->ForgetReplica("")));
  ExpectRefused("r4", "it answers; stop it first");
  replicas_[2]->Stop();
  ExpectRefused("r3", "is a member of demo");
  replicas_[3]->Stop();
  EXPECT_TRUE(host_->ForgetReplica("r4").ok());
  EXPECT_EQ(Known(), 3u);
  EXPECT_TRUE(absl::IsNotFound(host_->ForgetReplica("r4")));
}

TEST_F(ForgetTest, OneThatHasJustRegisteredItselfIsNot) {
  const std::string catalog = Options().catalog;
  host_.reset();
  auto opened = catalog::Catalog::Open(catalog);
  ASSERT_TRUE(opened.ok()) << opened.status();
  catalog::VersionedReplica known = *(*opened)->GetReplica("r4");
  known.record.set_alive_until_ms(static_cast<uint64_t>(absl::ToUnixMillis(absl::Now() + absl::Hours(1))));
  auto revision = (*opened)->PutReplica(known.record, known.revision);
  ASSERT_TRUE(revision.ok());
  replicas_[3]->Stop();
  EXPECT_THAT(Provision(opened->get()).Forget("r4").message(), HasSubstr("has just registered itself"));
  known.record.set_alive_until_ms(1);
  ASSERT_TRUE((*opened)->PutReplica(known.record, *revision).ok());
  EXPECT_TRUE(Provision(opened->get()).Forget("r4").ok());
}

TEST_F(ForgetTest, WhatAForgottenMemberHadIsNotWaitedFor) {
  using Left = engine::Deletion::Left;
  replicas_[3]->Stop();
  host_.reset();
  auto opened = catalog::Catalog::Open(Options().catalog);
  ASSERT_TRUE(opened.ok()) << opened.status();
  Provision provision(opened->get());
  const auto left = [&provision](const std::string& replica, const std::string& address) {
    v1::FormerMember former;
    former.set_replica(replica);
    former.set_address(address);
    former.set_store_id("another one");
    return provision.FindLeftover(v1::VolumeRecord(), former)->left;
  };
  EXPECT_EQ(left("r4", replicas_[3]->address()), Left::kUnknown);
  ASSERT_TRUE(provision.Forget("r4").ok());
  EXPECT_EQ(left("r4", replicas_[3]->address()), Left::kNothing);
  // Another one has its address by now.
  EXPECT_EQ(left("r4", replicas_[2]->address()), Left::kNothing);
  catalog::VersionedReplica r1 = *(*opened)->GetReplica("r1");
  r1.record.set_address(replicas_[2]->address());
  ASSERT_TRUE((*opened)->PutReplica(r1.record, r1.revision).ok());
  EXPECT_EQ(left("r1", replicas_[2]->address()), Left::kUnknown) << "it is not forgotten";
}

TEST_F(ForgetTest, AMembersOldDiskIsNotWaitedForWhenItsVolumeIsDeleted) {
  replicas_[1]->ReplaceDisk();
  const absl::Status deleted = host_->DeleteVolume("demo");
  EXPECT_TRUE(deleted.ok()) << deleted;
  EXPECT_FALSE(replicas_[0]->HasVolume() || replicas_[2]->HasVolume());
  EXPECT_TRUE(host_->ListVolumes()->empty());
}

TEST_F(ForgetTest, AMemberThatIsGoneForEverIsForgottenWhenItsVolumeIsDeleted) {
  replicas_[2]->Stop();
  ASSERT_TRUE(absl::IsFailedPrecondition(host_->ForgetReplica("r3")));
  const absl::Status waits = host_->DeleteVolume("demo");
  EXPECT_TRUE(absl::IsUnavailable(waits)) << waits;
  EXPECT_THAT(waits.message(), HasSubstr("weirctl replica forget r3"));
  EXPECT_TRUE(host_->ForgetReplica("r3").ok());
  EXPECT_TRUE(host_->DeleteVolume("demo").ok());
  EXPECT_FALSE(replicas_[0]->HasVolume() || replicas_[1]->HasVolume());
  EXPECT_TRUE(host_->ListVolumes()->empty());
}

}  // namespace
}  // namespace weir::host
