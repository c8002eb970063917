// What a replica makes of malformed frames, wrong addresses, injected faults
// and its own failing disk.
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "grpcpp/generic/generic_stub.h"
#include "grpcpp/grpcpp.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/base/errno.h"
#include "proto/base/payload.h"
#include "proto/base/position.h"
#include "proto/wire/frame.h"
#include "proto/wire/frame_batcher.h"
#include "proto/wire/status.h"
#include "replica/server/server_fixture.h"
#include "weir/v1/replica.pb.h"

namespace weir::replica {
namespace {

constexpr char kIoMethod[] = "/weir.v1.ReplicaService/Io";

// The raw client that frame_batcher.h describes: bytes as they are, batched.
class RawStream final : public grpc::ClientBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer> {
 public:
  explicit RawStream(const std::shared_ptr<grpc::Channel>& channel) : stub_(channel) {
    stub_.PrepareBidiStreamingCall(&context_, kIoMethod, grpc::StubOptions(), this);
    AddHold();
    StartRead(&received_);
    StartCall();
  }
  ~RawStream() override { done_.WaitForNotification(); }

  void Send(const v1::IoFrame& head, absl::Span<const Payload> payload) {
    ASSERT_TRUE(batcher_.Queue(head, payload));
    Carry(batcher_.Next());
  }
  void Close() { Carry(batcher_.Close(wire::FrameBatcher::kDrain)); }
  absl::Status AwaitEnd() {
    done_.WaitForNotification();
    return status_;
  }
  uint64_t replies() const { return replies_; }

  void OnReadDone(bool ok) override {
    if (!ok) return;
    v1::IoReplyFrame head;
    Payload payload;
    EXPECT_TRUE(wire::DecodeFrame(received_, 64 << 20, &head, &payload).ok());
    for (const v1::IoReply& reply : head.replies()) {
      EXPECT_EQ(reply.error(), 0) << reply.message();
    }
    replies_ += static_cast<uint64_t>(head.replies_size());
    StartRead(&received_);
  }
  void OnWriteDone(bool ok) override { Carry(batcher_.WriteDone(ok)); }
  void OnDone(const grpc::Status& status) override {
    status_ = wire::FromGrpc(status);
    done_.Notify();
  }

 private:
  void Carry(wire::FrameBatcher::Step step) {
    if (step.write != nullptr) StartWrite(step.write);
    if (step.finish) {
      StartWritesDone();
      RemoveHold();
    }
  }

  grpc::GenericStub stub_;
  grpc::ClientContext context_;
  wire::FrameBatcher batcher_;
  grpc::ByteBuffer received_;
  uint64_t replies_ = 0;
  absl::Status status_;
  absl::Notification done_;
};

// How a stream ends on which these raw bytes are the first, or the second, frame.
class RawBytes final : public grpc::ClientBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer> {
 public:
  RawBytes(const std::shared_ptr<grpc::Channel>& channel, std::vector<grpc::ByteBuffer> frames)
      : stub_(channel), frames_(std::move(frames)) {
    stub_.PrepareBidiStreamingCall(&context_, kIoMethod, grpc::StubOptions(), this);
    StartRead(&received_);
    StartWrite(&frames_[0]);
    StartCall();
  }
  void OnReadDone(bool ok) override {
    if (ok) StartRead(&received_);
  }
  void OnWriteDone(bool ok) override {
    if (!ok) return;
    if (++sent_ < frames_.size()) {
      StartWrite(&frames_[sent_]);
    } else {
      StartWritesDone();
    }
  }
  void OnDone(const grpc::Status& status) override {
    status_ = wire::FromGrpc(status);
    done_.Notify();
  }
  absl::Status AwaitEnd() {
    done_.WaitForNotification();
    return status_;
  }

