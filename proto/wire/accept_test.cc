#include "proto/wire/accept.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/security/credentials.h"
#include "grpcpp/security/server_credentials.h"
#include "grpcpp/server.h"
#include "grpcpp/server_builder.h"
#include "gtest/gtest.h"
#include "proto/wire/transport.h"
#include "weir/v1/replica.grpc.pb.h"

namespace weir::wire {
namespace {

class AcceptTest : public testing::Test {
 protected:
  AcceptTest() {
    // As KeepListenersAlive, before a limit is reached: the first call opens the spare file.
    KeepListenersAlive();
    EXPECT_EQ(getrlimit(RLIMIT_NOFILE, &before_), 0);
    listener_ = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    address_.sin_family = AF_INET;
    address_.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(bind(listener_, reinterpret_cast<sockaddr*>(&address_), sizeof address_), 0);
    socklen_t size = sizeof address_;
    EXPECT_EQ(getsockname(listener_, reinterpret_cast<sockaddr*>(&address_), &size), 0);
    EXPECT_EQ(listen(listener_, 16), 0);
  }
  ~AcceptTest() override {
    Limit(before_.rlim_cur);
    for (int fd : open_) close(fd);
    if (listener_ >= 0) close(listener_);
  }

  void Limit(rlim_t files) {
    const rlimit limit{files, before_.rlim_max};
    ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
  }
  // The lowest number that a new file would get.
  int NextFile() {
    const int fd = dup(listener_);
    close(fd);
    return fd;
  }
  int Connect() {
    open_.push_back(socket(AF_INET, SOCK_STREAM, 0));
    EXPECT_EQ(connect(open_.back(), reinterpret_cast<sockaddr*>(&address_), sizeof address_), 0);
    return open_.back();
  }
  int Accept() {
    sockaddr_in peer;
    socklen_t size = sizeof peer;
    const int fd = AcceptWithinLimit(listener_, reinterpret_cast<sockaddr*>(&peer), &size, SOCK_CLOEXEC);
    if (fd >= 0) {
      EXPECT_EQ(size, sizeof peer);
      open_.push_back(fd);
    }
    return fd;
  }
  // Whether the listener's side has closed it.
  static bool IsRefused(int client) {
    char byte;
    const ssize_t got = recv(client, &byte, 1, MSG_DONTWAIT);
    return got == 0 || (got < 0 && errno == ECONNRESET);
  }

  rlimit before_;
  sockaddr_in address_{};
  int listener_ = -1;
  std::vector<int> open_;
};

TEST_F(AcceptTest, AboveThreeQuartersOfTheFilesAllAreRefusedAndTheListenerGoesOn) {
  const int first = Connect(), second = Connect();
  Limit(NextFile() * 4 / 3);
  EXPECT_EQ(Accept(), -1);
  EXPECT_EQ(errno, EAGAIN);
  EXPECT_TRUE(IsRefused(first));
  EXPECT_TRUE(IsRefused(second));
  Limit(before_.rlim_cur);
  const int third = Connect();
  EXPECT_GE(Accept(), 0);
  EXPECT_FALSE(IsRefused(third));
}

TEST_F(AcceptTest, WithoutAFileLeftTheyAreRefusedTooNotLeftWaiting) {
  const int first = Connect(), second = Connect();
  Limit(NextFile());
  EXPECT_EQ(Accept(), -1);
  EXPECT_EQ(errno, EAGAIN);
  EXPECT_TRUE(IsRefused(first));
  EXPECT_TRUE(IsRefused(second));
  Limit(before_.rlim_cur);
  Connect();
  EXPECT_GE(Accept(), 0);
}

TEST_F(AcceptTest, WhatListensNoMoreIsSaidSo) {
  close(std::exchange(listener_, -1));
  EXPECT_EQ(Accept(), -1);
  EXPECT_EQ(errno, EBADF);
}

// What gRPC 1.51 does not do by itself: its listener ends with the first accept4 that fails.
TEST_F(AcceptTest, AGrpcServerThatHadNoFileLeftTakesConnectionsOnceItHas) {
  v1::RegistryService::Service service;
  grpc::ServerBuilder builder;
  SetServerLimits({}, &builder);
  builder.RegisterService(&service);
  int port = 0;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  ASSERT_NE(server, nullptr);

  address_.sin_port = htons(port);
  const int stranger = socket(AF_INET, SOCK_STREAM, 0);
  Limit(NextFile());
  ASSERT_EQ(connect(stranger, reinterpret_cast<sockaddr*>(&address_), sizeof address_), 0);
  pollfd closed{stranger, POLLIN, 0};
  EXPECT_EQ(poll(&closed, 1, /*ms=*/10'000), 1);
  EXPECT_TRUE(IsRefused(stranger));
  close(stranger);

  Limit(before_.rlim_cur);
  const auto channel = grpc::CreateChannel("127.0.0.1:" + std::to_string(port), grpc::InsecureChannelCredentials());
  EXPECT_TRUE(channel->WaitForConnected(absl::ToChronoTime(absl::Now() + absl::Seconds(20))));
  server->Shutdown();
}

}  // namespace
}  // namespace weir::wire
