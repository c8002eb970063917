#include "proto/wire/transport.h"

#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "grpcpp/grpcpp.h"
#include "gtest/gtest.h"
#include "weir/v1/volume.grpc.pb.h"

namespace weir::wire {
namespace {

constexpr absl::Duration kPatience = absl::Seconds(30);

// Answers each message of a stream with one of its own.
class Echo final : public v1::VolumeService::Service {
  grpc::Status Io(grpc::ServerContext*,
                  grpc::ServerReaderWriter<v1::VolumeIoReplyFrame, v1::VolumeIoFrame>* stream) override {
    v1::VolumeIoFrame request;
    while (stream->Read(&request) && stream->Write(v1::VolumeIoReplyFrame())) {
    }
    return grpc::Status::OK;
  }
};

TEST(TransportTest, AConnectionWithoutACallIsEndedAndOneWithASilentStreamIsNot) {
  Echo echo;
  grpc::ServerBuilder builder;
  SetServerLimits({.idle_ms = 100}, &builder);
  int port = 0;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(&echo);
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  ASSERT_NE(server, nullptr);
  // A connection each.
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  const auto connect = [&] {
    return grpc::CreateCustomChannel(absl::StrCat("127.0.0.1:", port), grpc::InsecureChannelCredentials(), arguments);
  };

  const auto used = connect();
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + 2 * kPatience));
  const auto stream = v1::VolumeService::NewStub(used)->Io(&context);
  v1::VolumeIoReplyFrame response;
  ASSERT_TRUE(stream->Write(v1::VolumeIoFrame()));
  ASSERT_TRUE(stream->Read(&response));

  const auto idle = connect();
  ASSERT_TRUE(idle->WaitForConnected(absl::ToChronoTime(absl::Now() + kPatience)));
  EXPECT_TRUE(idle->WaitForStateChange(GRPC_CHANNEL_READY, absl::ToChronoTime(absl::Now() + kPatience)));

  EXPECT_TRUE(stream->Write(v1::VolumeIoFrame()));
  EXPECT_TRUE(stream->Read(&response));
  EXPECT_TRUE(stream->WritesDone());
  EXPECT_TRUE(stream->Finish().ok());
}

}  // namespace
}  // namespace weir::wire
