#include "proto/wire/access.h"

#include <cstdint>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "weir/v1/replica.pb.h"
#include "weir/v1/volume.pb.h"

namespace weir::wire {
namespace {

TEST(AccessTest, RolesAreTheUrisOfOurScheme) {
  EXPECT_EQ(RolesOf({}), 0u);
  EXPECT_EQ(RolesOf({"weir://admin"}), kAdmin);
  EXPECT_EQ(RolesOf({"weir://frontend/node-7", "spiffe://x/admin", "weir://viewer"}), kFrontend | kViewer);
  EXPECT_EQ(RolesOf({"weir://adminx", "weir://", "weir:admin", "WEIR://admin", "admin"}), 0u);
}

TEST(AccessTest, EveryMethodHasOneRuleAndEveryRuleAMethod) {
  std::set<std::string> methods;
  for (const auto* file : {v1::VolumeOpened::descriptor()->file(), v1::GetReplicaRequest::descriptor()->file()}) {
    for (int s = 0; s < file->service_count(); ++s) {
      const auto* service = file->service(s);
      for (int i = 0; i < service->method_count(); ++i) {
        methods.insert(absl::StrCat("/", service->full_name(), "/", service->method(i)->name()));
      }
    }
  }
  EXPECT_GE(methods.size(), 50u);
  EXPECT_THAT(RuledMethods(), testing::UnorderedElementsAreArray(methods));
}

TEST(AccessTest, AdminsMayCallEverythingAndNobodyElseWhatIsNotKnown) {
  for (const std::string& method : RuledMethods()) EXPECT_NE(Allowed(method) & kAdmin, 0u) << method;
  EXPECT_EQ(Allowed("/weir.v1.VolumeService/Destroy"), kAdmin);
  EXPECT_EQ(Allowed(""), kAdmin);
}

TEST(AccessTest, OnlyFrontendsAndAdminsGetAtAReplicasData) {
  for (const char* method : {"Io", "ReadTail", "AdoptTail", "ReadPinned", "ReadVersions", "CopyIn", "Seal"}) {
    EXPECT_EQ(Allowed(absl::StrCat("/weir.v1.ReplicaService/", method)), kAdmin | kFrontend) << method;
  }
}

TEST(AccessTest, ADriverReadsAndWritesOnlyIfItsCertificateIsAClientsToo) {
  const Roles driver = RolesOf({"weir://csi/node1"}), node = RolesOf({"weir://csi/node1", "weir://client/node1"});
  for (const char* name : {"Io", "Read", "Write", "WriteZeroes", "Discard", "Barrier", "Flush"}) {
    const Roles allowed = Allowed(absl::StrCat("/weir.v1.VolumeService/", name));
    EXPECT_EQ(allowed & driver, 0u) << name;
    EXPECT_NE(allowed & node, 0u) << name;
  }
}

TEST(AccessTest, AFrontendIsForTheVolumesThatItsUrisName) {
  const VolumeGrant some = VolumeGrant::Of({"weir://frontend/fe1/volume/7", "weir://viewer/x",
                                            "weir://frontend/fe1/volume/18446744073709551615"});
  EXPECT_TRUE(some.Covers(7));
  EXPECT_TRUE(some.Covers(UINT64_MAX));
  EXPECT_FALSE(some.Covers(8));
  EXPECT_FALSE(some.Covers(0));
  EXPECT_TRUE(some.Check(7).ok());
  EXPECT_EQ(some.CheckAll().code(), absl::StatusCode::kPermissionDenied);
  EXPECT_EQ(some.Check(8).code(), absl::StatusCode::kPermissionDenied);
  EXPECT_THAT(std::string(some.Check(8).message()), testing::HasSubstr("not for volume 8 but for 2 others"));
}

TEST(AccessTest, AFrontendWithoutVolumesAndAnAdminAreForAll) {
  EXPECT_TRUE(VolumeGrant().Covers(7));
  EXPECT_TRUE(VolumeGrant().CheckAll().ok());
  EXPECT_TRUE(VolumeGrant::Of({"weir://frontend"}).Covers(7));
  EXPECT_TRUE(VolumeGrant::Of({"weir://frontend/fe1"}).Covers(7));
  EXPECT_TRUE(VolumeGrant::Of({"weir://frontend/fe1/volume/8", "weir://admin/me"}).Covers(7));
}

TEST(AccessTest, WhatIsNotUnderstoodGrantsNoVolume) {
  EXPECT_FALSE(VolumeGrant::Of({}).Covers(7));
  EXPECT_FALSE(VolumeGrant::Of({"weir://client/x", "spiffe://frontend/fe1", "weir://frontendx/y"}).Covers(7));
  for (const char* uri : {"weir://frontend/fe1/", "weir://frontend/fe1/volume", "weir://frontend/fe1/volume/",
                          "weir://frontend/fe1/volume/demo", "weir://frontend/fe1/volume/7/8",
                          "weir://frontend/fe1/volume/-7", "weir://frontend/fe1/volumes/7",
                          "weir://frontend/fe1/volume/18446744073709551616"}) {
    EXPECT_FALSE(VolumeGrant::Of({uri}).Covers(7)) << uri;
  }
}

TEST(AccessTest, AViewerChangesNothing) {
  for (const std::string& method : RuledMethods()) {
    if ((Allowed(method) & kViewer) == 0) continue;
    EXPECT_THAT(method, testing::ContainsRegex("/(List|Get|Explain|Trace)"));
  }
}

TEST(AccessTest, HealthAndReflectionAreForAll) {
  EXPECT_TRUE(IsForAll("/grpc.health.v1.Health/Check"));
  EXPECT_TRUE(IsForAll("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"));
  EXPECT_FALSE(IsForAll("/weir.v1.VolumeService/ListVolumes"));
}

}  // namespace
}  // namespace weir::wire
