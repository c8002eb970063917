// A client that reconnects: what its older stream still brings must not take
// effect after what it has done since.
#include "grpcpp/create_channel.h"
#include "tests/system/cluster_fixture.h"
#include "weir/v1/volume.grpc.pb.h"

namespace weir::testing {
namespace {

using Stream = grpc::ClientReaderWriter<v1::VolumeIoFrame, v1::VolumeIoReplyFrame>;

class ClusterSessionTest : public ClusterTest {
 protected:
  void SetUp() override {
    Start();
    stub_ = v1::VolumeService::NewStub(
        grpc::CreateChannel(cluster_->volume_addr(), grpc::InsecureChannelCredentials()));
  }

  std::unique_ptr<Stream> Open(grpc::ClientContext& context, const std::string& client,
                               uint64_t session) {
    std::unique_ptr<Stream> stream = stub_->Io(&context);
    v1::VolumeIoFrame frame;
    frame.mutable_open()->set_volume("demo");
    frame.mutable_open()->set_client(client);
    frame.mutable_open()->set_session(session);
    EXPECT_TRUE(stream->Write(frame));
    return stream;
  }
  static bool IsOpened(Stream& stream) {
    v1::VolumeIoReplyFrame reply;
    return stream.Read(&reply) && reply.has_opened();
  }
  static v1::VolumeIoFrame WriteFrame(char c) {
    v1::VolumeIoFrame frame;
    v1::VolumeIo* io = frame.add_ios();
    io->set_id(1);
    io->set_kind(v1::REQUEST_KIND_WRITE);
    io->set_length_bytes(4096);
    frame.set_payload(Blocks(c));
    return frame;
  }

  std::unique_ptr<v1::VolumeService::Stub> stub_;
};

TEST_F(ClusterSessionTest, AnOlderSessionsLateWriteDoesNotTakeEffect) {
  grpc::ClientContext old_context;
  grpc::ClientContext new_context;
  auto older = Open(old_context, "c1", 1);
  ASSERT_TRUE(IsOpened(*older));
  auto newer = Open(new_context, "c1", 2);
  ASSERT_TRUE(IsOpened(*newer));
  ASSERT_TRUE(newer->Write(WriteFrame('n')));
  v1::VolumeIoReplyFrame reply;
  ASSERT_TRUE(newer->Read(&reply));
  EXPECT_EQ(reply.replies(0).error(), 0);

  older->Write(WriteFrame('o'));  // it was on its way all the time
  while (older->Read(&reply)) {
  }
  EXPECT_EQ(older->Finish().error_code(), grpc::ABORTED);
  EXPECT_TRUE(*volume_->Read(0, 4096) == Blocks('n'));
  newer->WritesDone();
  EXPECT_TRUE(newer->Finish().ok());
}

TEST_F(ClusterSessionTest, AnOlderSessionIsNotLetInBesideANewerOne) {
  grpc::ClientContext new_context;
  grpc::ClientContext old_context;
  auto newer = Open(new_context, "c1", 2);
  ASSERT_TRUE(IsOpened(*newer));
  auto older = Open(old_context, "c1", 1);
  EXPECT_FALSE(IsOpened(*older));
  EXPECT_EQ(older->Finish().error_code(), grpc::ABORTED);
  newer->WritesDone();
  EXPECT_TRUE(newer->Finish().ok());
}

TEST_F(ClusterSessionTest, ClientsDoNotDisturbEachOther) {
  grpc::ClientContext contexts[3];
  auto first = Open(contexts[0], "c1", 5);
  auto second = Open(contexts[1], "c2", 1);
  auto nameless = Open(contexts[2], "", 0);
  EXPECT_TRUE(IsOpened(*first) && IsOpened(*second) && IsOpened(*nameless));
  for (auto* stream : {first.get(), second.get(), nameless.get()}) {
    stream->WritesDone();
    EXPECT_TRUE(stream->Finish().ok());
  }
}

}  // namespace
}  // namespace weir::testing
