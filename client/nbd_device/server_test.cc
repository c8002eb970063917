#include "client/nbd_device/server.h"

#include <endian.h>
#include <linux/nbd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <thread>
#include <utility>

#include "client/weir/fake_frontend.h"
#include "gtest/gtest.h"

namespace weir::nbd_device {
namespace {

constexpr uint16_t kFua = 1;
constexpr uint16_t kWriteZeroes = 6;

// The test is the kernel.
class ServerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto client = Client::Connect(frontend_.address());
    ASSERT_TRUE(client.ok()) << client.status();
    auto volume = (*client)->OpenVolume("demo");
    ASSERT_TRUE(volume.ok()) << volume.status();
    auto control = Client::Connect(control_.address(), ControlOptions());
    ASSERT_TRUE(control.ok()) << control.status();
    file_ = std::make_unique<fuse::VolumeFile>("demo", *std::move(control), *std::move(volume), false);
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets_), 0);
    Begin();
  }
  virtual void Begin() {
    thread_ = std::thread([this] { served_ = Server(file_.get(), sockets_[1]).Serve(); });
  }
  // As weir-nbd has them.
  static ClientOptions ControlOptions() {
    ClientOptions options;
    options.timeout = options.connect_timeout = absl::Seconds(3);
    return options;
  }

  void TearDown() override {
    if (thread_.joinable()) EXPECT_TRUE(absl::IsUnavailable(HangUp()));
    ::close(sockets_[1]);
  }

  void Send(uint16_t type, uint16_t flags, char cookie, uint64_t offset, uint32_t length, const std::string& data = "") {
    std::string bytes(28, '\0');
    const uint32_t magic = htobe32(NBD_REQUEST_MAGIC), big_length = htobe32(length);
    const uint16_t big_flags = htobe16(flags), big_type = htobe16(type);
    const uint64_t big_offset = htobe64(offset);
    std::memcpy(bytes.data(), &magic, 4);
    std::memcpy(bytes.data() + 4, &big_flags, 2);
    std::memcpy(bytes.data() + 6, &big_type, 2);
    bytes[8] = cookie;
    std::memcpy(bytes.data() + 16, &big_offset, 8);
    std::memcpy(bytes.data() + 24, &big_length, 4);
    bytes += data;
    ASSERT_EQ(::send(sockets_[0], bytes.data(), bytes.size(), MSG_NOSIGNAL), static_cast<ssize_t>(bytes.size()));
  }

  std::string Receive(size_t size) {
    std::string bytes(size, '\0');
    if (size > 0) EXPECT_EQ(::recv(sockets_[0], bytes.data(), size, MSG_WAITALL), static_cast<ssize_t>(size));
    return bytes;
  }

  // The error of the next reply, which must be this one's.
  uint32_t Reply(char cookie) {
    const std::string bytes = Receive(16);
    uint32_t magic, error;
    std::memcpy(&magic, bytes.data(), 4);
    std::memcpy(&error, bytes.data() + 4, 4);
    EXPECT_EQ(be32toh(magic), static_cast<uint32_t>(NBD_REPLY_MAGIC));
    EXPECT_EQ(bytes[8], cookie);
    return be32toh(error);
  }

  uint32_t Write(uint64_t offset, const std::string& data, uint16_t flags = 0) {
    Send(NBD_CMD_WRITE, flags, 'w', offset, static_cast<uint32_t>(data.size()), data);
    return Reply('w');
  }
  std::string Read(uint64_t offset, uint32_t length) {
    Send(NBD_CMD_READ, 0, 'r', offset, length);
    EXPECT_EQ(Reply('r'), 0u);
    return Receive(length);
  }

  absl::Status HangUp() {
    ::close(sockets_[0]);
    thread_.join();
    return served_;
  }

  FakeFrontend frontend_;
  FakeFrontend control_;  // who is asked for the size
  std::unique_ptr<fuse::VolumeFile> file_;
  int sockets_[2];
  std::thread thread_;
  absl::Status served_;
};

TEST_F(ServerTest, ReadsWhatWasWritten) {
  EXPECT_EQ(Write(4096, std::string(8192, 'a')), 0u);
  EXPECT_EQ(Read(4096, 8192), std::string(8192, 'a'));
  EXPECT_EQ(Read(0, 4096), std::string(4096, '\0'));
}

TEST_F(ServerTest, ARequestLargerThanTheVolumeTakesIsSplit) {
  const size_t size = 5 * FakeFrontend::kLengthBytesMax + 4096;
  std::string data(size, '\0');
  for (size_t i = 0; i < size; ++i) data[i] = static_cast<char>('a' + i / 4096 % 26);
  EXPECT_EQ(Write(4096, data, kFua), 0u);
  for (const v1::VolumeIo& io : frontend_.requests()) EXPECT_TRUE(io.fua());
  EXPECT_EQ(frontend_.requests().size(), 6u);
  EXPECT_EQ(Read(4096, static_cast<uint32_t>(size)), data);
}

TEST_F(ServerTest, FlushAndFuaArrive) {
  EXPECT_EQ(Write(0, std::string(4096, 'a')), 0u);
  EXPECT_FALSE(frontend_.requests().back().fua());
  EXPECT_EQ(Write(0, std::string(4096, 'a'), kFua), 0u);
  EXPECT_TRUE(frontend_.requests().back().fua());
  Send(NBD_CMD_FLUSH, 0, 'f', 0, 0);
  EXPECT_EQ(Reply('f'), 0u);
  EXPECT_EQ(frontend_.requests().back().kind(), v1::REQUEST_KIND_FLUSH);
}

