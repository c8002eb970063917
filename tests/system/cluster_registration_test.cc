// Replicas that make themselves known to the frontend.
#include <filesystem>
#include <memory>
#include <string>

#include "grpcpp/create_channel.h"
#include "replica/server/server.h"
#include "tests/system/cluster_fixture.h"
#include "weir/v1/replica.grpc.pb.h"

namespace weir::testing {
namespace {

class ClusterRegistrationTest : public ClusterTest {
 protected:
  void StartRegistering() {
    ClusterOptions options;
    options.replicas_register = true;
    Start(std::move(options));
  }
  v1::ReplicaSummary SummaryOf(const std::string& name) {
    const auto replicas = cluster_->client().ListReplicas();
    EXPECT_TRUE(replicas.ok()) << replicas.status();
    for (const v1::ReplicaSummary& one : *replicas) {
      if (one.name() == name) return one;
    }
    return {};
  }
  // One more replica, or one that takes itself for one; `dir` under the cluster's.
  std::unique_ptr<replica::Server> Another(const std::string& name, const std::string& dir) {
    replica::ServerOptions options;
    options.name = name;
    options.listen = "127.0.0.1:0";
    options.frontends = {"unix:" + cluster_->dir() + "/nobody", cluster_->volume_addr()};
    options.labels = {{"zone", "z"}};
    options.registration_lease = absl::Seconds(1);
    options.store.data_dirs = {cluster_->dir() + "/" + dir};
    auto server = replica::Server::Start(std::move(options));
    EXPECT_TRUE(server.ok()) << server.status();
    return server.ok() ? *std::move(server) : nullptr;
  }
  // What the replica says has become of its registration.
  static std::string RegistrationOf(const replica::Server& server) {
    auto stub = v1::ReplicaService::NewStub(
        grpc::CreateChannel(server.address(), grpc::InsecureChannelCredentials()));
    grpc::ClientContext context;
    v1::GetReplicaResponse response;
    EXPECT_TRUE(stub->GetReplica(&context, {}, &response).ok());
    return response.registration();
  }
};

TEST_F(ClusterRegistrationTest, ReplicasThatNobodyHasNamedAreUsedAndFoundAfterARestart) {
  StartRegistering();
  ASSERT_TRUE(volume_->Write(0, Blocks('a')).ok());
  ASSERT_TRUE(volume_->Flush().ok());
  EXPECT_EQ(SummaryOf("replica2").state(), "SERVING");
  volume_.reset();
  cluster_->StopFrontend();
  ASSERT_TRUE(cluster_->StartFrontend().ok());
  auto again = cluster_->client().OpenVolume("demo");
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_TRUE(*(*again)->Read(0, 4096) == Blocks('a'));
}

TEST_F(ClusterRegistrationTest, OneMoreIsShownWithLabelsAndThenAsGone) {
  StartRegistering();
  std::unique_ptr<replica::Server> more = Another("more", "more.data");
  ASSERT_TRUE(Eventually([&] { return SummaryOf("more").state() == "SERVING"; }));
  EXPECT_EQ(SummaryOf("more").address(), more->address());
  EXPECT_EQ(SummaryOf("more").labels().at("zone"), "z");
  EXPECT_GT(SummaryOf("more").available_bytes(), 0u);
  EXPECT_EQ(RegistrationOf(*more), "registered");
  more.reset();
  ASSERT_TRUE(Eventually([&] { return SummaryOf("more").state() == "GONE"; }));
  EXPECT_EQ(SummaryOf("more").labels().at("zone"), "z") << "as it last said";
  // It is not taken for a new volume.
  v1::CreateVolumeRequest request;
  request.set_name("four");
  request.set_size_bytes(1 << 20);
  request.set_replica_count(4);
  EXPECT_FALSE(cluster_->client().CreateVolume(request).ok());
}

TEST_F(ClusterRegistrationTest, ANameThatIsInUseAndADirectoryOfAnotherAreRefusedWithWords) {
  StartRegistering();
  const std::string address = SummaryOf("replica1").address();
  const std::unique_ptr<replica::Server> twin = Another("replica1", "twin.data");
  ASSERT_TRUE(Eventually(
      [&] { return RegistrationOf(*twin).find("is that of another process") != std::string::npos; }))
      << RegistrationOf(*twin);
  EXPECT_EQ(SummaryOf("replica1").address(), address);

  std::unique_ptr<replica::Server> more = Another("more", "more.data");
  ASSERT_TRUE(Eventually([&] { return SummaryOf("more").state() == "SERVING"; }));
  more.reset();
  const std::unique_ptr<replica::Server> renamed = Another("less", "more.data");
  ASSERT_TRUE(Eventually(
      [&] { return RegistrationOf(*renamed).find("is that of replica more") != std::string::npos; }))
      << RegistrationOf(*renamed);
}

TEST_F(ClusterRegistrationTest, AnOldCopyOfADiskIsRefusedByName) {
  StartRegistering();
  std::unique_ptr<replica::Server> more = Another("more", "more.data");
  ASSERT_TRUE(Eventually([&] { return SummaryOf("more").state() == "SERVING"; }));
  more.reset();
  std::filesystem::copy(cluster_->dir() + "/more.data", cluster_->dir() + "/copy.data",
                        std::filesystem::copy_options::recursive);
  more = Another("more", "more.data");
  ASSERT_TRUE(Eventually([&] { return SummaryOf("more").state() == "SERVING"; }));
  more.reset();
  // It has been started as often as the newest one: once after it was copied.
  more = Another("more", "copy.data");
  ASSERT_TRUE(Eventually(
      [&] { return RegistrationOf(*more).find("an older copy of store") != std::string::npos; }))
      << RegistrationOf(*more);
}

}  // namespace
}  // namespace weir::testing
