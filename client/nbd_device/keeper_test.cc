#include "client/nbd_device/keeper.h"

#include <deque>
#include <string>
#include <vector>

#include "client/nbd_device/fake_kernel.h"
#include "gtest/gtest.h"

namespace weir::nbd_device {
namespace {

// Servers whose lives are told beforehand.
class FakeServer final : public ServerProcess {
 public:
  // What each Start answers, in order; then all do well.
  std::deque<absl::Status> starts;
  // What each Await sees, in order; then the kernel has ended the device.
  std::deque<Event> events;
  // Called when one is awaited.
  std::function<void()> at_await = [] {};
  std::function<void()> at_pause = [] {};
  bool told_in_pause = false;

  std::vector<Succession> successions;
  int living = 0;
  int refusing = 0;  // were started
  int pauses = 0;

  absl::StatusOr<Started> Start(const Succession& succession) override {
    successions.push_back(succession);
    if (!starts.empty()) {
      const absl::Status status = starts.front();
      starts.pop_front();
      if (!status.ok()) return status;
    }
    ++living;
    return Started{100 + static_cast<int>(successions.size()), 1 << 20, 7};
  }
  absl::StatusOr<Started> StartRefusing() override {
    ++living;
    return Started{200 + ++refusing};
  }
  void Connected() override {}
  Event Await() override {
    at_await();
    if (events.empty()) {
      --living;
      return Event::kDisconnected;
    }
    const Event event = events.front();
    events.pop_front();
    if (event != Event::kTold) --living;
    return event;
  }
  void Kill() override { --living; }
  bool Pause(absl::Duration) override {
    ++pauses;
    at_pause();
    return told_in_pause;
  }
};

class KeeperTest : public ::testing::Test {
 protected:
  absl::Status Run(bool wanted = true) {
    return Make().Run([&](const NbdDevice& device) {
      attached_.push_back(device.path());
      return wanted;
    });
  }
  absl::Status Refuse() {
    return Make().Refuse([&](const NbdDevice& device) { attached_.push_back(device.path()); });
  }
  Keeper Make() { return Keeper({"weir:v:m0:1", /*server_flags=*/5, absl::Seconds(300), "keeper"}, &kernel_, &server_); }

