// Suspend, resume, tables, attach and detach, as a client sees them.
#include <atomic>
#include <cerrno>
#include <thread>

#include "tests/system/cluster_fixture.h"

namespace weir::testing {
namespace {

using ::testing::HasSubstr;

constexpr auto kSoon = std::chrono::milliseconds(100);

class ClusterControlTest : public ClusterTest {
 protected:
  Client& client() { return cluster_->client(); }
  std::string State() {
    auto volume = client().GetVolume("demo");
    return volume.ok() ? volume->state() : Message(volume.status());
  }
  v1::Table TableWithout(int replica) {
    v1::Table table = client().GetVolume("demo")->table();
    table.mutable_targets(replica)->set_state("out");
    return table;
  }
};

TEST_F(ClusterControlTest, RequestsWaitWhileSuspendedAndRunAfterResume) {
  Start();
  ASSERT_TRUE(client().Suspend("demo").ok());
  EXPECT_EQ(State(), "SUSPENDED");
  auto write = StartWrite(0, Blocks('s'));
  auto flush = StartFlush();
  EXPECT_EQ(write.wait_for(kSoon), std::future_status::timeout);
  ASSERT_TRUE(client().Resume("demo").ok());
  EXPECT_TRUE(write.get().status.ok());
  EXPECT_TRUE(flush.get().status.ok());
  EXPECT_EQ(State(), "ACTIVE");
  EXPECT_TRUE(*volume_->Read(0, 4096) == Blocks('s'));
}

TEST_F(ClusterControlTest, NoflushSuspendQueuesWhatCannotFinish) {
  Start();
  cluster_->StopReplica(0);
  auto write = StartWrite(0, Blocks('n'));
  EXPECT_EQ(write.wait_for(kSoon), std::future_status::timeout);
  absl::Status suspended = client().Suspend("demo", /*noflush=*/true);
  ASSERT_TRUE(suspended.ok()) << suspended;
  ASSERT_TRUE(cluster_->StartReplica(0).ok());
  EXPECT_EQ(write.wait_for(kSoon), std::future_status::timeout);
  ASSERT_TRUE(client().Resume("demo").ok());
  EXPECT_TRUE(write.get().status.ok());
}

TEST_F(ClusterControlTest, ASuspendThatCannotDrainIsUndoneAtItsDeadline) {
  Start();
  cluster_->StopReplica(0);
  auto write = StartWrite(0, Blocks('d'));
  absl::Status suspended = client().Suspend("demo", /*noflush=*/false, absl::Milliseconds(300));
  EXPECT_EQ(suspended.code(), absl::StatusCode::kDeadlineExceeded) << suspended;
  EXPECT_EQ(State(), "ACTIVE");
  ASSERT_TRUE(cluster_->StartReplica(0).ok());
  EXPECT_TRUE(write.get().status.ok());
}

TEST_F(ClusterControlTest, ATableThatDropsAMemberIsSwappedInByResume) {
  Start();
  ASSERT_TRUE(volume_->Write(0, Blocks('1')).ok());
  ASSERT_TRUE(client().Suspend("demo").ok());
  absl::Status loaded = client().LoadTable("demo", TableWithout(2));
  ASSERT_TRUE(loaded.ok()) << loaded;
  ASSERT_TRUE(client().Resume("demo").ok());
  EXPECT_EQ(client().GetVolume("demo")->table().targets(2).state(), "out");
  cluster_->StopReplica(2);  // and nobody waits for it
  EXPECT_TRUE(volume_->Write(0, Blocks('2')).ok());
  EXPECT_TRUE(volume_->Flush().ok());
  EXPECT_TRUE(*volume_->Read(0, 4096) == Blocks('2'));
}

TEST_F(ClusterControlTest, ABadTableIsRefusedAndTheOldOneStays) {
  Start();
  EXPECT_FALSE(client().LoadTable("demo", TableWithout(2)).ok());  // not suspended
  ASSERT_TRUE(client().Suspend("demo").ok());
  v1::Table one = TableWithout(2);
  one.mutable_targets(1)->set_state("out");  // below min_in_sync
  EXPECT_FALSE(client().LoadTable("demo", one).ok());
  v1::Table stranger = client().GetVolume("demo")->table();
  stranger.mutable_targets(0)->set_replica("replica9");
  EXPECT_FALSE(client().LoadTable("demo", stranger).ok());
  EXPECT_FALSE(client().LoadTable("demo", v1::Table()).ok());
  ASSERT_TRUE(client().Resume("demo").ok());
  EXPECT_TRUE(volume_->Write(0, Blocks('b')).ok());
  EXPECT_EQ(client().GetVolume("demo")->table().targets(2).state(), "in_sync");
}

TEST_F(ClusterControlTest, ADetachEndsAHandleUntilItIsReset) {
  Start();
  ASSERT_TRUE(volume_->Write(0, Blocks('d')).ok());
  ASSERT_TRUE(client().Detach("demo").ok());
  EXPECT_EQ(State(), "DETACHED");
  EXPECT_EQ(volume_->Write(0, Blocks('e')).code(), absl::StatusCode::kAborted);
  EXPECT_EQ(volume_->Flush().code(), absl::StatusCode::kAborted);
  volume_->Reset();
  auto data = volume_->Read(0, 4096);
  ASSERT_TRUE(data.ok()) << data.status();
  EXPECT_TRUE(*data == Blocks('d'));
}

TEST_F(ClusterControlTest, AClientGoesOnAfterItsFrontendWasRestarted) {
  Start();
  ASSERT_TRUE(volume_->Write(0, Blocks('f')).ok());
  const uint32_t epoch = volume_->epoch();
  cluster_->StopFrontend();
  ASSERT_TRUE(cluster_->StartFrontend().ok());
  EXPECT_TRUE(volume_->Flush().ok());  // an orderly stop flushes, so nothing is lost
  EXPECT_TRUE(*volume_->Read(0, 4096) == Blocks('f'));
  EXPECT_GT(volume_->epoch(), epoch);
}

TEST_F(ClusterControlTest, ARequestThatIsUnderWayWhileItsFrontendIsRestartedWaits) {
  Start();
  std::atomic<bool> enough = false;
  std::atomic<int> written = 0;
  std::thread writer([&] {
    while (!enough) {
      const absl::Status status = volume_->Write(0, Blocks('w'));
      EXPECT_TRUE(status.ok()) << status;
      if (!status.ok()) return;
      ++written;
    }
  });
  for (int i = 0; i < 5; ++i) {
    const int before = written;
    cluster_->StopFrontend();
    EXPECT_TRUE(cluster_->StartFrontend().ok());
    EXPECT_TRUE(Eventually([&] { return written > before + 10; }));
  }
  enough = true;
  writer.join();
}

TEST_F(ClusterControlTest, ADeletedVolumeIsGone) {
  Start();
  volume_.reset();
  ASSERT_TRUE(client().Detach("demo").ok());
  ASSERT_TRUE(client().DeleteVolume("demo").ok());
  EXPECT_EQ(client().OpenVolume("demo").status().code(), absl::StatusCode::kNotFound);
  EXPECT_TRUE(client().ListVolumes()->empty());
  auto again = cluster_->CreateAndOpenVolume("demo", kSizeBytes);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_TRUE(*(*again)->Read(0, 4096) == Blocks('\0'));
}

}  // namespace
}  // namespace weir::testing