 private:
  grpc::GenericStub stub_;
  std::vector<grpc::ByteBuffer> frames_;
  grpc::ClientContext context_;
  grpc::ByteBuffer received_;
  size_t sent_ = 0;
  absl::Status status_;
  absl::Notification done_;
};

grpc::ByteBuffer BytesOf(const std::string& text) {
  const grpc::Slice slice(text);
  return grpc::ByteBuffer(&slice, 1);
}

class BadInputTest : public ServerFixture {
 protected:
  absl::Status EndOfBytes(std::vector<grpc::ByteBuffer> frames) {
    RawBytes stream(channel_, std::move(frames));
    return stream.AwaitEnd();
  }
  void ExpectStillServing() {
    auto stream = Open(1, ++session_);
    FrameBuilder frame;
    frame.Add(1, v1::IO_KIND_READ, 0);
    ASSERT_TRUE(stream->Send(frame.frame));
    EXPECT_EQ(stream->Await(1).error(), 0);
  }
  uint64_t session_ = 1000;
};

TEST_F(BadInputTest, ARawClientWritesSharedSlicesInBatches) {
  StartWithVolume();
  RawStream stream(channel_);
  stream.Send(HelloOf(1, 1), {});
  const Payload block = Payload::CopyOf(std::string(kBlockBytes, 'r'));
  constexpr uint64_t kWrites = 500;
  for (uint64_t n = 1; n <= kWrites; ++n) {
    FrameBuilder frame;
    frame.Write(n, n % 64, Position(1, n), 'r');
    frame.frame.clear_payload();
    stream.Send(frame.frame, {block});
  }
  stream.Close();
  EXPECT_TRUE(stream.AwaitEnd().ok()) << stream.AwaitEnd();
  EXPECT_EQ(stream.replies(), kWrites);
  EXPECT_LT(store_->write_calls(), static_cast<int>(kWrites)) << "writes came in batches";
}

TEST_F(BadInputTest, MalformedFramesEndTheStreamAndNothingElse) {
  StartWithVolume();
  FrameBuilder no_hello;
  no_hello.Add(1, v1::IO_KIND_READ, 0);
  EXPECT_EQ(EndOf(no_hello.frame).code(), absl::StatusCode::kInvalidArgument);
  v1::IoFrame short_payload = HelloOf(1, 1);
  FrameBuilder write;
  write.Write(1, 0, Position(1, 1), 'x');
  *short_payload.mutable_ios() = write.frame.ios();
  EXPECT_EQ(EndOf(short_payload).code(), absl::StatusCode::kInvalidArgument);
  const auto hello = [](uint64_t session) {
    return BytesOf(HelloOf(1, session).SerializeAsString());
  };
  EXPECT_EQ(EndOfBytes({BytesOf("\xff\xff\xff")}).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(EndOfBytes({hello(2), BytesOf("\x7a\xff\xff\xff\x7f")}).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(EndOfBytes({hello(3), hello(4)}).code(), absl::StatusCode::kInvalidArgument);
  ExpectStillServing();
}

TEST_F(BadInputTest, OversizedFramesAreRefusedFarBeforeTheyAreBuffered) {
  StartWithVolume();
  const std::string above(9 << 20, 'x'), far_above(64 << 20, 'x');
  v1::IoFrame frame = HelloOf(1, 1);
  frame.set_payload(above);
  EXPECT_EQ(EndOf(frame).code(), absl::StatusCode::kInvalidArgument);
  frame.set_payload(far_above);
  EXPECT_FALSE(EndOf(frame).ok());
  ExpectStillServing();
}

TEST_F(BadInputTest, RandomlyDamagedFramesNeverBreakTheServer) {
  StartWithVolume();
  std::mt19937 random(7);
  FrameBuilder base;
  base.Write(1, 0, Position(1, 1), 'a');
  base.Add(2, v1::IO_KIND_READ, 64, 3);
  base.Add(3, v1::IO_KIND_EXTENTS, 0, 60);
  base.Flush(4, 1);
  base.frame.add_durable_points()->set_lane(2);
  const std::string text = base.frame.SerializeAsString();
  for (uint64_t round = 1; round <= 300; ++round) {
    std::string damaged = text;
    for (int edit = 0; edit < 3; ++edit) {
      // The head, where all the meaning is.
      damaged[random() % (text.size() - kBlockBytes)] = static_cast<char>(random());
    }
    static_cast<void>(EndOfBytes({BytesOf(HelloOf(1, round).SerializeAsString()),
                                  BytesOf(damaged), BytesOf(damaged)}));
  }
  ExpectStillServing();
}

TEST_F(BadInputTest, AStreamWithoutAHelloIsEndedInTime) {
  options_.hello_deadline = absl::Milliseconds(20);
  StartWithVolume();
  TestStream stream(stub_.get());
  EXPECT_EQ(stream.DrainAndFinish().code(), absl::StatusCode::kDeadlineExceeded);
}

TEST_F(BadInputTest, VolumesOfImpossibleGeometryAreRefused) {
  Start();
  grpc::ClientContext context;
  v1::CreateReplicaVolumeRequest request;
  *request.mutable_fence() = FenceOf(1);
  request.set_size_bytes(5000);
  request.set_lanes(4);
  request.set_stripe_blocks(64);
  v1::CreateReplicaVolumeResponse response;
  EXPECT_EQ(stub_->CreateVolume(&context, request, &response).error_code(),
            grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_TRUE(GetReplica().cluster_id().empty()) << "and do not bind the store to a cluster";
}

TEST_F(BadInputTest, AnAddressInUseIsFoundAndNotShared) {
  StartWithVolume();
  ServerOptions second;
  second.listen = server_->address();
  auto result = Server::StartWithStore(second, std::make_unique<FakeStore>());
  ASSERT_FALSE(result.ok());
  EXPECT_NE(std::string(result.status().message()).find(server_->address()), std::string::npos);

  ServerOptions on_socket;
  // Not TEST_TMPDIR: a socket's path must be short.
  char directory[] = "/tmp/weir-XXXXXX";
  ASSERT_NE(mkdtemp(directory), nullptr);
  const std::string path = absl::StrCat(directory, "/s");
  on_socket.listen = absl::StrCat("unix:", path);
  auto first = Server::StartWithStore(on_socket, std::make_unique<FakeStore>());
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_FALSE(Server::StartWithStore(on_socket, std::make_unique<FakeStore>()).ok());
  first->reset();
  EXPECT_TRUE(Server::StartWithStore(on_socket, std::make_unique<FakeStore>()).ok())
      << "a socket that nobody listens on is no obstacle";
  unlink(path.c_str());
  rmdir(directory);
}

TEST_F(BadInputTest, LabelsThatCouldNotBePrintedAreRefused) {
  for (const auto& [name, value] : {std::pair<std::string, std::string>{"zone", ""},
                                    {"", "a"},
                                    {"zone", "a b"},
                                    {"zone", "a,rack=b"},
                                    {std::string(64, 'z'), "a"}}) {
    ServerOptions options;
    options.labels[name] = value;
    EXPECT_TRUE(absl::IsInvalidArgument(options.Validate())) << name << "=" << value;
  }
  ServerOptions good;
  good.labels = {{"zone", "eu-1/a"}, {"rack", "7"}};
  EXPECT_TRUE(good.Validate().ok());
}

// --- faults ---

class FaultInjectionTest : public ServerFixture {
 protected:
  FaultInjectionTest() { options_.enable_fault_injection = true; }
};

TEST_F(FaultInjectionTest, IsRefusedUnlessEnabled) {
  options_.enable_fault_injection = false;
  Start();
  const absl::Status refused = SetFault(v1::FAULT_OP_READ, EIO).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(refused)) << refused;
  EXPECT_THAT(refused.message(), testing::HasSubstr("--enable_fault_injection"));
}

TEST_F(FaultInjectionTest, AFaultedWriteIsNotAppliedAndThoseBehindItAreRequeued) {
  StartWithVolume();
  auto stream = Open();
  ASSERT_TRUE(SetFault(v1::FAULT_OP_WRITE, EIO).ok());
  FrameBuilder frame;
  frame.Write(1, 0, Position(1, 1), 'x');
  frame.Write(2, 1, Position(1, 2), 'y');
  ASSERT_TRUE(stream->Send(frame.frame));
  EXPECT_EQ(stream->Await(1).error(), EIO);
  EXPECT_EQ(stream->Await(2).error(), EAGAIN);
  ASSERT_TRUE(stream->Send(frame.frame));
  EXPECT_EQ(stream->Await(1).error(), 0);
  EXPECT_EQ(stream->Await(2).error(), 0);
}

TEST_F(FaultInjectionTest, ADelayedWriteIsAppliedInOrderAndAnsweredLate) {
  StartWithVolume();
  auto stream = Open();
  ASSERT_TRUE(SetFault(v1::FAULT_OP_WRITE, 0, 1, /*delay_ms=*/60).ok());
  const absl::Time start = absl::Now();
  FrameBuilder frame;
  frame.Write(1, 0, Position(1, 1), 'x');
  frame.Write(2, 1, Position(1, 2), 'y');
  ASSERT_TRUE(stream->Send(frame.frame));
  EXPECT_EQ(stream->Await(2).error(), 0);
  EXPECT_FALSE(stream->HasReplyTo(1));
  EXPECT_EQ(stream->Await(1).error(), 0);
  EXPECT_GE(absl::Now() - start, absl::Milliseconds(60));
}

TEST_F(FaultInjectionTest, ADroppedReadIsNeverAnswered) {
  StartWithVolume();
  auto stream = Open();
  ASSERT_TRUE(SetFault(v1::FAULT_OP_READ, 0, 1, 0, /*drop=*/true).ok());
  FrameBuilder frame;
  frame.Add(1, v1::IO_KIND_READ, 0);
  frame.Add(2, v1::IO_KIND_READ, 0);
  ASSERT_TRUE(stream->Send(frame.frame));
  EXPECT_EQ(stream->Await(2).error(), 0);
  stream->HalfClose();
  EXPECT_TRUE(stream->DrainAndFinish().ok());
  EXPECT_FALSE(stream->HasReplyTo(1));
}

TEST_F(FaultInjectionTest, FlushesAreStruckByDomainAndInTheOrderOfTheRules) {
  StartWithVolume();
  auto stream = Open();
  for (int error : {EIO, EAGAIN, EOPNOTSUPP}) {
    ASSERT_TRUE(SetFault(v1::FAULT_OP_FLUSH, error).ok());
  }
  FrameBuilder frame;
  for (uint64_t id = 1; id <= 4; ++id) frame.Flush(id, 0);
  ASSERT_TRUE(stream->Send(frame.frame));
  EXPECT_EQ(stream->Await(1).error(), EIO);
  EXPECT_EQ(stream->Await(2).error(), EAGAIN);
  EXPECT_EQ(stream->Await(3).error(), EOPNOTSUPP);
  EXPECT_EQ(stream->Await(4).error(), 0);
  EXPECT_EQ(store_->syncs(), 1) << "what was struck has not been carried out";
}

TEST_F(FaultInjectionTest, AReplicaThatCannotFlushSaysSoAtSealAndHello) {
  StartWithVolume();
  ASSERT_TRUE(SetFault(v1::FAULT_OP_FLUSH, EOPNOTSUPP, /*count=*/0).ok());
  v1::SealResponse sealed;
  ASSERT_TRUE(Seal(2, &sealed).ok());
  EXPECT_FALSE(sealed.flush_supported());
  ASSERT_TRUE(TakeBase(2, sealed).ok());
  v1::HelloReply hello;
  auto stream = Open(2, 1, &hello);
  EXPECT_FALSE(hello.flush_supported());
}

// --- the store fails ---

using StoreFailureTest = ServerFixture;

TEST_F(StoreFailureTest, AFailedSyncIsAnsweredThenEverythingEndsAndTheReasonStays) {
  StartWithVolume();
  auto stream = Open();
  store_->FailNextSync();
  FrameBuilder frame;
  frame.Flush(1, 0);
  ASSERT_TRUE(stream->Send(frame.frame));
  EXPECT_EQ(stream->Await(1).error(), EIO);
  const absl::Status ended = stream->DrainAndFinish();
  EXPECT_EQ(StatusToErrno(ended), EIO);
  EXPECT_NE(std::string(ended.message()).find("sync failed"), std::string::npos);
  EXPECT_EQ(StatusToErrno(EndOf(HelloOf(1, 2))), EIO) << "for ever";
  v1::SealResponse sealed;
  EXPECT_EQ(StatusToErrno(Seal(2, &sealed)), EIO);
  const v1::GetReplicaResponse replica = GetReplica();
  EXPECT_EQ(replica.state(), "FAILED");
  EXPECT_NE(replica.state_reason().find("sync failed"), std::string::npos);
}

}  // namespace
}  // namespace weir::replica
