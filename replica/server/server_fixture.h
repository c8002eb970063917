// A replica server on a fake store, and a plain gRPC client of it: the
// generated stub, with the payload inside the message.
#ifndef WEIR_REPLICA_SERVER_SERVER_FIXTURE_H_
#define WEIR_REPLICA_SERVER_SERVER_FIXTURE_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "grpcpp/grpcpp.h"
#include "gtest/gtest.h"
#include "proto/base/crc32c.h"
#include "proto/base/position.h"
#include "proto/wire/status.h"
#include "proto/wire/transport.h"
#include "replica/server/fake_store.h"
#include "replica/server/server.h"
#include "weir/v1/replica.grpc.pb.h"
#include "weir/v1/replica.pb.h"

namespace weir::replica {

// Builds frames. Volume geometry as MakeVolume has it.
class FrameBuilder {
 public:
  static constexpr uint32_t kStripeBlocks = 64;
  static constexpr uint32_t kLanes = 4;

  v1::Io& Add(uint64_t id, v1::IoKind kind, uint64_t block, uint32_t count = 1) {
    v1::Io* io = frame.add_ios();
    io->set_id(id);
    io->set_kind(kind);
    io->set_first_block(block);
    io->set_block_count(count);
    io->set_lane(static_cast<uint32_t>(block / kStripeBlocks % kLanes));
    return *io;
  }
  // `fill` in every byte of one block.
  v1::Io& Write(uint64_t id, uint64_t block, Position position, char fill) {
    const std::string data(kBlockBytes, fill);
    v1::Io& io = Add(id, v1::IO_KIND_WRITE, block);
    io.set_position(position.bits());
    io.add_crc32c(Crc32c(data));
    frame.mutable_payload()->append(data);
    return io;
  }
  v1::Io& Flush(uint64_t id, uint32_t flush_nr) {
    v1::Io& io = Add(id, v1::IO_KIND_FLUSH, 0);
    io.set_flush_nr(flush_nr);
    return io;
  }

  v1::IoFrame frame;
};

// One stream, synchronous.
class TestStream {
 public:
  explicit TestStream(v1::ReplicaService::Stub* stub) : stream_(stub->Io(&context_)) {}
  ~TestStream() {
    context_.TryCancel();
    if (!finished_) static_cast<void>(stream_->Finish());
  }

  bool Send(const v1::IoFrame& frame) { return stream_->Write(frame); }
  // False: the stream has ended.
  bool ReceiveFrame(v1::IoReplyFrame* frame) { return stream_->Read(frame); }
  void HalfClose() { stream_->WritesDone(); }
  absl::Status Finish() {
    finished_ = true;
    return wire::FromGrpc(stream_->Finish());
  }
  // Reads to the end first.
  absl::Status DrainAndFinish() {
    v1::IoReplyFrame frame;
    while (ReceiveFrame(&frame)) {
    }
    return Finish();
  }

  // The reply to `id`, whenever it comes; `data` gets its payload.
  v1::IoReply Await(uint64_t id, std::string* data = nullptr) {
    while (replies_.count(id) == 0) {
      v1::IoReplyFrame frame;
      if (!ReceiveFrame(&frame)) {
        ADD_FAILURE() << "stream ended before reply " << id;
        return {};
      }
      if (frame.has_space_exhausted()) space_exhausted = frame.space_exhausted();
      ++reply_frames;
      size_t offset = 0;
      for (const v1::IoReply& reply : frame.replies()) {
        const size_t size = size_t{reply.payload_blocks()} * kBlockBytes;
        replies_[reply.id()] = {reply, frame.payload().substr(offset, size)};
        offset += size;
      }
      EXPECT_EQ(offset, frame.payload().size());
    }
    auto [reply, payload] = replies_[id];
    replies_.erase(id);
    if (data != nullptr) *data = payload;
    return reply;
  }
  bool HasReplyTo(uint64_t id) const { return replies_.count(id) > 0; }

  int reply_frames = 0;
  bool space_exhausted = false;

 private:
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReaderWriter<v1::IoFrame, v1::IoReplyFrame>> stream_;
  std::map<uint64_t, std::pair<v1::IoReply, std::string>> replies_;
  bool finished_ = false;
};

class ServerFixture : public ::testing::Test {
 protected:
  static constexpr uint64_t kVolume = 42;
  static constexpr uint64_t kVolumeBytes = 64 << 20;

  // REQUIRES: not running.
  void Start() {
    auto store = std::make_unique<FakeStore>(2);
    store_ = store.get();
    auto server = Server::StartWithStore(options_, std::move(store));
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    Connect();
  }
  void Connect() {
    grpc::ChannelArguments arguments;
    wire::SetStreamTransport(&arguments);
    channel_ = grpc::CreateCustomChannel(server_->address(), grpc::InsecureChannelCredentials(),
                                         arguments);
    stub_ = v1::ReplicaService::NewStub(channel_);
  }