  FakeKernel kernel_;
  FakeServer server_;
  std::vector<std::string> attached_;
};

TEST_F(KeeperTest, ConnectsOnceTheServerHasTheVolumeAndEndsWithTheDevice) {
  FakeKernel::Device seen;
  server_.at_await = [&] { seen = kernel_.devices[0]; };
  EXPECT_TRUE(Run().ok());
  EXPECT_EQ(attached_, std::vector<std::string>{"/dev/nbd0"});
  EXPECT_EQ(seen.backend, "weir:v:m0:1");
  EXPECT_EQ(seen.size_bytes, 1u << 20);
  EXPECT_EQ(seen.server_flags, 5u);
  EXPECT_EQ(seen.dead_connection, absl::Seconds(300));
  EXPECT_EQ(seen.socket, 101);
  EXPECT_EQ(server_.living, 0);
}

TEST_F(KeeperTest, NothingIsStartedWithoutTheModule) {
  kernel_.available = absl::FailedPreconditionError("no module");
  EXPECT_EQ(Run(), kernel_.available);
  EXPECT_TRUE(server_.successions.empty());
}

TEST_F(KeeperTest, NothingIsConnectedWithoutTheVolume) {
  server_.starts = {absl::NotFoundError("no volume")};
  EXPECT_TRUE(absl::IsNotFound(Run()));
  EXPECT_TRUE(kernel_.devices.empty());
  EXPECT_TRUE(attached_.empty());
}

TEST_F(KeeperTest, AServerThatCannotBeConnectedIsEnded) {
  kernel_.next_error = absl::InternalError("no device is free");
  EXPECT_EQ(Run(), absl::InternalError("no device is free"));
  EXPECT_EQ(server_.living, 0);
}

TEST_F(KeeperTest, ADeviceThatNobodyWaitsForAnyMoreIsEnded) {
  EXPECT_TRUE(absl::IsCancelled(Run(/*wanted=*/false)));
  EXPECT_TRUE(kernel_.devices.empty());
  EXPECT_EQ(server_.living, 0);
}

TEST_F(KeeperTest, AServerThatDiedIsReplacedByOneThatGoesOnWithItsSession) {
  server_.events = {ServerProcess::Event::kDied, ServerProcess::Event::kDied};
  EXPECT_TRUE(Run().ok());
  EXPECT_EQ(kernel_.devices[0].reconnects, 2);
  EXPECT_EQ(kernel_.devices[0].socket, 103);
  ASSERT_EQ(server_.successions.size(), 3u);
  for (uint32_t i = 0; i < 3; ++i) {
    EXPECT_EQ(server_.successions[i].client, "keeper");
    EXPECT_EQ(server_.successions[i].generation, i + 1);
    EXPECT_EQ(server_.successions[i].epoch, i == 0 ? 0u : 7u);
  }
}

TEST_F(KeeperTest, AFrontendThatIsAwayIsAskedAgainUntilItIsBack) {
  server_.events = {ServerProcess::Event::kDied};
  server_.starts = {absl::OkStatus(), absl::UnavailableError("away"), absl::UnavailableError("away"), absl::OkStatus()};
  EXPECT_TRUE(Run().ok());
  EXPECT_EQ(server_.pauses, 3) << "one before the first, for servers that die as fast as they are started";
  EXPECT_EQ(kernel_.devices[0].reconnects, 1);
  EXPECT_EQ(server_.successions.back().generation, 4u) << "also a server that did not come up may have sent something";
}

TEST_F(KeeperTest, AReconnectThatTheKernelRefusesIsTriedAgain) {
  server_.events = {ServerProcess::Event::kDied};
  server_.at_await = [&] {
    if (server_.events.size() == 1) kernel_.next_error = absl::InternalError("not now");
  };
  EXPECT_TRUE(Run().ok());
  EXPECT_EQ(kernel_.devices[0].reconnects, 1);
  EXPECT_EQ(server_.living, 0);
}

TEST_F(KeeperTest, NobodyGoesOnWhereWritesMayBeLost) {
  server_.events = {ServerProcess::Event::kDied, ServerProcess::Event::kDied};
  server_.starts = {absl::OkStatus(), absl::AbortedError("taken over")};
  EXPECT_TRUE(absl::IsAborted(Run()));
  EXPECT_EQ(server_.successions.size(), 2u) << "whatever comes later";
  EXPECT_EQ(server_.refusing, 2) << "its users get errors, also once what gives them has died";
  EXPECT_EQ(kernel_.devices[0].socket, 202);
  EXPECT_EQ(kernel_.devices.size(), 1u) << "nobody else gets its number while it may be published";
  EXPECT_EQ(server_.living, 0);
}

TEST_F(KeeperTest, ADeviceWhoseKeeperHasDiedTooIsRefusedUntilItEnds) {
  kernel_.devices[0];  // of somebody else
  kernel_.devices[3].backend = "weir:v:m0:1";
  server_.events = {ServerProcess::Event::kDied};
  EXPECT_TRUE(absl::IsAborted(Refuse()));
  EXPECT_EQ(attached_, std::vector<std::string>{"/dev/nbd3"});
  EXPECT_EQ(server_.refusing, 2) << "another one where that one died";
  EXPECT_EQ(kernel_.devices[3].socket, 202);
  EXPECT_TRUE(server_.successions.empty()) << "nobody goes on with the volume";
}

TEST_F(KeeperTest, OnlyADeviceThatIsThereAndThatNobodyServesIsRefused) {
  EXPECT_TRUE(absl::IsNotFound(Refuse()));
  EXPECT_EQ(server_.refusing, 0);
  kernel_.devices[3].backend = "weir:v:m0:1";
  kernel_.next_error = absl::InternalError("it has a socket");
  EXPECT_EQ(Refuse(), absl::InternalError("it has a socket"));
  EXPECT_EQ(server_.living, 0);
  EXPECT_TRUE(attached_.empty());
}

TEST_F(KeeperTest, ADeviceThatEndedWithoutItsServerIsNotServedAgain) {
  server_.events = {ServerProcess::Event::kDied};
  server_.at_await = [&] { kernel_.devices.clear(); };
  EXPECT_TRUE(Run().ok());
  EXPECT_EQ(server_.successions.size(), 1u);
}

TEST_F(KeeperTest, ADeviceThatEndsWhileItIsNotServedIsLeftAlone) {
  server_.events = {ServerProcess::Event::kDied};
  server_.starts = {absl::OkStatus(), absl::UnavailableError("away")};
  server_.at_pause = [&] {
    if (server_.pauses == 1) return;
    kernel_.devices.clear();
    kernel_.devices[0].backend = "weir:other:m0";  // which has got its number
  };
  EXPECT_TRUE(Run().ok());
  EXPECT_EQ(kernel_.devices[0].reconnects, 0);
  EXPECT_EQ(server_.successions.size(), 2u);
}

TEST_F(KeeperTest, ToldToEndItWaitsForTheDevicesUsers) {
  server_.events = {ServerProcess::Event::kTold};
  kernel_.devices[5];  // of somebody else
  bool first = true;
  server_.at_await = [&] {
    if (std::exchange(first, false)) {
      kernel_.devices[0].open = true;
    } else {
      EXPECT_TRUE(kernel_.devices[0].ends_once_unused);
      kernel_.Close(0);
    }
  };
  EXPECT_TRUE(Run().ok());
  EXPECT_EQ(kernel_.devices.count(0), 0u);
}

TEST_F(KeeperTest, ToldToEndWhileNobodyServesTheDeviceEndsAtOnce) {
  server_.events = {ServerProcess::Event::kDied};
  server_.starts = {absl::OkStatus(), absl::UnavailableError("away"), absl::UnavailableError("away")};
  server_.at_pause = [&] {
    kernel_.devices[0].open = true;
    server_.told_in_pause = server_.pauses == 2;
  };
  EXPECT_TRUE(Run().ok());
  EXPECT_EQ(server_.successions.size(), 2u);
  EXPECT_TRUE(kernel_.devices[0].dead) << "its users get errors, and it is there until they close it";
}

TEST_F(KeeperTest, ToldToEndBeforeTheNextServerIsTriedItWaitsForTheDevicesUsers) {
  server_.events = {ServerProcess::Event::kDied};
  server_.at_pause = [&] {
    kernel_.devices[0].open = true;
    server_.told_in_pause = true;
  };
  EXPECT_TRUE(Run().ok());
  EXPECT_TRUE(kernel_.devices[0].ends_once_unused);
  EXPECT_EQ(kernel_.devices[0].reconnects, 1);
}

}  // namespace
}  // namespace weir::nbd_device
