// The server on the real store: what it has answered is there after a restart.
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>

#include "grpcpp/grpcpp.h"
#include "gtest/gtest.h"
#include "proto/base/position.h"
#include "replica/server/server.h"
#include "replica/server/server_fixture.h"
#include "weir/v1/replica.pb.h"

namespace weir::replica {
namespace {

class DiskServerTest : public ServerFixture {
 protected:
  DiskServerTest() {
    char directory[] = "/tmp/weir-disk-XXXXXX";
    directory_ = mkdtemp(directory);
    options_.store.data_dirs = {directory_ + "/a", directory_ + "/b"};
    for (const std::string& dir : options_.store.data_dirs) std::filesystem::create_directory(dir);
  }
  ~DiskServerTest() override {
    server_.reset();
    std::filesystem::remove_all(directory_);
  }
  void StartOnDisk() {
    server_.reset();
    auto server = Server::Start(options_);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    Connect();
    identity_ = GetReplica();
  }
  v1::Fence DiskFenceOf(Epoch epoch) {
    v1::Fence fence = FenceOf(epoch);
    fence.set_store_id(identity_.store_id());
    fence.set_incarnation(identity_.incarnation());
    return fence;
  }
  void CreateOnDisk() {
    grpc::ClientContext context;
    v1::CreateReplicaVolumeRequest request;
    *request.mutable_fence() = DiskFenceOf(1);
    request.set_size_bytes(kVolumeBytes);
    request.set_lanes(FrameBuilder::kLanes);
    request.set_stripe_blocks(FrameBuilder::kStripeBlocks);
    v1::CreateReplicaVolumeResponse response;
    const grpc::Status status = stub_->CreateVolume(&context, request, &response);
    ASSERT_TRUE(status.ok()) << status.error_message();
  }
  void TakeOverOnDisk(Epoch epoch) {
    grpc::ClientContext seal_context, base_context;
    v1::SealRequest seal;
    *seal.mutable_fence() = DiskFenceOf(epoch);
    v1::SealResponse sealed;
    grpc::Status status = stub_->Seal(&seal_context, seal, &sealed);
    ASSERT_TRUE(status.ok()) << status.error_message();
    v1::TakeBaseRequest base;
    *base.mutable_fence() = DiskFenceOf(epoch);
    base.set_act_epoch(epoch - 1);
    for (const v1::LaneState& lane : sealed.lanes()) {
      base.add_expected()->set_lane(lane.lane());
      base.mutable_expected()->rbegin()->set_position(lane.position());
    }
    v1::TakeBaseResponse response;
    status = stub_->TakeBase(&base_context, base, &response);
    ASSERT_TRUE(status.ok()) << status.error_message();
  }
  std::unique_ptr<TestStream> OpenOnDisk(Epoch epoch, uint64_t session, v1::HelloReply* hello) {
    auto stream = std::make_unique<TestStream>(stub_.get());
    v1::IoFrame frame = HelloOf(epoch, session);
    *frame.mutable_hello()->mutable_fence() = DiskFenceOf(epoch);
    EXPECT_TRUE(stream->Send(frame));
    v1::IoReplyFrame reply;
    EXPECT_TRUE(stream->ReceiveFrame(&reply)) << stream->Finish();
    *hello = reply.hello();
    return stream;
  }

  std::string directory_;
  v1::GetReplicaResponse identity_;
};

TEST_F(DiskServerTest, WhatWasFlushedIsThereAfterARestartAndTheSameEpochGoesOn) {
  StartOnDisk();
  CreateOnDisk();
  TakeOverOnDisk(1);
  v1::HelloReply hello;
  auto stream = OpenOnDisk(1, 1, &hello);
  EXPECT_EQ(hello.num_flush_requests(), 2u);
  FrameBuilder frame;
  for (uint64_t n = 1; n <= 20; ++n) frame.Write(n, n, Position(1, n), 'd');
  frame.Write(21, 64, Position(1, 1), 'e').set_fua(true);
  ASSERT_TRUE(stream->Send(frame.frame));
  for (uint64_t id = 1; id <= 21; ++id) EXPECT_EQ(stream->Await(id).error(), 0);
  FrameBuilder flush;
  flush.Flush(30, 0);
  ASSERT_TRUE(stream->Send(flush.frame));
  const v1::IoReply flushed = stream->Await(30);
  ASSERT_EQ(flushed.durable_size(), 2);
  EXPECT_EQ(flushed.durable(0).position(), Position(1, 20).bits());
  stream.reset();

  const uint64_t first_incarnation = identity_.incarnation();
  StartOnDisk();
  EXPECT_NE(identity_.incarnation(), first_incarnation);
  stream = OpenOnDisk(1, 2, &hello);
  EXPECT_EQ(hello.lanes(0).position(), Position(1, 20).bits());
  EXPECT_EQ(hello.lanes(1).position(), Position(1, 1).bits());
  FrameBuilder read;
  read.Add(1, v1::IO_KIND_READ, 1, 20);
  read.Add(2, v1::IO_KIND_READ, 64);
  ASSERT_TRUE(stream->Send(read.frame));
  std::string data;
  EXPECT_EQ(stream->Await(1, &data).crc32c_size(), 20);
  EXPECT_EQ(data, std::string(20 * 4096, 'd'));
  stream->Await(2, &data);
  EXPECT_EQ(data, std::string(4096, 'e'));
}

TEST_F(DiskServerTest, TheSameStoreIsNotServedTwice) {
  StartOnDisk();
  EXPECT_EQ(Server::Start(options_).status().code(), absl::StatusCode::kFailedPrecondition);
}

}  // namespace
}  // namespace weir::replica