  static v1::Fence FenceOf(Epoch epoch) {
    v1::Fence fence;
    fence.set_cluster_id("cluster");
    fence.set_volume_id(kVolume);
    fence.set_store_id("store-under-test");
    fence.set_incarnation(7);
    fence.set_epoch(epoch);
    return fence;
  }

  absl::Status CreateVolume() {
    grpc::ClientContext context;
    v1::CreateReplicaVolumeRequest request;
    *request.mutable_fence() = FenceOf(1);
    request.set_size_bytes(kVolumeBytes);
    request.set_lanes(FrameBuilder::kLanes);
    request.set_stripe_blocks(FrameBuilder::kStripeBlocks);
    v1::CreateReplicaVolumeResponse response;
    return wire::FromGrpc(stub_->CreateVolume(&context, request, &response));
  }
  absl::Status Seal(Epoch epoch, v1::SealResponse* response) {
    grpc::ClientContext context;
    v1::SealRequest request;
    *request.mutable_fence() = FenceOf(epoch);
    return wire::FromGrpc(stub_->Seal(&context, request, response));
  }
  absl::Status TakeBase(Epoch epoch, const v1::SealResponse& sealed) {
    grpc::ClientContext context;
    v1::TakeBaseRequest request;
    *request.mutable_fence() = FenceOf(epoch);
    request.set_act_epoch(epoch - 1);
    for (const v1::LaneState& lane : sealed.lanes()) {
      v1::LanePosition* expected = request.add_expected();
      expected->set_lane(lane.lane());
      expected->set_position(lane.position());
    }
    v1::TakeBaseResponse response;
    return wire::FromGrpc(stub_->TakeBase(&context, request, &response));
  }
  void TakeOver(Epoch epoch) {
    v1::SealResponse sealed;
    ASSERT_TRUE(Seal(epoch, &sealed).ok());
    ASSERT_TRUE(TakeBase(epoch, sealed).ok());
  }
  void StartWithVolume() {
    Start();
    ASSERT_TRUE(CreateVolume().ok());
    TakeOver(1);
  }

  static v1::IoFrame HelloOf(Epoch epoch, uint64_t session) {
    v1::IoFrame frame;
    *frame.mutable_hello()->mutable_fence() = FenceOf(epoch);
    frame.mutable_hello()->set_session(session);
    return frame;
  }
  // A stream that has been answered its hello.
  std::unique_ptr<TestStream> Open(Epoch epoch = 1, uint64_t session = 1,
                                   v1::HelloReply* hello = nullptr) {
    auto stream = std::make_unique<TestStream>(stub_.get());
    EXPECT_TRUE(stream->Send(HelloOf(epoch, session)));
    v1::IoReplyFrame frame;
    EXPECT_TRUE(stream->ReceiveFrame(&frame)) << stream->Finish();
    EXPECT_TRUE(frame.has_hello());
    if (hello != nullptr) *hello = frame.hello();
    return stream;
  }
  // How a stream ends whose only frame is `frame`.
  absl::Status EndOf(const v1::IoFrame& frame) {
    TestStream stream(stub_.get());
    stream.Send(frame);
    return stream.DrainAndFinish();
  }

  absl::StatusOr<uint64_t> SetFault(v1::FaultOp op, int error, uint64_t count = 1,
                                    uint32_t delay_ms = 0, bool drop = false) {
    grpc::ClientContext context;
    v1::SetFaultRequest request;
    request.mutable_fault()->set_op(op);
    request.mutable_fault()->set_error(error);
    request.mutable_fault()->set_count(count);
    request.mutable_fault()->set_delay_ms(delay_ms);
    request.mutable_fault()->set_drop(drop);
    v1::SetFaultResponse response;
    const grpc::Status status = stub_->SetFault(&context, request, &response);
    if (!status.ok()) return wire::FromGrpc(status);
    return response.id();
  }
  v1::GetReplicaResponse GetReplica() {
    grpc::ClientContext context;
    v1::GetReplicaResponse response;
    EXPECT_TRUE(stub_->GetReplica(&context, v1::GetReplicaRequest(), &response).ok());
    return response;
  }

  ServerOptions options_;
  FakeStore* store_ = nullptr;  // owned by server_
  std::unique_ptr<Server> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::ReplicaService::Stub> stub_;
};

}  // namespace weir::replica

#endif  // WEIR_REPLICA_SERVER_SERVER_FIXTURE_H_
