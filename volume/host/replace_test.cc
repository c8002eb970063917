// A member's place is given to another replica: what that is asked, and what is left where it is cut short.
#include <memory>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "volume/host/testing/fixture.h"

namespace weir::host {
namespace {

using ::testing::HasSubstr;

constexpr absl::Duration kPatience = absl::Seconds(20);

class ReplaceTest : public HostFixture {
 protected:
  void SetUp() override {
    for (const char* name : {"r4", "r5"}) replicas_.push_back(std::make_unique<FakeReplica>(name));
    StartHost();
    v1::CreateVolumeRequest request = CreateRequest();
    for (const char* name : {"r1", "r2", "r3"}) request.add_replicas(name);
    ASSERT_TRUE(host_->CreateVolume(request).ok());
    Attach();
  }
  absl::StatusOr<v1::ReplaceMemberResponse> Replace(const std::string& with) {
    v1::ReplaceMemberRequest request;
    request.set_name("demo");
    request.set_replica("r3");
    request.set_with(with);
    return host_->ReplaceMember(request);
  }
  std::string Explained() { return host_->Explain("demo")->ShortDebugString(); }
};

TEST_F(ReplaceTest, AReplicaThatHasChangedVolumesSinceIsAskedAgain) {
  replicas_[3]->ChangeVolumesFirst(3);
  const auto replaced = Replace("r4");
  ASSERT_TRUE(replaced.ok()) << replaced.status();
  EXPECT_THAT(Explained(), HasSubstr("replica r3 is no member"));
  EXPECT_THAT(Explained(), ::testing::Not(HasSubstr("replica r4 is no member")));
}

TEST_F(ReplaceTest, WhatIsCutShortIsKnownAndDeletedByItself) {
  replicas_[3]->ChangeVolumesFirst(1000);
  EXPECT_TRUE(absl::IsAborted(Replace("r4").status()));
  replicas_[3]->ChangeVolumesFirst(0);
  // It may be gone by now.
  const absl::Time until = absl::Now() + kPatience;
  while (absl::StrContains(Explained(), "is no member") && absl::Now() < until) absl::SleepFor(absl::Milliseconds(20));
  EXPECT_THAT(Explained(), ::testing::Not(HasSubstr("is no member")));
  EXPECT_TRUE(Replace("r4").ok());
}

TEST_F(ReplaceTest, WhereOneCannotMakeTheVolumeAnotherOneIsTried) {
  replicas_[3]->FailNextAdministration(grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED, "no space"));
  const auto replaced = Replace("");
  ASSERT_TRUE(replaced.ok()) << replaced.status();
  EXPECT_EQ(replaced->with(), "r5");
  replicas_[3]->FailNextAdministration(grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED, "no space"));
  v1::ReplaceMemberRequest request;
  request.set_name("demo");
  request.set_replica("r2");
  request.set_with("r4");
  EXPECT_THAT(host_->ReplaceMember(request).status().message(), HasSubstr("no space"));
}

}  // namespace
}  // namespace weir::host
