// VolumeService over gRPC, as any client sees it.
#include <cerrno>
#include <string>
#include <thread>

#include "absl/strings/match.h"
#include "absl/time/clock.h"
#include "google/protobuf/any.pb.h"
#include "grpcpp/create_channel.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "volume/host/testing/fixture.h"
#include "volume/host/tracer.h"
#include "weir/v1/volume.grpc.pb.h"

namespace weir::host {
namespace {

class ServiceTest : public HostFixture {
 protected:
  void Connect() { Connect(Options()); }
  void Connect(HostOptions options) {
    StartHost(std::move(options));
    ASSERT_TRUE(host_->CreateVolume(CreateRequest()).ok());
    Attach();
    stub_ = v1::VolumeService::NewStub(
        grpc::CreateChannel(absl::StrCat("127.0.0.1:", host_->port()),
                            grpc::InsecureChannelCredentials()));
  }

  using Stream =
      grpc::ClientReaderWriter<v1::VolumeIoFrame, v1::VolumeIoReplyFrame>;

  // A stream of "demo", opened.
  std::unique_ptr<Stream> Open(grpc::ClientContext* context) {
    auto stream = stub_->Io(context);
    v1::VolumeIoFrame frame;
    frame.mutable_open()->set_volume("demo");
    stream->Write(frame);
    v1::VolumeIoReplyFrame reply;
    EXPECT_TRUE(stream->Read(&reply));
    EXPECT_EQ(reply.opened().size_bytes(), kSize);
    EXPECT_EQ(reply.opened().block_bytes(), 4096u);
    EXPECT_TRUE(reply.opened().flush_supported());
    return stream;
  }

  // A trace of "demo", on a thread of its own, that runs when this returns.
  std::thread StartTrace(uint32_t seconds, v1::TraceResponse* told, grpc::Status* status) {
    std::thread tracing([this, seconds, told, status] {
      grpc::ClientContext context;
      v1::TraceRequest request;
      request.set_name("demo");
      request.set_seconds(seconds);
      *status = stub_->Trace(&context, request, told);
    });
    while (!volume_->tracer()->active()) absl::SleepFor(absl::Milliseconds(1));
    return tracing;
  }

  static v1::VolumeIo* Add(v1::VolumeIoFrame* frame, uint64_t id,
                           v1::RequestKind kind, uint64_t offset,
                           uint32_t length) {
    v1::VolumeIo* io = frame->add_ios();
    io->set_id(id);
    io->set_kind(kind);
    io->set_offset_bytes(offset);
    io->set_length_bytes(length);
    return io;
  }

  // How a stream ends that sends this frame first.
  grpc::Status EndOf(const v1::VolumeIoFrame& first) {
    grpc::ClientContext context;
    auto stream = stub_->Io(&context);
    stream->Write(first);
    v1::VolumeIoReplyFrame reply;
    while (stream->Read(&reply)) {
    }
    return stream->Finish();
  }

