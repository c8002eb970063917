// The server beside its I/O: tails from one replica to another, health,
// reflection, metrics.
#include <cerrno>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "grpcpp/generic/generic_stub.h"
#include "grpcpp/grpcpp.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/base/position.h"
#include "proto/monitor/http_get.h"
#include "proto/wire/status.h"
#include "replica/server/server_fixture.h"
#include "weir/v1/replica.pb.h"

namespace weir::replica {
namespace {

class EndpointsTest : public ServerFixture {
 protected:
  void WriteBlocks(uint64_t count, Epoch epoch) {
    auto stream = Open(epoch, 1);
    for (uint64_t n = 1; n <= count; ++n) {
      FrameBuilder frame;
      frame.Write(n, n % 64, Position(epoch, n), static_cast<char>('a' + n % 26));
      ASSERT_TRUE(stream->Send(frame.frame));
      ASSERT_EQ(stream->Await(n).error(), 0);
    }
  }
  grpc::Status ReadTail(Epoch epoch, std::vector<v1::TailChunk>* chunks) {
    grpc::ClientContext context;
    v1::ReadTailRequest request;
    *request.mutable_fence() = FenceOf(epoch);
    request.set_from_position(Position(1, 0).bits());
    request.set_to_position(Position(1, 40).bits());
    auto reader = stub_->ReadTail(&context, request);
    v1::TailChunk chunk;
    while (reader->Read(&chunk)) chunks->push_back(chunk);
    return reader->Finish();
  }
  // `last` is sent with commit, or not at all.
  grpc::Status AdoptTail(Epoch epoch, const std::vector<v1::TailChunk>& chunks, bool commit) {
    grpc::ClientContext context;
    v1::AdoptTailResponse response;
    auto writer = stub_->AdoptTail(&context, &response);
    v1::AdoptTailRequest first;
    *first.mutable_fence() = FenceOf(epoch);
    first.set_from_position(Position(1, 0).bits());
    first.set_to_position(Position(1, 40).bits());
    writer->Write(first);
    for (const v1::TailChunk& chunk : chunks) {
      v1::AdoptTailRequest request;
      *request.mutable_chunk() = chunk;
      writer->Write(request);
    }
    if (commit) {
      v1::AdoptTailRequest last;
      last.set_commit(true);
      writer->Write(last);
    }
    writer->WritesDone();
    return writer->Finish();
  }
  // The answer of a unary call whose messages we have no headers for.
  std::string CallRaw(const std::string& method, const std::string& request) {
    grpc::GenericStub stub(channel_);
    grpc::ClientContext context;
    grpc::CompletionQueue queue;
    const grpc::Slice slice(request);
    auto call = stub.PrepareUnaryCall(&context, method, grpc::ByteBuffer(&slice, 1), &queue);
    call->StartCall();
    grpc::ByteBuffer response;
    grpc::Status status;
    call->Finish(&response, &status, nullptr);
    void* tag = nullptr;
    bool ok = false;
    EXPECT_TRUE(queue.Next(&tag, &ok));
    EXPECT_TRUE(status.ok()) << status.error_message();
    grpc::Slice answer;
    if (!status.ok() || !response.DumpToSingleSlice(&answer).ok()) return "";
    return std::string(reinterpret_cast<const char*>(answer.begin()), answer.size());
  }
};

TEST_F(EndpointsTest, ATailGoesFromOneReplicaToAnother) {
  StartWithVolume();
  WriteBlocks(40, 1);
  v1::SealResponse source, target;
  ASSERT_TRUE(Seal(2, &source).ok());
  std::vector<v1::TailChunk> chunks;
  ASSERT_TRUE(ReadTail(2, &chunks).ok());
  ASSERT_GE(chunks.size(), 1u);
  EXPECT_EQ(chunks[0].changes_size(), 40);
  for (const v1::TailChunk& chunk : chunks) EXPECT_LT(chunk.ByteSizeLong(), 1u << 20);

  StartWithVolume();  // another replica, which has missed it all
  ASSERT_TRUE(Seal(2, &target).ok());
  EXPECT_EQ(AdoptTail(2, chunks, /*commit=*/false).error_code(),
            grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(AdoptTail(1, chunks, true).error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  const grpc::Status adopted = AdoptTail(2, chunks, true);
  ASSERT_TRUE(adopted.ok()) << adopted.error_message();
  EXPECT_TRUE(AdoptTail(2, chunks, true).ok()) << "idempotent";
  ASSERT_TRUE(Seal(2, &target).ok());
  EXPECT_EQ(target.lanes(0).position(), source.lanes(0).position());
  ASSERT_TRUE(TakeBase(2, target).ok());
  auto stream = Open(2, 1);
  FrameBuilder frame;
  frame.Add(1, v1::IO_KIND_READ, 7);
  ASSERT_TRUE(stream->Send(frame.frame));
  std::string data;
  stream->Await(1, &data);
  EXPECT_EQ(data, std::string(4096, 'a' + 7));
}

TEST_F(EndpointsTest, ATailAboveTheLimitIsRefused) {
  options_.tail_bytes_max = 64 << 10;
  StartWithVolume();
  v1::SealResponse sealed;
  ASSERT_TRUE(Seal(2, &sealed).ok());
  v1::TailChunk chunk;
  chunk.add_versions()->set_data(std::string(40 << 10, 'x'));
  EXPECT_EQ(AdoptTail(2, {chunk, chunk}, true).error_code(),
            grpc::StatusCode::RESOURCE_EXHAUSTED);
}

TEST_F(EndpointsTest, HealthSaysWhetherItServes) {
  StartWithVolume();
  // HealthCheckRequest{service}, HealthCheckResponse{status: SERVING = 1, NOT_SERVING = 2}
  const std::string service = "weir.v1.ReplicaService";
  const std::string request = absl::StrCat("\x0a", std::string(1, static_cast<char>(service.size())), service);
  EXPECT_EQ(CallRaw("/grpc.health.v1.Health/Check", request), "\x08\x01");
  auto stream = Open();
  store_->FailNextSync();
  FrameBuilder frame;
  frame.Flush(1, 0);
  ASSERT_TRUE(stream->Send(frame.frame));
  EXPECT_FALSE(stream->DrainAndFinish().ok());
  while (CallRaw("/grpc.health.v1.Health/Check", request) != "\x08\x02") {
  }
}

TEST_F(EndpointsTest, HealthPagesSayWhetherTheStoreWorks) {
  options_.metrics_listen = "127.0.0.1:0";
  StartWithVolume();
  const auto ask = [&](const char* page) { return monitor::HttpGet(server_->metrics_address(), page); };
  EXPECT_THAT(ask("/healthz"), testing::EndsWith("\r\n\r\nok\n"));
  EXPECT_THAT(ask("/readyz"), testing::EndsWith("\r\n\r\nok\n"));
  auto stream = Open();
  store_->FailNextSync();
  FrameBuilder frame;
  frame.Flush(1, 0);
  ASSERT_TRUE(stream->Send(frame.frame));
  EXPECT_FALSE(stream->DrainAndFinish().ok());
  for (const char* page : {"/healthz", "/readyz"}) {
    EXPECT_THAT(ask(page), testing::StartsWith("HTTP/1.1 503 ")) << page;
    EXPECT_THAT(ask(page), testing::HasSubstr("its store has failed and serves no more")) << page;
  }
}

TEST_F(EndpointsTest, MetricsCountWhatHappened) {
  options_.metrics_listen = "127.0.0.1:0";
  options_.enable_fault_injection = true;
  StartWithVolume();
  WriteBlocks(3, 1);
  ASSERT_TRUE(SetFault(v1::FAULT_OP_READ, EIO).ok());
  auto stream = Open(1, 2);
  FrameBuilder frame;
  frame.Add(1, v1::IO_KIND_READ, 0);
  frame.Flush(2, 0);
  ASSERT_TRUE(stream->Send(frame.frame));
  stream->Await(1);
  stream->Await(2);
  const std::string text = monitor::HttpGet(server_->metrics_address(), "/metrics");
  for (const char* line : {
           "weir_replica_requests_total{op=\"write\"} 3",
           "weir_replica_bytes_total{op=\"write\"} 12288",
           "weir_replica_errors_total{errno=\"EIO\"} 1",
           "weir_replica_injected_faults_total{op=\"read\"} 1",
           "weir_replica_sync_seconds_count{domain=\"0\"} 1",
           "weir_replica_streams 1",
           "weir_replica_lane_applied_writes{lane=\"0\",volume=\"42\"} 3",
           "weir_replica_lane_durable_writes{lane=\"0\",volume=\"42\"} 3",
           "weir_replica_volume_promised_epoch{volume=\"42\"} 1",
           "weir_build_info{component=\"weir-replica\",version=\"0.1.0\"} 1",
           "process_open_fds ",
       }) {
    EXPECT_NE(text.find(line), std::string::npos) << line << "\n" << text;
  }
}

TEST_F(EndpointsTest, GetReplicaTellsWhatItHolds) {
  options_.name = "r1";
  options_.labels = {{"zone", "a"}};
  options_.store.data_dirs = {"/tmp"};
  StartWithVolume();
  WriteBlocks(5, 1);
  const v1::GetReplicaResponse replica = GetReplica();
  EXPECT_EQ(replica.name(), "r1");
  EXPECT_EQ(replica.state(), "SERVING");
  EXPECT_EQ(replica.labels().at("zone"), "a");
  EXPECT_EQ(replica.cluster_id(), "cluster");
  ASSERT_EQ(replica.data_dirs_size(), 1);
  EXPECT_GT(replica.data_dirs(0).capacity_bytes(), 0u);
  ASSERT_EQ(replica.volumes_size(), 1);
  EXPECT_EQ(replica.volumes(0).size_bytes(), kVolumeBytes);
  EXPECT_EQ(replica.volumes(0).live_bytes(), 5u * 4096);
}

TEST_F(EndpointsTest, WhatIsFoundOutOfADiskIsSaidOnceItIsKnown) {
  options_.metrics_listen = "127.0.0.1:0";
  options_.store.data_dirs = {"/tmp", "/nowhere/at/all"};
  StartWithVolume();
  v1::GetReplicaResponse replica = GetReplica();
  while (!replica.data_dirs(1).has_disk()) replica = GetReplica();
  const v1::DiskTruth& disk = replica.data_dirs(0).disk();
  EXPECT_NE(disk.verdict(), v1::DiskTruth::VERDICT_UNSPECIFIED);
  EXPECT_GT(disk.sync_rounds(), 0u);
  EXPECT_GT(disk.sync_median_ns(), 0u);
  EXPECT_GE(disk.reasons_size(), 1);
  EXPECT_NE(disk.file_system(), "");
  // A probe that fails fails nothing else.
  EXPECT_EQ(replica.state(), "SERVING");
  EXPECT_EQ(replica.data_dirs(1).disk().verdict(), v1::DiskTruth::UNKNOWN);
  EXPECT_THAT(replica.data_dirs(1).disk().reasons(0), testing::HasSubstr("/nowhere/at/all: No such file"));
  const std::string text = monitor::HttpGet(server_->metrics_address(), "/metrics");
  EXPECT_THAT(text, testing::HasSubstr("weir_replica_data_dir_verdict{dir=\"/nowhere/at/all\",verdict=\"unknown\"} 1"));
  EXPECT_THAT(text, testing::HasSubstr("weir_replica_data_dir_verdict{dir=\"/nowhere/at/all\",verdict=\"durable\"} 0"));
  EXPECT_THAT(text, testing::Not(testing::HasSubstr("weir_replica_data_dir_sync_median_seconds{dir=\"/tmp\"} 0\n")));
}

}  // namespace
}  // namespace weir::replica
