// Every request of the C++ library, and a plain generated stub, against a
// whole cluster.
#include "grpcpp/create_channel.h"
#include "tests/system/cluster_fixture.h"
#include "weir/v1/volume.grpc.pb.h"

namespace weir::testing {
namespace {

class ClusterIoTest : public ClusterTest {
 protected:
  void SetUp() override { Start(); }
};

TEST_F(ClusterIoTest, ReadsWhatWasWrittenAndZerosElsewhere) {
  ASSERT_TRUE(volume_->Write(0, Blocks('a')).ok());
  ASSERT_TRUE(volume_->Write(8192, Blocks('c'), /*fua=*/true).ok());
  ASSERT_TRUE(volume_->Flush().ok());
  auto data = volume_->Read(0, 16384);
  ASSERT_TRUE(data.ok()) << data.status();
  EXPECT_TRUE(*data == Blocks('a') + Blocks('\0') + Blocks('c') + Blocks('\0'));
  EXPECT_TRUE(volume_->flush_supported());
}

TEST_F(ClusterIoTest, WritesAcrossStripesAndAboveTheRequestLimit) {
  std::string data;  // 6 MiB: two requests, 24 stripes, every lane
  for (int i = 0; i < 1536; ++i) data += Blocks(static_cast<char>('a' + i % 26));
  ASSERT_TRUE(volume_->Write(12288, data).ok());
  auto back = volume_->Read(12288, data.size());
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_TRUE(*back == data);
}

TEST_F(ClusterIoTest, DiscardsAndZeroesReadAsZerosAndLeaveTheRest) {
  ASSERT_TRUE(volume_->Write(0, Blocks('x', 8)).ok());
  ASSERT_TRUE(volume_->Discard(4096, 8192).ok());
  ASSERT_TRUE(volume_->WriteZeroes(16384, 4096, /*fua=*/true).ok());
  auto data = volume_->Read(0, 32768);
  ASSERT_TRUE(data.ok());
  EXPECT_TRUE(*data == Blocks('x') + Blocks('\0', 2) + Blocks('x') + Blocks('\0') + Blocks('x', 3));
}

TEST_F(ClusterIoTest, ExtentsTellDataFromHoles) {
  ASSERT_TRUE(volume_->Write(1 << 20, Blocks('x', 64)).ok());
  auto extents = volume_->Extents(0, 2 << 20);
  ASSERT_TRUE(extents.ok()) << extents.status();
  ASSERT_EQ(extents->size(), 3u);
  EXPECT_EQ((*extents)[0].block_count(), 256u);
  EXPECT_FALSE((*extents)[0].allocated());
  EXPECT_EQ((*extents)[1].block_count(), 64u);
  EXPECT_TRUE((*extents)[1].allocated());
  EXPECT_FALSE((*extents)[2].allocated());
}

TEST_F(ClusterIoTest, ABarrierIsWrittenAfterWhatCameBeforeAndBeforeWhatComesAfter) {
  auto before = StartWrite(0, Blocks('1'));
  auto barrier = Started(
      [&](Volume::Callback done) { volume_->BarrierAsync(0, Blocks('2'), std::move(done)); });
  auto after = StartWrite(0, Blocks('3'));
  EXPECT_TRUE(before.get().status.ok());
  EXPECT_TRUE(barrier.get().status.ok());
  EXPECT_TRUE(after.get().status.ok());
  EXPECT_TRUE(*volume_->Read(0, 4096) == Blocks('3'));
}

TEST_F(ClusterIoTest, DataSurvivesARestartOfEveryProcess) {
  ASSERT_TRUE(volume_->Write(4096, Blocks('s')).ok());
  ASSERT_TRUE(volume_->Flush().ok());
  volume_.reset();
  cluster_->StopFrontend();
  for (int i = 0; i < cluster_->replicas(); ++i) cluster_->StopReplica(i);
  for (int i = 0; i < cluster_->replicas(); ++i) ASSERT_TRUE(cluster_->StartReplica(i).ok());
  ASSERT_TRUE(cluster_->StartFrontend().ok());
  auto volume = cluster_->client().OpenVolume("demo");
  ASSERT_TRUE(volume.ok()) << volume.status();
  EXPECT_TRUE(*(*volume)->Read(4096, 4096) == Blocks('s'));
}

TEST_F(ClusterIoTest, APlainGeneratedStubCanDoItToo) {
  auto stub = v1::VolumeService::NewStub(
      grpc::CreateChannel(cluster_->volume_addr(), grpc::InsecureChannelCredentials()));
  grpc::ClientContext context;
  auto stream = stub->Io(&context);
  v1::VolumeIoFrame frame;
  frame.mutable_open()->set_volume("demo");
  v1::VolumeIo* io = frame.add_ios();  // in the first frame already
  io->set_id(7);
  io->set_kind(v1::REQUEST_KIND_WRITE);
  io->set_length_bytes(4096);
  frame.set_payload(Blocks('p'));
  ASSERT_TRUE(stream->Write(frame));
  bool opened = false;
  bool answered = false;
  v1::VolumeIoReplyFrame reply;
  while (!(opened && answered) && stream->Read(&reply)) {
    opened |= reply.has_opened();
    for (const v1::VolumeIoReply& r : reply.replies()) answered |= r.id() == 7 && r.error() == 0;
  }
  EXPECT_TRUE(opened && answered);
  stream->WritesDone();
  EXPECT_TRUE(stream->Finish().ok());

  v1::ReadRequest request;
  request.set_name("demo");
  request.set_length_bytes(4096);
  v1::ReadResponse response;
  grpc::ClientContext unary;
  ASSERT_TRUE(stub->Read(&unary, request, &response).ok());
  EXPECT_TRUE(response.data() == Blocks('p'));
}

}  // namespace
}  // namespace weir::testing
