// Snapshots through the host: on every member and in the catalog, or not at all.
#include <algorithm>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "gtest/gtest.h"
#include "volume/host/testing/fixture.h"

namespace weir::host {
namespace {

class SnapshotsTest : public HostFixture {
 protected:
  std::string ReadSnapshot(const std::string& name, uint64_t offset, uint32_t length = 4096) {
    v1::ReadRequest request;
    request.set_name("demo");
    request.set_snapshot(name);
    request.set_offset_bytes(offset);
    request.set_length_bytes(length);
    absl::StatusOr<std::string> data = host_->ReadSnapshot(request);
    return data.ok() ? *data : data.status().ToString();
  }
  std::vector<std::string> Names() {
    std::vector<std::string> names;
    const auto snapshots = host_->ListSnapshots("demo");
    for (const v1::Snapshot& one : *snapshots) names.push_back(one.name());
    return names;
  }
  // How many pins each replica has.
  std::vector<size_t> PinsOnReplicas() {
    std::vector<size_t> counts;
    for (auto& replica : replicas_) counts.push_back(replica->pins().size());
    return counts;
  }
  // Who drops a pin does not wait for it; the test's time limit is the deadline.
  void AwaitPins(size_t count) {
    const auto all = [&] {
      const std::vector<size_t> counts = PinsOnReplicas();
      return std::all_of(counts.begin(), counts.end(), [&](size_t c) { return c == count; });
    };
    while (!all()) std::this_thread::yield();
  }
};

TEST_F(SnapshotsTest, OneStaysAsItIsWhileTheVolumeGoesOn) {
  StartAttached();
  EXPECT_EQ(Write(0, 'a'), 0);
  auto taken = host_->CreateSnapshot("demo", "monday");
  ASSERT_TRUE(taken.ok()) << taken.status();
  EXPECT_EQ(taken->volume(), "demo");
  EXPECT_EQ(taken->size_bytes(), kSize);
  EXPECT_EQ(taken->positions_size(), 4);
  EXPECT_EQ(PinsOnReplicas(), (std::vector<size_t>{1, 1, 1}));
  EXPECT_EQ(Write(0, 'b'), 0);
  EXPECT_EQ(Read(0), std::string(4096, 'b'));
  EXPECT_EQ(ReadSnapshot("monday", 0), std::string(4096, 'a'));
  EXPECT_EQ(ReadSnapshot("monday", 4096), std::string(4096, '\0'));
}

TEST_F(SnapshotsTest, TakingOneAgainIsTheSameOne) {
  StartAttached();
  const auto first = host_->CreateSnapshot("demo", "monday");
  EXPECT_EQ(Write(0, 'b'), 0);
  const auto again = host_->CreateSnapshot("demo", "monday");
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->id(), first->id());
  ASSERT_TRUE(host_->CreateSnapshot("demo", "tuesday").ok());
  EXPECT_EQ(Names(), (std::vector<std::string>{"monday", "tuesday"}));
  EXPECT_EQ(host_->GetVolume("demo")->snapshots_size(), 2);
}

TEST_F(SnapshotsTest, DeletingOneDropsItsPinEverywhere) {
  StartAttached();
  ASSERT_TRUE(host_->CreateSnapshot("demo", "monday").ok());
  ASSERT_TRUE(host_->CreateSnapshot("demo", "tuesday").ok());
  EXPECT_TRUE(host_->DeleteSnapshot("demo", "monday").ok());
  EXPECT_EQ(Names(), (std::vector<std::string>{"tuesday"}));
  AwaitPins(1);
  EXPECT_TRUE(absl::IsNotFound(host_->DeleteSnapshot("demo", "monday")));
  EXPECT_TRUE(absl::StartsWith(ReadSnapshot("monday", 0), "NOT_FOUND"));
}

TEST_F(SnapshotsTest, OfAVolumeThatNobodyHasItIsAttachedForAMoment) {
  StartHost();
  ASSERT_TRUE(host_->CreateVolume(CreateRequest()).ok());
  ASSERT_TRUE(host_->CreateSnapshot("demo", "monday").ok());
  EXPECT_EQ(host_->GetVolume("demo")->state(), "DETACHED");
  EXPECT_EQ(ReadSnapshot("monday", 0), std::string(4096, '\0'));
  EXPECT_TRUE(host_->DeleteSnapshot("demo", "monday").ok());
  EXPECT_EQ(host_->GetVolume("demo")->state(), "DETACHED");
}

TEST_F(SnapshotsTest, OutlivesAnAttachAndItsPinComesBackWithIt) {
  StartAttached();
  EXPECT_EQ(Write(0, 'a'), 0);
  ASSERT_TRUE(host_->CreateSnapshot("demo", "monday").ok());
  EXPECT_EQ(Write(0, 'b'), 0);
  ASSERT_TRUE(host_->Detach("demo", false).ok());
  EXPECT_EQ(ReadSnapshot("monday", 0), std::string(4096, 'a'));
  Attach();
  EXPECT_EQ(PinsOnReplicas(), (std::vector<size_t>{1, 1, 1}));
  EXPECT_EQ(ReadSnapshot("monday", 0), std::string(4096, 'a'));
  EXPECT_EQ(Read(0), std::string(4096, 'b'));
}

// All or nothing: the one that could not be told is waited for, and then nobody keeps it.
TEST_F(SnapshotsTest, IsNotTakenUnlessEveryMemberHasThePin) {
  StartAttached();
  replicas_[2]->FailUpdates(1 << 20, grpc::Status(grpc::StatusCode::UNAVAILABLE, "not now"));
  const auto refused = host_->CreateSnapshot("demo", "monday");
  EXPECT_TRUE(absl::IsDeadlineExceeded(refused.status())) << refused.status();
  EXPECT_TRUE(Names().empty());
  EXPECT_EQ(Write(0, 'a'), 0);
  replicas_[2]->FailUpdates(0, grpc::Status());
  AwaitPins(0);
  ASSERT_TRUE(host_->CreateSnapshot("demo", "monday").ok());
  EXPECT_EQ(ReadSnapshot("monday", 0), std::string(4096, 'a'));
}

TEST_F(SnapshotsTest, IsReadFromAnyReplicaThatHasIt) {
  StartAttached();
  EXPECT_EQ(Write(0, 'a'), 0);
  ASSERT_TRUE(host_->CreateSnapshot("demo", "monday").ok());
  replicas_[0]->Stop();
  replicas_[1]->Stop();
  EXPECT_EQ(ReadSnapshot("monday", 0), std::string(4096, 'a'));
}

TEST_F(SnapshotsTest, WhatCannotBeIsRefusedWithWords) {
  StartAttached();
  EXPECT_TRUE(absl::IsInvalidArgument(host_->CreateSnapshot("demo", "").status()));
  EXPECT_TRUE(absl::IsInvalidArgument(host_->CreateSnapshot("demo", "a/b").status()));
  EXPECT_TRUE(absl::IsNotFound(host_->CreateSnapshot("other", "monday").status()));
  EXPECT_TRUE(absl::IsNotFound(host_->GetSnapshot("demo", "monday").status()));
  ASSERT_TRUE(host_->CreateSnapshot("demo", "monday").ok());
  EXPECT_TRUE(absl::StartsWith(ReadSnapshot("monday", 1), "INVALID_ARGUMENT"));
  EXPECT_TRUE(absl::StartsWith(ReadSnapshot("monday", kSize), "INVALID_ARGUMENT"));
  v1::SuspendRequest suspend;
  suspend.set_name("demo");
  ASSERT_TRUE(host_->Suspend(suspend).ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(host_->CreateSnapshot("demo", "tuesday").status()));
  ASSERT_TRUE(host_->Resume("demo").ok());
  ASSERT_TRUE(host_->Detach("demo", false).ok());
  const absl::Status deleted = host_->DeleteVolume("demo");
  EXPECT_TRUE(absl::IsFailedPrecondition(deleted));
  EXPECT_TRUE(absl::StrContains(deleted.message(), "monday")) << deleted;
}

}  // namespace
}  // namespace weir::host