TEST_F(ServerTest, TrimAndZeroesArriveAndFuaIsAFlushAfterThem) {
  EXPECT_EQ(Write(0, std::string(8192, 'a')), 0u);
  Send(NBD_CMD_TRIM, 0, 't', 0, 4096);
  EXPECT_EQ(Reply('t'), 0u);
  EXPECT_EQ(frontend_.requests().back().kind(), v1::REQUEST_KIND_DISCARD);
  Send(kWriteZeroes, kFua, 'z', 4096, 4096);
  EXPECT_EQ(Reply('z'), 0u);
  EXPECT_EQ(frontend_.requests().back().kind(), v1::REQUEST_KIND_FLUSH);
  EXPECT_EQ(Read(0, 8192), std::string(8192, '\0'));
}

TEST_F(ServerTest, AnErrorHasNoDataAndTheNextRequestIsFine) {
  frontend_.Script({FakeFrontend::Act::kFail});
  Send(NBD_CMD_READ, 0, 'r', 0, 4096);
  EXPECT_EQ(Reply('r'), static_cast<uint32_t>(EIO));
  frontend_.Script({FakeFrontend::Act::kFail});
  EXPECT_EQ(Write(0, std::string(4096, 'a'), kFua), static_cast<uint32_t>(EIO));
  EXPECT_EQ(Write(FakeFrontend::kSizeBytes, std::string(4096, 'a')), static_cast<uint32_t>(ENOSPC));
  Send(NBD_CMD_READ, 0, 'r', FakeFrontend::kSizeBytes, 4096);
  EXPECT_EQ(Reply('r'), static_cast<uint32_t>(EIO)) << "there is nothing to read past the end";
  Send(99, 0, 'u', 0, 4096);
  EXPECT_EQ(Reply('u'), static_cast<uint32_t>(EINVAL));
  EXPECT_EQ(Write(0, std::string(4096, 'a')), 0u);
}

TEST_F(ServerTest, EndsOnceAllIsAnsweredWhenTheKernelDisconnects) {
  frontend_.Hold();
  Send(NBD_CMD_WRITE, 0, 'w', 0, 4096, std::string(4096, 'a'));
  frontend_.AwaitRequests(1);
  Send(NBD_CMD_DISC, 0, 'd', 0, 0);
  frontend_.Release();
  EXPECT_EQ(Reply('w'), 0u);
  EXPECT_TRUE(HangUp().ok());
}

TEST_F(ServerTest, AConnectionThatIsLostIsNoDisconnect) {
  EXPECT_TRUE(absl::IsUnavailable(HangUp()));
}

TEST_F(ServerTest, AWriteThatIsCutOffIsNotWritten) {
  Send(NBD_CMD_WRITE, 0, 'w', 0, 8192, std::string(4096, 'a'));
  EXPECT_TRUE(absl::IsUnavailable(HangUp()));
  EXPECT_TRUE(frontend_.requests().empty());
}

TEST_F(ServerTest, WhatIsNoRequestEndsTheConnection) {
  const std::string garbage(28, 'g');
  ASSERT_EQ(::send(sockets_[0], garbage.data(), garbage.size(), MSG_NOSIGNAL), 28);
  EXPECT_TRUE(absl::IsInvalidArgument(HangUp()));
}

// The kernel was told of a larger volume, and who could confirm that is away.
TEST_F(ServerTest, WhatLiesPastTheEndThatIsKnownIsTheFrontendsToJudgeWhereNobodySaysHowLargeTheVolumeIs) {
  control_.Stop();
  EXPECT_EQ(Write(FakeFrontend::kSizeBytes, std::string(4096, 'a')), 0u);
  EXPECT_EQ(frontend_.requests().back().offset_bytes(), FakeFrontend::kSizeBytes);
  EXPECT_EQ(Read(FakeFrontend::kSizeBytes, 4096), std::string(4096, 'a'));
}

class RefusingServerTest : public ServerTest {
 protected:
  void Begin() override {
    thread_ = std::thread([this] { served_ = Server(sockets_[1]).Serve(); });
  }
};

TEST_F(RefusingServerTest, AnswersEveryRequestWithAnErrorUntilTheKernelDisconnects) {
  EXPECT_EQ(Write(0, std::string(8192, 'a'), kFua), static_cast<uint32_t>(ESHUTDOWN));
  Send(NBD_CMD_READ, 0, 'r', 0, 4096);
  EXPECT_EQ(Reply('r'), static_cast<uint32_t>(ESHUTDOWN));
  for (const uint16_t type : {uint16_t{NBD_CMD_FLUSH}, uint16_t{NBD_CMD_TRIM}, kWriteZeroes}) {
    Send(type, 0, 't', 0, 4096);
    EXPECT_EQ(Reply('t'), static_cast<uint32_t>(ESHUTDOWN));
  }
  EXPECT_TRUE(frontend_.requests().empty());
  Send(NBD_CMD_DISC, 0, 'd', 0, 0);
  EXPECT_TRUE(HangUp().ok());
}

}  // namespace
}  // namespace weir::nbd_device
