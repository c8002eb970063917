// A replica goes away and comes back: I/O waits, and the replay buffer refills it.
#include <cerrno>
#include <vector>

#include "grpcpp/create_channel.h"
#include "tests/system/cluster_fixture.h"
#include "weir/v1/replica.grpc.pb.h"

namespace weir::testing {
namespace {

class ClusterReplicaTest : public ClusterTest {
 protected:
  // Lanes of `replica`, as it says itself: positions must be equal on all.
  std::vector<uint64_t> Positions(int i) {
    auto stub = v1::ReplicaService::NewStub(
        grpc::CreateChannel(cluster_->replica_addr(i), grpc::InsecureChannelCredentials()));
    grpc::ClientContext context;
    v1::GetReplicaResponse response;
    EXPECT_TRUE(stub->GetReplica(&context, v1::GetReplicaRequest(), &response).ok());
    std::vector<uint64_t> positions;
    for (const v1::ReplicaVolume& volume : response.volumes()) {
      for (const v1::LaneState& lane : volume.lanes()) positions.push_back(lane.position());
    }
    return positions;
  }
};

TEST_F(ClusterReplicaTest, WritesWaitForAReplicaAndCompleteWhenItIsBack) {
  Start();
  ASSERT_TRUE(volume_->Write(0, Blocks('a', 16)).ok());
  cluster_->StopReplica(1);
  std::vector<std::future<IoResult>> writes;
  for (int i = 0; i < 32; ++i) {
    writes.push_back(StartWrite(i * 4096, Blocks(static_cast<char>('A' + i % 26))));
  }
  std::future<IoResult> flush = StartFlush();
  EXPECT_EQ(writes[0].wait_for(std::chrono::milliseconds(100)), std::future_status::timeout);
  ASSERT_TRUE(cluster_->StartReplica(1).ok());
  for (auto& write : writes) {
    IoResult result = write.get();
    EXPECT_TRUE(result.status.ok()) << result.status;
  }
  EXPECT_TRUE(flush.get().status.ok());
  for (int i = 0; i < 32; ++i) {
    EXPECT_TRUE(*volume_->Read(i * 4096, 4096) == Blocks(static_cast<char>('A' + i % 26)));
  }
  ASSERT_TRUE(volume_->Flush().ok());
  EXPECT_EQ(Positions(0), Positions(1));
  EXPECT_EQ(Positions(0), Positions(2));
}

TEST_F(ClusterReplicaTest, EveryReplicaInTurnMayRestartUnderLoad) {
  Start();
  std::vector<std::future<IoResult>> writes;
  for (int i = 0; i < cluster_->replicas(); ++i) {
    for (int n = 0; n < 16; ++n) {
      writes.push_back(StartWrite((i * 16 + n) * 4096, Blocks(static_cast<char>('a' + n))));
    }
    cluster_->StopReplica(i);
    ASSERT_TRUE(cluster_->StartReplica(i).ok());
  }
  for (auto& write : writes) EXPECT_TRUE(write.get().status.ok());
  EXPECT_TRUE(volume_->Flush().ok());
}

TEST_F(ClusterReplicaTest, ReadsGoOnWhileAReplicaIsAway) {
  Start();
  ASSERT_TRUE(volume_->Write(0, Blocks('r')).ok());
  cluster_->StopReplica(0);
  auto data = volume_->Read(0, 4096);
  ASSERT_TRUE(data.ok()) << data.status();
  EXPECT_TRUE(*data == Blocks('r'));
  ASSERT_TRUE(cluster_->StartReplica(0).ok());
}

TEST_F(ClusterReplicaTest, AfterTheDeadlineAReplicaThatIsAwayIsAnIoError) {
  ClusterOptions options;
  options.frontend.hold_deadline = absl::Milliseconds(300);
  Start(std::move(options), /*min_in_sync=*/3);
  cluster_->StopReplica(2);
  absl::Status status = volume_->Write(0, Blocks('x'));
  EXPECT_EQ(StatusToErrno(status), EIO) << status;
  EXPECT_THAT(Message(status), ::testing::HasSubstr("replica3"));
  auto explain = cluster_->client().Explain("demo");
  ASSERT_TRUE(explain.ok());
  EXPECT_THAT(explain->summary() + explain->ShortDebugString(), ::testing::HasSubstr("replica3"));
}

TEST_F(ClusterReplicaTest, AnIoErrorOfAReplicaThatMayNotLeaveIsTheRequestsAndNamesIt) {
  Start(QuietOptions(), /*min_in_sync=*/3);
  v1::Fault fault;
  fault.set_op(v1::FAULT_OP_WRITE);
  fault.set_error(EIO);
  fault.set_count(1);
  ASSERT_TRUE(cluster_->SetFault(1, fault).ok());
  IoResult result = StartWrite(0, Blocks('x')).get();
  EXPECT_EQ(StatusToErrno(result.status), EIO) << result.status;
  ASSERT_FALSE(result.targets.empty());
  EXPECT_EQ(result.targets[0].target(), "replica2");
}

TEST_F(ClusterReplicaTest, ADroppedReplyIsAskedForAgain) {
  ClusterOptions options = QuietOptions();
  options.frontend.clone_deadline = absl::Seconds(1);
  Start(std::move(options));
  v1::Fault fault;
  fault.set_op(v1::FAULT_OP_WRITE);
  fault.set_drop(true);
  fault.set_count(1);
  ASSERT_TRUE(cluster_->SetFault(1, fault).ok());
  absl::Status status = volume_->Write(0, Blocks('d'));
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_TRUE(*volume_->Read(0, 4096) == Blocks('d'));
}

}  // namespace
}  // namespace weir::testing
