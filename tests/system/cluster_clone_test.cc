// Clones and restores, with real replicas: neither a clone nor its parent ever sees what is written to the other.
#include <atomic>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/system/cluster_fixture.h"

namespace weir::testing {
namespace {

class ClusterCloneTest : public ClusterTest {
 protected:
  Client& client() { return cluster_->client(); }
  absl::StatusOr<v1::Volume> Clone(const std::string& name, const std::string& source,
                                   const std::string& snapshot = "", uint64_t size = 0) {
    v1::CloneVolumeRequest request;
    request.set_name(name);
    request.set_source(source);
    request.set_snapshot(snapshot);
    request.set_size_bytes(size);
    return client().CloneVolume(request);
  }
  std::unique_ptr<Volume> Open(const std::string& name) {
    auto volume = client().OpenVolume(name);
    EXPECT_TRUE(volume.ok()) << volume.status();
    return volume.ok() ? *std::move(volume) : nullptr;
  }
  static void WriteAll(Volume& volume, char c, size_t blocks, size_t from = 0) {
    for (size_t i = from; i < blocks; ++i) {
      ASSERT_TRUE(volume.Write(i * 4096, Blocks(static_cast<char>(c + i % 20))).ok()) << i;
    }
  }
  static void ExpectAll(Volume& volume, char c, size_t blocks, size_t from = 0) {
    auto data = volume.Read(from * 4096, static_cast<uint32_t>((blocks - from) * 4096));
    ASSERT_TRUE(data.ok()) << data.status();
    for (size_t b = from; b < blocks; ++b) {
      EXPECT_TRUE(data->substr((b - from) * 4096, 4096) == Blocks(static_cast<char>(c + b % 20)))
          << "block " << b;
    }
  }
  absl::Status Flatten(const std::string& name) {
    v1::FlattenVolumeResponse response;
    while (!response.done()) {
      auto step = client().FlattenVolume(name, response.next_bytes());
      if (!step.ok()) return step.status();
      response = *step;
    }
    return absl::OkStatus();
  }
};

TEST_F(ClusterCloneTest, EachGoesItsOwnWay) {
  Start(QuietOptions());
  WriteAll(*volume_, 'a', 100);
  ASSERT_TRUE(client().CreateSnapshot("demo", "monday").ok());
  WriteAll(*volume_, 'b', 50);
  auto cloned = Clone("copy", "demo", "monday", 2 * kSizeBytes);
  ASSERT_TRUE(cloned.ok()) << cloned.status();
  EXPECT_EQ(cloned->parent(), "demo@monday");
  EXPECT_EQ(Clone("copy", "demo", "monday", 2 * kSizeBytes)->id(), cloned->id());
  auto copy = Open("copy");
  ASSERT_NE(copy, nullptr);
  ExpectAll(*copy, 'a', 100);
  ExpectAll(*volume_, 'b', 50);
  WriteAll(*copy, 'c', 20);
  ASSERT_TRUE(copy->Discard(30 * 4096, 10 * 4096).ok());
  ASSERT_TRUE(copy->WriteZeroes(40 * 4096, 10 * 4096).ok());
  WriteAll(*volume_, 'd', 100);
  ExpectAll(*copy, 'c', 20);
  ExpectAll(*copy, 'a', 30, 20);
  ExpectAll(*copy, 'a', 100, 50);
  EXPECT_TRUE(*copy->Read(30 * 4096, 20 * 4096) == Blocks('\0', 20));
  EXPECT_TRUE(*copy->Read(kSizeBytes, 4096) == Blocks('\0'));
  ExpectAll(*volume_, 'd', 100);
  // A clone's snapshot, and a clone of that.
  ASSERT_TRUE(client().CreateSnapshot("copy", "inner").ok());
  WriteAll(*copy, 'e', 100);
  ASSERT_TRUE(Clone("second", "copy", "inner").ok());
  auto second = Open("second");
  ExpectAll(*second, 'c', 20);
  ExpectAll(*second, 'a', 100, 50);
  EXPECT_TRUE(*second->Read(30 * 4096, 20 * 4096) == Blocks('\0', 20));
}

TEST_F(ClusterCloneTest, AVolumeAsItIsNow) {
  Start(QuietOptions());
  WriteAll(*volume_, 'a', 40);
  ASSERT_TRUE(Clone("copy", "demo").ok());
  WriteAll(*volume_, 'b', 40);
  auto copy = Open("copy");
  ExpectAll(*copy, 'a', 40);
  EXPECT_TRUE(client().ListSnapshots("demo")->empty());
  // Whoever is read from does not vanish.
  volume_.reset();
  ASSERT_TRUE(client().Detach("demo").ok());
  const absl::Status deleted = client().DeleteVolume("demo");
  EXPECT_TRUE(absl::IsFailedPrecondition(deleted));
  EXPECT_TRUE(absl::StrContains(deleted.message(), "copy")) << deleted;
  copy.reset();
  ASSERT_TRUE(client().Detach("copy").ok());
  ASSERT_TRUE(client().DeleteVolume("copy").ok());
  EXPECT_TRUE(client().DeleteVolume("demo").ok());
}

TEST_F(ClusterCloneTest, ASnapshotWithClonesIsNotDeletedUntilTheyAreFlat) {
  Start(QuietOptions());
  WriteAll(*volume_, 'a', 600);
  ASSERT_TRUE(client().CreateSnapshot("demo", "monday").ok());
  ASSERT_TRUE(Clone("copy", "demo", "monday").ok());
  const absl::Status refused = client().DeleteSnapshot("demo", "monday");
  EXPECT_TRUE(absl::IsFailedPrecondition(refused));
  EXPECT_TRUE(absl::StrContains(refused.message(), "copy")) << refused;
  auto copy = Open("copy");
  WriteAll(*copy, 'b', 10);
  ASSERT_TRUE(copy->Discard(20 * 4096, 10 * 4096).ok());
  // While a client writes: what it has written is never overwritten.
  std::atomic<bool> stop{false};
  std::thread writer([&] {
    for (char c = 'c'; !stop; c = c == 'k' ? 'c' : static_cast<char>(c + 1)) {
      WriteAll(*copy, c, 520, 500);
      ExpectAll(*copy, c, 520, 500);
    }
  });
  const absl::Status flat = Flatten("copy");
  stop = true;
  writer.join();
  ASSERT_TRUE(flat.ok()) << flat;
  EXPECT_EQ(client().GetVolume("copy")->parent(), "");
  ASSERT_TRUE(client().DeleteSnapshot("demo", "monday").ok());
  ExpectAll(*copy, 'b', 10);
  ExpectAll(*copy, 'a', 20, 10);
  EXPECT_TRUE(*copy->Read(20 * 4096, 10 * 4096) == Blocks('\0', 10));
  ExpectAll(*copy, 'a', 500, 30);
  EXPECT_TRUE(*copy->Read(700 * 4096, 4096) == Blocks('\0'));
  ASSERT_TRUE(Flatten("copy").ok());
}

TEST_F(ClusterCloneTest, WhoeverBeginsAFlatteningElsewhereThanAtTheStartLosesNothing) {
  constexpr uint64_t kStep = 64 << 20;  // of a call
  Start(QuietOptions());
  WriteAll(*volume_, 'a', 100);
  ASSERT_TRUE(client().CreateSnapshot("demo", "monday").ok());
  ASSERT_TRUE(Clone("copy", "demo", "monday", 3 * kStep).ok());
  auto copy = Open("copy");
  for (const uint64_t copied : {kStep, 2 * kStep}) {
    auto step = client().FlattenVolume("copy", 3 * kStep);
    ASSERT_TRUE(step.ok()) << step.status();
    EXPECT_FALSE(step->done());
    EXPECT_EQ(step->next_bytes(), copied);
  }
  // What was copied before an attach nobody knows of after it.
  copy.reset();
  ASSERT_TRUE(client().Detach("copy").ok());
  copy = Open("copy");
  EXPECT_EQ(client().FlattenVolume("copy", 2 * kStep)->next_bytes(), kStep);
  EXPECT_EQ(client().GetVolume("copy")->parent(), "demo@monday");
  ASSERT_TRUE(Flatten("copy").ok());
  EXPECT_EQ(client().GetVolume("copy")->parent(), "");
  ASSERT_TRUE(client().DeleteSnapshot("demo", "monday").ok());
  ExpectAll(*copy, 'a', 100);
}

TEST_F(ClusterCloneTest, AReplicaThatIsAwayIsNotMissed) {
  Start(QuietOptions());
  WriteAll(*volume_, 'a', 40);
  ASSERT_TRUE(client().CreateSnapshot("demo", "monday").ok());
  ASSERT_TRUE(Clone("copy", "demo", "monday").ok());
  auto copy = Open("copy");
  cluster_->StopReplica(0);
  ExpectAll(*copy, 'a', 40);
  ASSERT_TRUE(copy->Write(0, Blocks('x')).ok());
  ASSERT_TRUE(cluster_->StartReplica(0).ok());
  cluster_->StopReplica(1);
  ExpectAll(*copy, 'a', 40, 1);
  ASSERT_TRUE(cluster_->StartReplica(1).ok());
}

// A volume, a clone of it and a clone of that, on a replica each.
TEST_F(ClusterCloneTest, WhatNoReplicaOfAParentCanBeAskedForIsWaitedFor) {
  Start(QuietOptions());
  v1::CreateVolumeRequest create;
  create.set_name("base");
  create.set_size_bytes(1 << 20);
  create.add_replicas("replica1");
  create.set_min_in_sync(1);
  ASSERT_TRUE(client().CreateVolume(create).ok());
  WriteAll(*Open("base"), 'a', 40);
  std::string source = "base";
  for (const auto& [name, replica] : {std::pair("middle", "replica2"), std::pair("copy", "replica3")}) {
    v1::CloneVolumeRequest clone;
    clone.set_name(name);
    clone.set_source(source);
    clone.add_replicas(replica);
    clone.set_min_in_sync(1);
    const auto made = client().CloneVolume(clone);
    ASSERT_TRUE(made.ok()) << made.status();
    if (source == "base") WriteAll(*Open(name), 'k', 20);
    source = name;
  }
  auto copy = Open("copy");
  ExpectAll(*copy, 'k', 20);
  ExpectAll(*copy, 'a', 40, 20);
  cluster_->StopReplica(0);
  std::atomic<bool> read = false;
  std::thread reader([&] {
    ExpectAll(*copy, 'a', 40, 20);
    read = true;
  });
  const auto waits = [&] {
    const auto explained = client().Explain("copy");
    return explained.ok() && absl::StrContains(explained->DebugString(), "no replica can be asked that has what the clone reads");
  };
  while (!waits()) std::this_thread::yield();  // the test's time limit is the deadline
  EXPECT_FALSE(read);
  ExpectAll(*copy, 'k', 20);  // what a nearer one has waits for nobody
  ASSERT_TRUE(cluster_->StartReplica(0).ok());
  reader.join();
  cluster_->StopReplica(1);
  ASSERT_TRUE(copy->Write(0, Blocks('x')).ok());
  EXPECT_EQ(copy->Read(0, 4096).value_or(""), Blocks('x'));
  ASSERT_TRUE(cluster_->StartReplica(1).ok());
  ExpectAll(*copy, 'k', 20, 1);
}

TEST_F(ClusterCloneTest, ARestoreIsExactAndOtherSnapshotsStay) {
  Start(QuietOptions());
  WriteAll(*volume_, 'a', 100);
  ASSERT_TRUE(volume_->Discard(90 * 4096, 5 * 4096).ok());
  ASSERT_TRUE(client().CreateSnapshot("demo", "monday").ok());
  WriteAll(*volume_, 'b', 300, 50);
  ASSERT_TRUE(client().CreateSnapshot("demo", "tuesday").ok());
  ASSERT_TRUE(volume_->Discard(0, 20 * 4096).ok());
  volume_.reset();
  ASSERT_TRUE(client().Detach("demo").ok());
  auto restored = client().RestoreVolume("demo", "monday");
  ASSERT_TRUE(restored.ok()) << restored.status();
  EXPECT_EQ(*restored, 270u * 4096);
  volume_ = Open("demo");
  ExpectAll(*volume_, 'a', 90);
  ExpectAll(*volume_, 'a', 100, 95);
  EXPECT_TRUE(*volume_->Read(90 * 4096, 5 * 4096) == Blocks('\0', 5));
  EXPECT_TRUE(*volume_->Read(100 * 4096, 200 * 4096) == Blocks('\0', 200));
  auto other = client().ReadSnapshot("demo", "tuesday", 60 * 4096, 4096);
  ASSERT_TRUE(other.ok());
  EXPECT_TRUE(*other == Blocks('b'));
  EXPECT_EQ(client().GetVolume("demo")->snapshots_size(), 2);
}

TEST_F(ClusterCloneTest, ASuspendedVolumeIsRestoredUnderItsClients) {
  Start(QuietOptions());
  WriteAll(*volume_, 'a', 100);
  ASSERT_TRUE(client().CreateSnapshot("demo", "monday").ok());
  WriteAll(*volume_, 'b', 300, 50);
  ASSERT_TRUE(volume_->Discard(0, 20 * 4096).ok());
  ASSERT_TRUE(client().Suspend("demo", /*noflush=*/false).ok());
  auto restored = client().RestoreVolume("demo", "monday");
  ASSERT_TRUE(restored.ok()) << restored.status();
  EXPECT_EQ(*restored, 270u * 4096);
  // Suspended still: another restore copies the same again.
  ASSERT_TRUE(client().RestoreVolume("demo", "monday").ok());
  ASSERT_TRUE(client().Resume("demo").ok());
  ExpectAll(*volume_, 'a', 100);
  EXPECT_TRUE(*volume_->Read(100 * 4096, 200 * 4096) == Blocks('\0', 200));
  // As any writes: a replica that was away has them once it is back.
  cluster_->StopReplica(1);
  ExpectAll(*volume_, 'a', 100);
  ASSERT_TRUE(cluster_->StartReplica(1).ok());
}

// Whose return is tried every second, which a pass of the restore takes longer than.
TEST_F(ClusterCloneTest, ARestoreGoesOnWhileAReplicaIsAway) {
  Start(QuietOptions());
  WriteAll(*volume_, 'a', 1500);
  ASSERT_TRUE(client().CreateSnapshot("demo", "monday").ok());
  WriteAll(*volume_, 'b', 1500);
  cluster_->StopReplica(2);
  WriteAll(*volume_, 'c', 1500);
  v1::Fault late;
  late.set_op(v1::FAULT_OP_WRITE);
  late.set_delay_ms(400);
  ASSERT_TRUE(cluster_->SetFault(0, late).ok());
  ASSERT_TRUE(client().Suspend("demo", /*noflush=*/false).ok());
  const absl::Time start = absl::Now();
  auto restored = client().RestoreVolume("demo", "monday");
  ASSERT_TRUE(restored.ok()) << restored.status();
  EXPECT_GT(absl::Now() - start, absl::Seconds(2));
  ASSERT_TRUE(client().Resume("demo").ok());
  ExpectAll(*volume_, 'a', 1500);
}

// It is held for want of a third copy, whose disk is gone for good.
TEST_F(ClusterCloneTest, AMemberThatIsLostIsReplacedInTheMiddleOfARestore) {
  ClusterOptions options = QuietOptions();
  options.replicas = 4;
  options.frontend.attach_deadline = absl::Seconds(3);
  Start(options);
  v1::CreateVolumeRequest create;
  create.set_name("three");
  create.set_size_bytes(kSizeBytes);
  create.set_min_in_sync(3);
  for (const char* replica : {"replica1", "replica2", "replica3"}) create.add_replicas(replica);
  ASSERT_TRUE(client().CreateVolume(create).ok());
  auto three = Open("three");
  ASSERT_NE(three, nullptr);
  WriteAll(*three, 'a', 20);
  ASSERT_TRUE(client().CreateSnapshot("three", "monday").ok());
  WriteAll(*three, 'b', 30);
  three.reset();
  ASSERT_TRUE(client().Detach("three").ok());
  cluster_->StopReplica(2);
  absl::StatusOr<uint64_t> restored = absl::UnknownError("");
  std::thread restoring([&] { restored = client().RestoreVolume("three", "monday"); });
  EXPECT_TRUE(Eventually([&] { return client().ReplaceMember("three", "replica3", "replica4").ok(); }));
  restoring.join();
  EXPECT_TRUE(restored.ok()) << restored.status();
  three = Open("three");
  ASSERT_NE(three, nullptr);
  ExpectAll(*three, 'a', 20);
  EXPECT_TRUE(*three->Read(20 * 4096, 10 * 4096) == Blocks('\0', 10));
}

TEST_F(ClusterCloneTest, ACloneIsRestoredToWhatItReadFromItsParent) {
  Start(QuietOptions());
  WriteAll(*volume_, 'a', 40);
  ASSERT_TRUE(Clone("copy", "demo").ok());
  auto copy = Open("copy");
  WriteAll(*copy, 'b', 10);
  ASSERT_TRUE(client().CreateSnapshot("copy", "inner").ok());
  WriteAll(*copy, 'c', 30);
  ASSERT_TRUE(copy->Discard(30 * 4096, 10 * 4096).ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(Flatten("copy")));  // it has a snapshot
  copy.reset();
  ASSERT_TRUE(client().Detach("copy").ok());
  auto restored = client().RestoreVolume("copy", "inner");
  ASSERT_TRUE(restored.ok()) << restored.status();
  copy = Open("copy");
  ExpectAll(*copy, 'b', 10);
  ExpectAll(*copy, 'a', 40, 10);
}

}  // namespace
}  // namespace weir::testing
