// The server on the real store: what it has answered is there after a restart.
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>

#include "gmock/gmock.h"
#include "grpcpp/grpcpp.h"
#include "gtest/gtest.h"
#include "proto/base/errno.h"
#include "proto/base/position.h"
#include "proto/monitor/http_get.h"
#include "proto/wire/status.h"
#include "replica/server/server.h"
#include "replica/server/server_fixture.h"
#include "weir/v1/replica.pb.h"

namespace weir::replica {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

std::string Text(const absl::Status& status) { return std::string(status.message()); }

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

  absl::StatusOr<uint64_t> SetFileFault(v1::FaultOp op, int error, uint64_t count, uint32_t flush_nr) {
    grpc::ClientContext context;
    v1::SetFaultRequest request;
    request.mutable_fault()->set_op(op);
    request.mutable_fault()->set_error(error);
    request.mutable_fault()->set_count(count);
    request.mutable_fault()->set_flush_nr(flush_nr);
    v1::SetFaultResponse response;
    const grpc::Status status = stub_->SetFault(&context, request, &response);
    if (!status.ok()) return wire::FromGrpc(status);
    return response.id();
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

// Design: "The first failed sync is final for the store."
TEST_F(DiskServerTest, AFailedSyncOfAFileIsAnsweredThenNothingIsServedAndNoProcessOpensTheStoreAgain) {
  options_.enable_fault_injection = true;
  options_.metrics_listen = "127.0.0.1:0";
  for (const bool once : {true, false}) {
    StartOnDisk();
    CreateOnDisk();
    TakeOverOnDisk(1);
    v1::HelloReply hello;
    auto stream = OpenOnDisk(1, 1, &hello);
    ASSERT_TRUE(SetFileFault(v1::FAULT_OP_FILE_SYNC, EIO, once ? 1 : 0, /*flush_nr=*/1).ok());
    FrameBuilder frame;
    frame.Write(1, FrameBuilder::kStripeBlocks, Position(1, 1), 'x');  // in lane 1, so in domain 1
    frame.Flush(2, 1);
    ASSERT_TRUE(stream->Send(frame.frame));
    const v1::IoReply flushed = stream->Await(2);
    EXPECT_EQ(flushed.error(), EIO);
    EXPECT_THAT(flushed.message(), HasSubstr("store FAILED for ever, domain 1"));
    EXPECT_EQ(StatusToErrno(stream->DrainAndFinish()), EIO);
    EXPECT_EQ(GetReplica().state(), "FAILED");
    const std::string metrics = monitor::HttpGet(server_->metrics_address(), "/metrics");
    EXPECT_THAT(metrics, HasSubstr("weir_replica_store_failed 1"));
    EXPECT_THAT(metrics, HasSubstr("weir_replica_injected_faults_total{op=\"file_sync\"}"));
    if (once) EXPECT_THAT(metrics, HasSubstr("weir_replica_injected_faults_total{op=\"file_sync\"} 1"));
    EXPECT_THAT(monitor::HttpGet(server_->metrics_address(), "/healthz"), StartsWith("HTTP/1.1 503 "));
    stream.reset();
    server_.reset();
    const absl::Status again = Server::Start(options_).status();
    EXPECT_TRUE(absl::IsDataLoss(again)) << again;
    EXPECT_THAT(Text(again), HasSubstr("erase its directories to start with an empty one"));
    // With new disks it is a new store.
    for (const std::string& dir : options_.store.data_dirs) std::filesystem::remove_all(dir);
  }
  const std::string first = identity_.store_id();
  StartOnDisk();
  EXPECT_NE(identity_.store_id(), first);
  EXPECT_EQ(identity_.state(), "SERVING");
}

TEST_F(DiskServerTest, AFailedWriteOfAFileIsFinalToo) {
  options_.enable_fault_injection = true;
  StartOnDisk();
  CreateOnDisk();
  TakeOverOnDisk(1);
  v1::HelloReply hello;
  auto stream = OpenOnDisk(1, 1, &hello);
  ASSERT_TRUE(SetFileFault(v1::FAULT_OP_FILE_WRITE, ENOSPC, 1, /*flush_nr=*/1).ok());
  FrameBuilder frame;
  frame.Write(1, FrameBuilder::kStripeBlocks, Position(1, 1), 'x');
  ASSERT_TRUE(stream->Send(frame.frame));
  EXPECT_EQ(stream->Await(1).error(), EIO);
  EXPECT_EQ(StatusToErrno(stream->DrainAndFinish()), EIO);
  stream.reset();
  server_.reset();
  EXPECT_TRUE(absl::IsDataLoss(Server::Start(options_).status()));
}

TEST_F(DiskServerTest, FilesDoNotFailUnlessFaultInjectionIsEnabled) {
  StartOnDisk();
  EXPECT_TRUE(absl::IsFailedPrecondition(SetFileFault(v1::FAULT_OP_FILE_SYNC, EIO, 1, 0).status()));
}

TEST_F(DiskServerTest, TheSameStoreIsNotServedTwice) {
  StartOnDisk();
  EXPECT_EQ(Server::Start(options_).status().code(), absl::StatusCode::kFailedPrecondition);
}

}  // namespace
}  // namespace weir::replica