  std::unique_ptr<v1::VolumeService::Stub> stub_;
};

TEST_F(ServiceTest, UnaryCallsWriteReadZeroAndFlush) {
  Connect();
  v1::WriteRequest write;
  write.set_name("demo");
  write.set_offset_bytes(8192);
  write.set_data(std::string(8192, 'w'));
  v1::WriteResponse written;
  {
    grpc::ClientContext context;
    EXPECT_TRUE(stub_->Write(&context, write, &written).ok());
  }
  write.set_offset_bytes(16384);
  {
    grpc::ClientContext context;
    EXPECT_TRUE(stub_->Barrier(&context, write, &written).ok());
  }
  v1::WriteZeroesRequest zero;
  zero.set_name("demo");
  zero.set_offset_bytes(12288);
  zero.set_length_bytes(4096);
  {
    grpc::ClientContext context;
    EXPECT_TRUE(stub_->WriteZeroes(&context, zero, &written).ok());
  }
  v1::ReadRequest read;
  read.set_name("demo");
  read.set_offset_bytes(8192);
  read.set_length_bytes(12288);
  v1::ReadResponse data;
  {
    grpc::ClientContext context;
    EXPECT_TRUE(stub_->Read(&context, read, &data).ok());
  }
  EXPECT_EQ(data.data(), std::string(4096, 'w') + std::string(4096, '\0') +
                             std::string(4096, 'w'));
  v1::FlushRequest flush;
  flush.set_name("demo");
  grpc::ClientContext context;
  EXPECT_TRUE(stub_->Flush(&context, flush, &written).ok());
}

TEST_F(ServiceTest, ADiscardOfTheWholeVolumeIsSplit) {
  Connect();
  EXPECT_EQ(Write(kSize - 4096, 'z'), 0);
  v1::DiscardRequest discard;
  discard.set_name("demo");
  discard.set_length_bytes(kSize);
  v1::WriteResponse response;
  {
    grpc::ClientContext context;
    EXPECT_TRUE(stub_->Discard(&context, discard, &response).ok());
  }
  EXPECT_EQ(Read(kSize - 4096), std::string(4096, '\0'));
  discard.set_length_bytes(kSize + 4096);
  grpc::ClientContext context;
  EXPECT_EQ(stub_->Discard(&context, discard, &response).error_code(),
            grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_F(ServiceTest, AFailedUnaryCallCarriesWhatSingleTargetsSaid) {
  Connect();
  replicas_[1]->FailNext(v1::IO_KIND_FLUSH, EOPNOTSUPP, 100);
  replicas_[2]->FailNext(v1::IO_KIND_FLUSH, EIO, 100);
  EXPECT_EQ(Write(0, 'a'), 0);
  v1::FlushRequest flush;
  flush.set_name("demo");
  v1::WriteResponse response;
  grpc::ClientContext context;
  const grpc::Status status = stub_->Flush(&context, flush, &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNIMPLEMENTED);
  EXPECT_TRUE(absl::StrContains(status.error_details(),
                                "type.googleapis.com/weir.v1.WriteResponse"));
  EXPECT_TRUE(absl::StrContains(status.error_details(), "r2"));
  EXPECT_TRUE(absl::StrContains(status.error_details(), "r3"))
      << "hidden by precedence, still reported";
}

TEST_F(ServiceTest, AStreamAnswersEveryRequestOfAFrame) {
  Connect();
  grpc::ClientContext context;
  auto stream = Open(&context);
  v1::VolumeIoFrame frame;
  for (uint64_t i = 0; i < 64; ++i) {
    Add(&frame, 100 + i, v1::REQUEST_KIND_WRITE, i * 4096, 4096);
    frame.mutable_payload()->append(std::string(4096, static_cast<char>(i)));
  }
  stream->Write(frame);
  size_t answered = 0;
  v1::VolumeIoReplyFrame reply;
  while (answered < 64 && stream->Read(&reply)) {
    for (const auto& one : reply.replies()) {
      EXPECT_EQ(one.error(), 0);
      ++answered;
    }
  }
  EXPECT_EQ(answered, 64u);
  frame.Clear();
  Add(&frame, 1, v1::REQUEST_KIND_FLUSH, 0, 0);
  stream->Write(frame);
  ASSERT_TRUE(stream->Read(&reply));
  EXPECT_EQ(reply.replies(0).error(), 0);
  frame.Clear();
  Add(&frame, 2, v1::REQUEST_KIND_READ, 5 * 4096, 8192);
  stream->Write(frame);
  ASSERT_TRUE(stream->Read(&reply));
  EXPECT_EQ(reply.replies(0).length_bytes(), 8192u);
  EXPECT_EQ(reply.payload(),
            std::string(4096, '\5') + std::string(4096, '\6'));
  stream->WritesDone();
  EXPECT_FALSE(stream->Read(&reply));
  EXPECT_TRUE(stream->Finish().ok());
}

TEST_F(ServiceTest, RepliesToErrorsKeepTheStreamAlive) {
  Connect();
  grpc::ClientContext context;
  auto stream = Open(&context);
  v1::VolumeIoFrame frame;
  Add(&frame, 1, v1::REQUEST_KIND_READ, kSize, 4096);
  Add(&frame, 2, v1::REQUEST_KIND_READ, 17, 4096);
  stream->Write(frame);
  size_t answered = 0;
  v1::VolumeIoReplyFrame reply;
  while (answered < 2 && stream->Read(&reply)) {
    for (const auto& one : reply.replies()) {
      EXPECT_EQ(one.error(), EINVAL);
      ++answered;
    }
  }
  frame.Clear();
  Add(&frame, 3, v1::REQUEST_KIND_READ, 0, 4096);
  stream->Write(frame);
  ASSERT_TRUE(stream->Read(&reply));
  EXPECT_EQ(reply.replies(0).error(), 0);
}

TEST_F(ServiceTest, MalformedStreamsEndWithAClearStatus) {
  Connect();
  v1::VolumeIoFrame frame;
  EXPECT_EQ(EndOf(frame).error_code(), grpc::StatusCode::INVALID_ARGUMENT)
      << "no open";
  frame.mutable_open()->set_volume("demo");
  frame.mutable_open()->set_protocol(3);
  EXPECT_EQ(EndOf(frame).error_code(), grpc::StatusCode::FAILED_PRECONDITION)
      << "two versions ahead";
  frame.mutable_open()->clear_protocol();
  frame.mutable_open()->set_volume("nowhere");
  EXPECT_EQ(EndOf(frame).error_code(), grpc::StatusCode::NOT_FOUND);
  frame.mutable_open()->set_volume("demo");
  Add(&frame, 1, v1::REQUEST_KIND_WRITE, 0, 8192);
  frame.set_payload(std::string(4096, 'x'));
  EXPECT_EQ(EndOf(frame).error_code(), grpc::StatusCode::INVALID_ARGUMENT)
      << "the payload is too short";
  frame.clear_payload();
  frame.mutable_ios(0)->set_kind(static_cast<v1::RequestKind>(77));
  EXPECT_EQ(EndOf(frame).error_code(), grpc::StatusCode::INVALID_ARGUMENT)
      << "an unknown kind";
  frame.clear_ios();
  frame.set_payload(std::string(9 << 20, 'x'));
  EXPECT_EQ(EndOf(frame).error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED)
      << "oversized";
  ASSERT_TRUE(host_->Detach("demo", false).ok());
  frame.clear_payload();
  EXPECT_EQ(EndOf(frame).error_code(), grpc::StatusCode::FAILED_PRECONDITION);
}

TEST_F(ServiceTest, AStreamIsNotReadWhileTooMuchIsUnanswered) {
  Connect();
  replicas_[0]->HoldWrites();
  grpc::ClientContext context;
  auto stream = Open(&context);
  constexpr uint64_t kFrames = 40;  // 40 MiB: more than a stream may have unanswered
  std::thread writer([&stream] {
    for (uint64_t i = 0; i < kFrames; ++i) {
      v1::VolumeIoFrame frame;
      Add(&frame, i, v1::REQUEST_KIND_WRITE, (i % 8) << 20, 1 << 20);
      frame.set_payload(std::string(1 << 20, 'x'));
      stream->Write(frame);
    }
  });
  replicas_[0]->Release();
  uint64_t answered = 0;
  v1::VolumeIoReplyFrame reply;
  while (answered < kFrames && stream->Read(&reply)) {
    for (const auto& one : reply.replies()) {
      EXPECT_EQ(one.error(), 0);
      ++answered;
    }
  }
  writer.join();
  EXPECT_EQ(answered, kFrames);
}

TEST_F(ServiceTest, AClientThatDoesNotTakeItsRepliesIsNotReadForUntilItDoes) {
  Connect();
  grpc::ClientContext context;
  auto stream = Open(&context);
  constexpr uint64_t kReads = 128;  // 128 MiB, all asked for in one frame
  v1::VolumeIoFrame frame;
  for (uint64_t i = 0; i < kReads; ++i) {
    Add(&frame, i, v1::REQUEST_KIND_READ, (i % 8) << 20, 1 << 20);
  }
  stream->Write(frame);
  const auto mib_read = [this] {
    uint64_t blocks = 0;
    for (const auto& replica : replicas_) blocks += replica->blocks_read();
    return blocks / 256;
  };
  // Until nothing has been read for a while.
  for (uint64_t before = ~uint64_t{0}; before != mib_read();) {
    before = mib_read();
    absl::SleepFor(absl::Milliseconds(300));
  }
  // 16 MiB of replies, one more request, and what gRPC has taken.
  EXPECT_LE(mib_read(), 40u);
  uint64_t answered = 0;
  v1::VolumeIoReplyFrame reply;
  while (answered < kReads && stream->Read(&reply)) {
    for (const auto& one : reply.replies()) {
      EXPECT_EQ(one.error(), 0);
      EXPECT_EQ(one.length_bytes(), 1u << 20);
      ++answered;
    }
  }
  EXPECT_EQ(answered, kReads);
}

TEST_F(ServiceTest, StreamsOfAVolumeThatHoldsEnoughWaitAndAreServedInTheEnd) {
  HostOptions options = Options();
  options.unanswered_bytes_max = 2 << 20;
  Connect(options);
  replicas_[0]->HoldWrites();
  constexpr int kStreams = 4, kWrites = 8;
  std::vector<std::unique_ptr<grpc::ClientContext>> contexts;
  std::vector<std::unique_ptr<Stream>> streams;
  for (int i = 0; i < kStreams; ++i) {
    contexts.push_back(std::make_unique<grpc::ClientContext>());
    streams.push_back(Open(contexts.back().get()));
    v1::VolumeIoFrame frame;
    for (int j = 0; j < kWrites; ++j) {
      Add(&frame, static_cast<uint64_t>(j), v1::REQUEST_KIND_WRITE,
          static_cast<uint64_t>(j) << 19, 512 << 10);
    }
    frame.set_payload(std::string(kWrites * (512 << 10), 'x'));
    streams.back()->Write(frame);
  }
  const auto held = [this] {
    const auto volume = host_->GetVolume("demo");
    return volume->activity().queued_requests() +
           volume->activity().inflight_requests();
  };
  while (held() < 4) std::this_thread::yield();
  // A request beyond the limit from each stream that looked at the same time.
  EXPECT_LE(held(), 4u + kStreams);
  replicas_[0]->Release();
  for (auto& stream : streams) {
    int answered = 0;
    v1::VolumeIoReplyFrame reply;
    while (answered < kWrites && stream->Read(&reply)) {
      for (const auto& one : reply.replies()) {
        EXPECT_EQ(one.error(), 0);
        ++answered;
      }
    }
    EXPECT_EQ(answered, kWrites);
  }
}

TEST_F(ServiceTest, AClientThatGoesAwayHurtsNobody) {
  Connect();
  replicas_[0]->HoldWrites();
  {
    grpc::ClientContext context;
    auto stream = Open(&context);
    v1::VolumeIoFrame frame;
    Add(&frame, 1, v1::REQUEST_KIND_WRITE, 0, 4096);
    frame.set_payload(std::string(4096, 'g'));
    stream->Write(frame);
    context.TryCancel();
    EXPECT_FALSE(stream->Finish().ok());
  }
  replicas_[0]->Release();
  EXPECT_EQ(Write(4096, 'h'), 0);
}

TEST_F(ServiceTest, ANewSessionOfAClientEndsTheOlderStreamBeforeItIsOpened) {
  Connect();
  const auto open = [this](grpc::ClientContext* context, uint64_t session) {
    auto stream = stub_->Io(context);
    v1::VolumeIoFrame frame;
    frame.mutable_open()->set_volume("demo");
    frame.mutable_open()->set_client("client");
    frame.mutable_open()->set_session(session);
    stream->Write(frame);
    return stream;
  };
  v1::VolumeIoReplyFrame reply;
  grpc::ClientContext first_context, second_context, late_context;
  auto first = open(&first_context, 1);
  ASSERT_TRUE(first->Read(&reply));
  auto second = open(&second_context, 2);
  ASSERT_TRUE(second->Read(&reply));
  EXPECT_TRUE(reply.has_opened());
  EXPECT_FALSE(first->Read(&reply));
  EXPECT_EQ(first->Finish().error_code(), grpc::StatusCode::ABORTED);
  auto late = open(&late_context, 1);
  EXPECT_FALSE(late->Read(&reply));
  EXPECT_EQ(late->Finish().error_code(), grpc::StatusCode::ABORTED);
}

TEST_F(ServiceTest, ControlCallsWorkOverGrpc) {
  Connect();
  v1::ListReplicasResponse replicas;
  {
    grpc::ClientContext context;
    ASSERT_TRUE(stub_->ListReplicas(&context, {}, &replicas).ok());
  }
  ASSERT_EQ(replicas.replicas_size(), 3);
  EXPECT_EQ(replicas.replicas(0).state(), "SERVING");
  v1::GetVolumeRequest get;
  get.set_name("demo");
  v1::GetVolumeResponse got;
  {
    grpc::ClientContext context;
    ASSERT_TRUE(stub_->GetVolume(&context, get, &got).ok());
  }
  EXPECT_EQ(got.volume().state(), "ACTIVE");
  EXPECT_EQ(got.volume().table().targets_size(), 3);
  EXPECT_EQ(got.volume().table().targets(0).health(), "connected");
  EXPECT_EQ(got.volume().table().targets(0).num_flush_requests(), 2u);
  v1::ExplainRequest explain;
  explain.set_name("demo");
  v1::ExplainResponse explained;
  {
    grpc::ClientContext context;
    ASSERT_TRUE(stub_->Explain(&context, explain, &explained).ok());
  }
  EXPECT_TRUE(absl::StrContains(explained.summary(), "all 3 replicas"));
  get.set_name("nowhere");
  grpc::ClientContext context;
  EXPECT_EQ(stub_->GetVolume(&context, get, &got).error_code(),
            grpc::StatusCode::NOT_FOUND);
}

TEST_F(ServiceTest, ATraceTellsWhereTheTimeOfRequestsWentAndEndsByItself) {
  Connect();
  v1::TraceResponse told;
  grpc::Status status;
  std::thread tracing = StartTrace(1, &told, &status);
  const std::shared_ptr<Tracer> tracer = volume_->tracer();
  for (int i = 0; i < 3; ++i) EXPECT_EQ(Write(0, 'a'), 0);
  EXPECT_EQ(Flush(), 0);
  tracing.join();
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_FALSE(tracer->active());
  EXPECT_EQ(told.ended_because(), "");
  EXPECT_GE(told.traced_ms(), 1000u);
  ASSERT_GE(told.kinds_size(), 2);
  const v1::TracedKind& writes = told.kinds(0);
  EXPECT_EQ(writes.kind(), "write");
  EXPECT_EQ(writes.requests(), 3u);
  EXPECT_EQ(writes.sampled(), 3u);
  EXPECT_GT(writes.replicas().median_us(), 0u);
  ASSERT_EQ(writes.by_replica_size(), 3);
  for (const v1::TracedReplica& replica : writes.by_replica()) {
    EXPECT_EQ(replica.clones(), 3u);
    EXPECT_EQ(replica.store().median_us(), FakeReplica::kStoreMicros);
    EXPECT_GT(replica.wire().median_us(), 0u);
  }
  EXPECT_EQ(told.slowest_size(), 4);
}

TEST_F(ServiceTest, ATraceEndsWithTheVolumeAndSaysSo) {
  Connect();
  v1::TraceResponse told;
  grpc::Status status;
  std::thread tracing = StartTrace(600, &told, &status);
  EXPECT_TRUE(host_->Detach("demo", false).ok());
  tracing.join();
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_THAT(told.ended_because(), testing::HasSubstr("detached"));
}

TEST_F(ServiceTest, ATraceEndsWithItsClient) {
  Connect();
  grpc::ClientContext context;
  std::thread tracing([&] {
    v1::TraceRequest request;
    request.set_name("demo");
    request.set_seconds(600);
    v1::TraceResponse told;
    EXPECT_EQ(stub_->Trace(&context, request, &told).error_code(), grpc::StatusCode::CANCELLED);
  });
  context.TryCancel();
  tracing.join();
  while (volume_->tracer()->active()) absl::SleepFor(absl::Milliseconds(1));
}

TEST_F(ServiceTest, ATraceThatCannotBeIsRefused) {
  Connect();
  v1::TraceResponse told;
  v1::TraceRequest request;
  request.set_name("other");
  grpc::ClientContext no_such;
  EXPECT_EQ(stub_->Trace(&no_such, request, &told).error_code(), grpc::StatusCode::NOT_FOUND);
  request.set_name("demo");
  request.set_seconds(601);
  grpc::ClientContext too_long;
  EXPECT_EQ(stub_->Trace(&too_long, request, &told).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_FALSE(volume_->tracer()->active());
}

}  // namespace
}  // namespace weir::host
