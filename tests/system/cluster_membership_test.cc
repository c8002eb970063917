// Replicas that leave by themselves and are brought back, while clients go on.
#include <algorithm>
#include <atomic>
#include <cerrno>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "grpcpp/create_channel.h"
#include "tests/system/cluster_fixture.h"
#include "weir/v1/replica.grpc.pb.h"

namespace weir::testing {
namespace {

class ClusterMembershipTest : public ClusterTest {
 protected:
  std::string StateOf(int i) {
    auto volume = cluster_->client().GetVolume("demo");
    return volume.ok() ? volume->table().targets(i).state() : volume.status().ToString();
  }
  bool Becomes(int i, const std::string& state) {
    return Eventually([&] { return StateOf(i) == state; });
  }
  bool AllBecomeInSync() {
    bool all = true;
    for (int i = 0; i < cluster_->replicas(); ++i) all = Becomes(i, "in_sync") && all;
    return all;
  }
  std::string Summary() { return cluster_->client().Explain("demo")->summary(); }
  // The last replica is no member of the volume.
  void StartWithSpare(ClusterOptions options) {
    v1::CreateVolumeRequest request;
    request.set_name("demo");
    request.set_size_bytes(kSizeBytes);
    for (int i = 1; i < options.replicas; ++i) request.add_replicas(absl::StrCat("replica", i));
    auto cluster = Cluster::Start(std::move(options));
    ASSERT_TRUE(cluster.ok()) << cluster.status();
    cluster_ = *std::move(cluster);
    ASSERT_TRUE(cluster_->client().CreateVolume(request).ok());
    auto volume = cluster_->client().OpenVolume("demo");
    ASSERT_TRUE(volume.ok()) << volume.status();
    volume_ = *std::move(volume);
  }
  // How many the replica has, as far as it says.
  uint32_t VolumesOn(const std::string& replica) {
    const auto replicas = cluster_->client().ListReplicas();
    EXPECT_TRUE(replicas.ok()) << replicas.status();
    for (const v1::ReplicaSummary& one : *replicas) {
      if (one.name() == replica && one.state() == "SERVING") return one.volumes();
    }
    return ~0u;
  }
  void Fault(int i, v1::FaultOp op, int error, uint64_t count) {
    v1::Fault fault;
    fault.set_op(op);
    fault.set_error(error);
    fault.set_count(count);
    ASSERT_TRUE(cluster_->SetFault(i, fault).ok());
  }
  void WriteAll(char c, size_t blocks) {
    for (size_t i = 0; i < blocks; ++i) {
      ASSERT_TRUE(volume_->Write(i * 4096, Blocks(static_cast<char>(c + i % 20))).ok()) << i;
    }
  }
  // What replica `i` itself holds: the others answer reads as if their blocks were damaged.
  void ExpectReplicaHas(int i, char c, size_t blocks, size_t from = 0) {
    for (int other = 0; other < cluster_->replicas(); ++other) {
      if (other != i) Fault(other, v1::FAULT_OP_READ, EBADMSG, 0);
    }
    for (size_t b = from; b < blocks; ++b) {
      auto data = volume_->Read(b * 4096, 4096);
      ASSERT_TRUE(data.ok()) << data.status();
      EXPECT_TRUE(*data == Blocks(static_cast<char>(c + b % 20))) << "block " << b;
    }
    ASSERT_TRUE(cluster_->ClearFaults().ok());
  }
};

TEST_F(ClusterMembershipTest, AReplicaThatGoesAwayLeavesAndIsBroughtBackWithWhatItMissed) {
  Start(QuietOptions());
  WriteAll('a', 200);
  ASSERT_TRUE(volume_->Flush().ok());
  cluster_->StopReplica(1);
  const absl::Time start = absl::Now();
  ASSERT_TRUE(volume_->Write(0, Blocks('x')).ok());
  EXPECT_LT(absl::Now() - start, absl::Seconds(3));
  EXPECT_EQ(StateOf(1), "joining");
  EXPECT_TRUE(absl::StrContains(Summary(), "degraded: 2 of 3")) << Summary();
  WriteAll('b', 100);
  ASSERT_TRUE(volume_->Flush().ok());
  ASSERT_TRUE(cluster_->StartReplica(1).ok());
  ASSERT_TRUE(AllBecomeInSync()) << Summary();
  ExpectReplicaHas(1, 'b', 100);
  EXPECT_TRUE(absl::StrContains(Summary(), "all 3 replicas")) << Summary();
}

TEST_F(ClusterMembershipTest, AnErrorOfOneReplicaIsNotTheClients) {
  Start(QuietOptions());
  WriteAll('a', 40);
  Fault(2, v1::FAULT_OP_WRITE, EIO, 1);
  EXPECT_TRUE(volume_->Write(0, Blocks('a')).ok());
  ASSERT_TRUE(AllBecomeInSync()) << Summary();
  ExpectReplicaHas(2, 'a', 40);
}

TEST_F(ClusterMembershipTest, AFlushThatFailedOnOneRunsAgainOnTheRest) {
  Start(QuietOptions());
  WriteAll('a', 10);
  FaultNextFlush(0, EIO, 0);
  IoResult flushed = StartFlush().get();
  EXPECT_TRUE(flushed.status.ok()) << flushed.status;
  ASSERT_TRUE(AllBecomeInSync()) << Summary();
  EXPECT_TRUE(volume_->Flush().ok());
}

TEST_F(ClusterMembershipTest, OneThatAnswersEverythingLateLeavesAndIsNoErrorToClients) {
  ClusterOptions options = QuietOptions();
  options.frontend.slow_after = absl::Milliseconds(1500);
  Start(std::move(options));
  v1::Fault late;
  late.set_op(v1::FAULT_OP_WRITE);
  late.set_delay_ms(250);
  ASSERT_TRUE(cluster_->SetFault(1, late).ok());
  EXPECT_TRUE(Eventually([&] {
    std::vector<std::future<IoResult>> writes;
    for (int i = 0; i < 16; ++i) writes.push_back(StartWrite(i * 4096, Blocks('a')));
    for (auto& write : writes) EXPECT_TRUE(write.get().status.ok());
    return StateOf(1) == "joining";
  })) << Summary();
  EXPECT_TRUE(absl::StrContains(cluster_->client().Explain("demo")->DebugString(), "was slow for"));
  const absl::Time start = absl::Now();
  EXPECT_TRUE(volume_->Write(0, Blocks('b')).ok());
  EXPECT_LT(absl::Now() - start, absl::Milliseconds(250));
}

TEST_F(ClusterMembershipTest, BelowMinInSyncRequestsAreHeldAndNotFailed) {
  Start(QuietOptions());
  WriteAll('a', 10);
  cluster_->StopReplica(0);
  ASSERT_TRUE(Becomes(0, "joining"));
  cluster_->StopReplica(1);
  std::future<IoResult> write = StartWrite(0, Blocks('a'));
  EXPECT_EQ(write.wait_for(std::chrono::seconds(2)), std::future_status::timeout);
  ASSERT_TRUE(cluster_->StartReplica(1).ok());
  EXPECT_TRUE(write.get().status.ok());
  ASSERT_TRUE(cluster_->StartReplica(0).ok());
  ASSERT_TRUE(AllBecomeInSync()) << Summary();
  ExpectReplicaHas(0, 'a', 10);
}

TEST_F(ClusterMembershipTest, TheOneThatLeftComesBackThoughOneOfTheOthersIsAway) {
  Start(QuietOptions());
  WriteAll('a', 10);
  cluster_->StopReplica(0);
  ASSERT_TRUE(Becomes(0, "joining"));
  WriteAll('b', 10);
  cluster_->StopReplica(1);
  std::future<IoResult> write = StartWrite(0, Blocks('b'));
  ASSERT_TRUE(cluster_->StartReplica(0).ok());
  EXPECT_TRUE(write.get().status.ok());
  EXPECT_EQ(StateOf(0), "in_sync");
  ASSERT_TRUE(cluster_->StartReplica(1).ok());
  ASSERT_TRUE(AllBecomeInSync()) << Summary();
  ExpectReplicaHas(0, 'b', 10);
}

TEST_F(ClusterMembershipTest, AnAttachGivesUpAReplicaThatIsAwayAndBringsItBack) {
  Start(QuietOptions());
  WriteAll('a', 50);
  volume_.reset();
  ASSERT_TRUE(cluster_->client().Detach("demo").ok());
  cluster_->StopReplica(2);
  auto volume = cluster_->client().OpenVolume("demo");
  ASSERT_TRUE(volume.ok()) << volume.status();
  volume_ = *std::move(volume);
  EXPECT_EQ(StateOf(2), "joining");
  WriteAll('b', 50);
  ASSERT_TRUE(cluster_->StartReplica(2).ok());
  ASSERT_TRUE(AllBecomeInSync()) << Summary();
  ExpectReplicaHas(2, 'b', 50);
}

TEST_F(ClusterMembershipTest, AReplicaWithANewStoreTakesItsOldPlaceAndGetsEverything) {
  Start(QuietOptions());
  WriteAll('a', 300);
  ASSERT_TRUE(volume_->Flush().ok());
  Client& client = cluster_->client();
  EXPECT_TRUE(absl::IsFailedPrecondition(client.ReplaceMember("demo", "replica2").status()))
      << "it has its own store, and there is no other replica";
  cluster_->StopReplica(1);
  cluster_->LoseDisks(1);
  ASSERT_TRUE(cluster_->StartReplica(1).ok());
  WriteAll('b', 100);
  auto with = client.ReplaceMember("demo", "replica2");
  ASSERT_TRUE(with.ok()) << with.status();
  EXPECT_EQ(*with, "replica2");
  ASSERT_TRUE(AllBecomeInSync()) << Summary();
  ExpectReplicaHas(1, 'b', 100);
  ExpectReplicaHas(1, 'a', 300, /*from=*/100);
}

TEST_F(ClusterMembershipTest, AnotherReplicaTakesThePlaceOfOneThatIsGone) {
  ClusterOptions options = QuietOptions();
  options.replicas = 4;
  options.frontend.replace_after = absl::Seconds(2);
  ASSERT_NO_FATAL_FAILURE(StartWithSpare(std::move(options)));
  WriteAll('a', 100);
  cluster_->StopReplica(2);
  ASSERT_TRUE(Eventually([&] {
    const v1::Table table = cluster_->client().GetVolume("demo")->table();
    return table.targets(2).replica() == "replica4" && table.targets(2).state() == "in_sync";
  })) << Summary();
  for (int i : {0, 1}) Fault(i, v1::FAULT_OP_READ, EBADMSG, 0);
  EXPECT_TRUE(*volume_->Read(40 * 4096, 4096) == Blocks('a'));
  // Once the one that is gone comes back, what it had is deleted.
  EXPECT_THAT(cluster_->client().Explain("demo")->ShortDebugString(),
              ::testing::HasSubstr("replica replica3 is no member"));
  ASSERT_TRUE(cluster_->StartReplica(2).ok());
  volume_.reset();
  ASSERT_TRUE(cluster_->client().Detach("demo").ok());
  ASSERT_TRUE(cluster_->client().Attach("demo").ok());
  EXPECT_TRUE(Eventually([&] { return VolumesOn("replica3") == 0; }));
  EXPECT_EQ(VolumesOn("replica4"), 1u);
  EXPECT_TRUE(Eventually([&] {
    return !absl::StrContains(cluster_->client().Explain("demo")->ShortDebugString(), "is no member");
  }));
}

TEST_F(ClusterMembershipTest, AMemberIsDrainedAndUntilAnotherOneHasEverythingItStays) {
  ClusterOptions options = QuietOptions();
  options.replicas = 4;
  ASSERT_NO_FATAL_FAILURE(StartWithSpare(std::move(options)));
  WriteAll('a', 200);
  Client& client = cluster_->client();
  // Asked again it is the same one.
  auto with = client.ReplaceMember("demo", "replica2", "replica4", /*make_before_break=*/true);
  ASSERT_TRUE(with.ok()) << with.status();
  EXPECT_EQ(*client.ReplaceMember("demo", "replica2", "", true), "replica4");
  std::atomic<bool> over{false};
  std::thread watch([&] {
    while (!over) {
      const auto now = client.GetVolume("demo");
      if (!now.ok()) continue;
      const auto& targets = now->table().targets();
      EXPECT_GE(std::count_if(targets.begin(), targets.end(),
                              [](const v1::Target& t) { return t.state() == "in_sync"; }),
                3);
    }
  });
  EXPECT_TRUE(Eventually([&] {
    const v1::Table table = client.GetVolume("demo")->table();
    return table.targets_size() == 3 && table.targets(2).replica() == "replica4" &&
           table.targets(2).state() == "in_sync";
  })) << Summary();
  over = true;
  watch.join();
  EXPECT_TRUE(volume_->Write(0, Blocks('a')).ok());
  for (int i : {0, 2}) Fault(i, v1::FAULT_OP_READ, EBADMSG, 0);
  EXPECT_TRUE(*volume_->Read(100 * 4096, 4096) == Blocks('a'));
  // What it had is deleted, and it may come back as another one's successor.
  EXPECT_TRUE(Eventually([&] { return VolumesOn("replica2") == 0; }));
  ASSERT_TRUE(client.ReplaceMember("demo", "replica1", "", true).ok());
  EXPECT_TRUE(Eventually([&] {
    const v1::Table table = client.GetVolume("demo")->table();
    return table.targets_size() == 3 && table.targets(2).replica() == "replica2";
  })) << Summary();
  // Nobody else is there to take a place.
  cluster_->StopReplica(0);
  const auto refused = client.ReplaceMember("demo", "replica3", "", true);
  EXPECT_THAT(refused.status().message(), ::testing::HasSubstr("no replica can take the place of replica3"));
}

TEST_F(ClusterMembershipTest, TheLastGoodMemberIsNeitherReplacedNorDeleted) {
  ClusterOptions options = QuietOptions();
  options.replicas = 2;
  ASSERT_NO_FATAL_FAILURE(StartWithSpare(std::move(options)));
  WriteAll('a', 100);
  EXPECT_FALSE(cluster_->client().ReplaceMember("demo", "replica1", "replica2").ok());
  EXPECT_EQ(VolumesOn("replica1"), 1u);
  EXPECT_TRUE(*volume_->Read(40 * 4096, 4096) == Blocks('a'));
}

TEST_F(ClusterMembershipTest, WhatAnOperatorTakesOutStaysOutUntilATableSaysJoining) {
  Start(QuietOptions());
  Client& client = cluster_->client();
  auto load = [&](const std::string& state) {
    v1::Table table = client.GetVolume("demo")->table();
    table.mutable_targets(1)->set_state(state);
    ASSERT_TRUE(client.Suspend("demo").ok());
    const absl::Status loaded = client.LoadTable("demo", table);
    EXPECT_TRUE(loaded.ok()) << loaded;
    ASSERT_TRUE(client.Resume("demo").ok());
  };
  load("out");
  WriteAll('a', 10);
  EXPECT_EQ(StateOf(1), "out");
  EXPECT_THAT(client.Explain("demo")->ShortDebugString(),
              ::testing::HasSubstr("load a table that says it is joining"));
  load("joining");
  ASSERT_TRUE(AllBecomeInSync()) << Summary();
  ExpectReplicaHas(1, 'a', 10);
}

}  // namespace
}  // namespace weir::testing
