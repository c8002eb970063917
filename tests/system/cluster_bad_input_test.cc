// Bad input: each a clear error, nothing lost, no crash.
#include <cerrno>

#include "grpcpp/create_channel.h"
#include "tests/system/cluster_fixture.h"
#include "weir/v1/volume.grpc.pb.h"

namespace weir::testing {
namespace {

using ::testing::HasSubstr;

class ClusterBadInputTest : public ClusterTest {
 protected:
  void SetUp() override {
    Start();
    ASSERT_TRUE(volume_->Write(0, Blocks('k')).ok());
  }

  // Whatever was tried, the data is there and the volume works.
  void TearDown() override {
    if (volume_ != nullptr) {
      EXPECT_TRUE(*volume_->Read(0, 4096) == Blocks('k'));
      EXPECT_TRUE(volume_->Flush().ok());
    }
    ClusterTest::TearDown();
  }

  absl::Status Create(const std::string& name, uint64_t size_bytes,
                      const std::string& replica = "replica1") {
    v1::CreateVolumeRequest request;
    request.set_name(name);
    request.set_size_bytes(size_bytes);
    request.add_replicas(replica);
    return cluster_->client().CreateVolume(request).status();
  }
};

TEST_F(ClusterBadInputTest, VolumesThatCannotBe) {
  struct Case {
    const char* what;
    absl::Status status;
    absl::StatusCode want;
  };
  const Case kCases[] = {
      {"size 0", Create("a", 0), absl::StatusCode::kInvalidArgument},
      {"size 4097", Create("a", 4097), absl::StatusCode::kInvalidArgument},
      {"no name", Create("", 4096), absl::StatusCode::kInvalidArgument},
      {"a name with a slash", Create("a/b", 4096), absl::StatusCode::kInvalidArgument},
      {"a long name", Create(std::string(64, 'a'), 4096), absl::StatusCode::kInvalidArgument},
      {"a name in use", Create("demo", 4096), absl::StatusCode::kAlreadyExists},
      {"an unknown replica", Create("a", 4096, "replica9"), absl::StatusCode::kNotFound},
  };
  for (const Case& c : kCases) {
    EXPECT_EQ(c.status.code(), c.want) << c.what << ": " << c.status;
    EXPECT_GT(Message(c.status).size(), 10u) << c.what;
  }
  EXPECT_EQ(cluster_->client().ListVolumes()->size(), 1u);
}

TEST_F(ClusterBadInputTest, RequestsPastTheEndAndUnaligned) {
  EXPECT_EQ(StatusToErrno(volume_->Read(kSizeBytes, 4096).status()), EINVAL);
  EXPECT_EQ(StatusToErrno(volume_->Read(kSizeBytes - 4096, 8192).status()), EINVAL);
  EXPECT_EQ(StatusToErrno(volume_->Write(kSizeBytes, Blocks('x'))), ENOSPC);
  EXPECT_EQ(StatusToErrno(volume_->Read(~uint64_t{4095}, 4096).status()), EINVAL);
  EXPECT_EQ(StatusToErrno(volume_->Read(1, 4096).status()), EINVAL);

  auto stub = v1::VolumeService::NewStub(
      grpc::CreateChannel(cluster_->volume_addr(), grpc::InsecureChannelCredentials()));
  v1::WriteRequest write;
  write.set_name("demo");
  write.set_offset_bytes(1);
  write.set_data("short");
  v1::WriteResponse response;
  grpc::ClientContext context;
  EXPECT_EQ(stub->Write(&context, write, &response).error_code(), grpc::INVALID_ARGUMENT);
  write.set_name("nobody");
  grpc::ClientContext context2;
  const grpc::Status unknown = stub->Write(&context2, write, &response);
  EXPECT_THAT(unknown.error_code(), ::testing::AnyOf(grpc::NOT_FOUND, grpc::FAILED_PRECONDITION));
}

// Each of these frames ends its stream with a clear status, and only that.
TEST_F(ClusterBadInputTest, FramesThatMakeNoSense) {
  v1::VolumeIoFrame open;
  open.mutable_open()->set_volume("demo");
  v1::VolumeIoFrame unknown_kind;
  unknown_kind.add_ios()->set_id(1);
  v1::VolumeIoFrame short_payload;
  short_payload.add_ios()->set_kind(v1::REQUEST_KIND_WRITE);
  short_payload.mutable_ios(0)->set_length_bytes(4096);
  short_payload.set_payload("short");
  v1::VolumeIoFrame long_payload;
  long_payload.set_payload(Blocks('x'));
  v1::VolumeIoFrame huge;
  huge.set_payload(std::string(64 << 20, 'x'));
  v1::VolumeIoFrame nobody;
  nobody.mutable_open()->set_volume("nobody");
  struct Case {
    const char* what;
    std::vector<v1::VolumeIoFrame> frames;
  };
  const std::vector<Case> kCases = {{"no open", {unknown_kind}},
                                    {"unknown kind", {open, unknown_kind}},
                                    {"short payload", {open, short_payload}},
                                    {"a payload of nobody's", {open, long_payload}},
                                    {"open twice", {open, open}},
                                    {"64 MiB", {open, huge}},
                                    {"an unknown volume", {nobody}}};
  auto stub = v1::VolumeService::NewStub(
      grpc::CreateChannel(cluster_->volume_addr(), grpc::InsecureChannelCredentials()));
  for (const Case& c : kCases) {
    grpc::ClientContext context;
    auto stream = stub->Io(&context);
    for (const v1::VolumeIoFrame& frame : c.frames) stream->Write(frame);
    v1::VolumeIoReplyFrame reply;
    while (stream->Read(&reply)) {
    }
    const grpc::Status status = stream->Finish();
    EXPECT_FALSE(status.ok()) << c.what;
    EXPECT_NE(status.error_code(), grpc::UNAVAILABLE) << c.what << ": " << status.error_message();
    EXPECT_GT(status.error_message().size(), 10u) << c.what;
  }
}

TEST_F(ClusterBadInputTest, TwoFrontendsOnOneCatalog) {
  ClusterOptions options;
  host::HostOptions second = options.frontend;
  second.catalog = "embedded:" + cluster_->dir() + "/catalog";
  auto host = host::Host::Start(second);
  EXPECT_EQ(host.status().code(), absl::StatusCode::kFailedPrecondition) << host.status();
  EXPECT_THAT(Message(host.status()), HasSubstr("in use"));
}

TEST_F(ClusterBadInputTest, AnAddressInUse) {
  host::HostOptions second;
  second.catalog = "embedded:" + cluster_->dir() + "/other";
  auto port = host::HostOptions(second);
  port.listen = "127.0.0.1:0";
  auto first = host::Host::Start(port);
  ASSERT_TRUE(first.ok()) << first.status();
  second.catalog = "embedded:" + cluster_->dir() + "/another";
  second.listen = "127.0.0.1:" + std::to_string((*first)->port());
  auto host = host::Host::Start(second);
  EXPECT_FALSE(host.ok());
  EXPECT_THAT(Message(host.status()), HasSubstr(second.listen));
}

TEST_F(ClusterBadInputTest, ADataDirectoryInUse) {
  replica::ServerOptions options;
  options.store.data_dirs = {cluster_->dir() + "/replica1.data1",
                             cluster_->dir() + "/replica1.data2"};
  auto server = replica::Server::Start(options);
  EXPECT_FALSE(server.ok());
  EXPECT_THAT(Message(server.status()), HasSubstr("replica1.data"));
}

}  // namespace
}  // namespace weir::testing
