#include "replica/server/sessions.h"

#include <atomic>
#include <cerrno>
#include <memory>
#include <thread>

#include "absl/status/status.h"
#include "absl/synchronization/notification.h"
#include "gtest/gtest.h"
#include "proto/base/errno.h"

namespace weir::replica {
namespace {

constexpr VolumeId kVolume{1};

// A stream as the sessions see it.
class FakeStream final : public SessionOwner {
 public:
  void End(const absl::Status& why) override {
    ended = why;
    ended_notification.Notify();
  }
  void SpaceChanged() override {}

  absl::Status ended;
  absl::Notification ended_notification;
};

std::shared_ptr<Session> MustOpen(Sessions& sessions, Epoch epoch, uint64_t number,
                                  const std::shared_ptr<FakeStream>& stream) {
  auto session = sessions.Open(kVolume, epoch, number, stream);
  EXPECT_TRUE(session.ok()) << session.status();
  return *session;
}

TEST(SessionsTest, ANewerSessionOfTheSameEpochEndsTheOlder) {
  Sessions sessions;
  auto first = std::make_shared<FakeStream>(), second = std::make_shared<FakeStream>();
  const auto old_session = MustOpen(sessions, 1, 1, first);
  const auto new_session = MustOpen(sessions, 1, 2, second);
  EXPECT_EQ(first->ended.code(), absl::StatusCode::kAborted);
  EXPECT_FALSE(old_session->Enter());
  EXPECT_TRUE(new_session->Enter());
  new_session->Leave();
  EXPECT_EQ(sessions.Open(kVolume, 1, 2, first).status().code(), absl::StatusCode::kAborted)
      << "an equal number is not newer";
  EXPECT_EQ(sessions.Open(kVolume, 1, 1, first).status().code(), absl::StatusCode::kAborted);
}

TEST(SessionsTest, ALateOlderSessionIsRefusedAlsoAfterTheNewerIsGone) {
  Sessions sessions;
  auto stream = std::make_shared<FakeStream>();
  sessions.Close(MustOpen(sessions, 1, 5, stream));
  EXPECT_EQ(sessions.count(), 0u);
  EXPECT_FALSE(sessions.Open(kVolume, 1, 4, stream).ok());
  EXPECT_TRUE(sessions.Open(kVolume, 1, 6, stream).ok());
}

TEST(SessionsTest, RaisingTheEpochEndsAndRefusesLowerOnes) {
  Sessions sessions;
  auto stream = std::make_shared<FakeStream>();
  const auto session = MustOpen(sessions, 1, 1, stream);
  sessions.Raise(kVolume, 2);
  EXPECT_EQ(StatusToErrno(stream->ended), ESTALE);
  EXPECT_FALSE(session->Enter());
  EXPECT_EQ(StatusToErrno(sessions.Open(kVolume, 1, 9, stream).status()), ESTALE);
  EXPECT_EQ(StatusToErrno(sessions.Hold(kVolume, 1).status()), ESTALE);
  EXPECT_TRUE(sessions.Open(kVolume, 2, 1, std::make_shared<FakeStream>()).ok());
}

TEST(SessionsTest, RaisingTheSameEpochAgainLeavesItsStreamAlone) {
  Sessions sessions;
  sessions.Raise(kVolume, 2);
  auto stream = std::make_shared<FakeStream>();
  const auto session = MustOpen(sessions, 2, 1, stream);
  sessions.Raise(kVolume, 2);
  EXPECT_TRUE(session->Enter());
  session->Leave();
}

TEST(SessionsTest, RaiseWaitsForTheFrameThatRuns) {
  Sessions sessions;
  auto stream = std::make_shared<FakeStream>();
  const auto session = MustOpen(sessions, 1, 1, stream);
  ASSERT_TRUE(session->Enter());
  std::atomic<bool> frame_running{true};
  std::thread sealer([&] {
    sessions.Raise(kVolume, 2);
    EXPECT_FALSE(frame_running);
  });
  stream->ended_notification.WaitForNotification();
  frame_running = false;
  session->Leave();
  sealer.join();
}

TEST(SessionsTest, RaiseWaitsForATakeoverStep) {
  Sessions sessions;
  auto hold = sessions.Hold(kVolume, 1);
  ASSERT_TRUE(hold.ok());
  std::atomic<bool> step_running{true};
  std::thread sealer([&] {
    sessions.Raise(kVolume, 2);
    EXPECT_FALSE(step_running);
  });
  // Lower ones are refused from the moment on which Raise has begun to wait.
  while (sessions.Hold(kVolume, 1).ok()) std::this_thread::yield();
  step_running = false;
  hold->reset();
  sealer.join();
}

TEST(SessionsTest, TwoStreamsNeverRunAtOnce) {
  Sessions sessions;
  std::atomic<int> running{0};
  std::atomic<uint64_t> number{0};
  auto connect_and_write = [&] {
    for (int i = 0; i < 200; ++i) {
      auto session =
          sessions.Open(kVolume, 1, ++number, std::make_shared<FakeStream>());
      if (!session.ok()) continue;
      for (int frame = 0; frame < 20 && (*session)->Enter(); ++frame) {
        EXPECT_EQ(++running, 1);
        --running;
        (*session)->Leave();
      }
    }
  };
  std::thread other(connect_and_write);
  connect_and_write();
  other.join();
}

TEST(SessionsTest, DeletingAVolumeEndsItsStreamAndForgetsIt) {
  Sessions sessions;
  auto stream = std::make_shared<FakeStream>();
  const auto session = MustOpen(sessions, 3, 3, stream);
  sessions.EndVolume(kVolume, absl::NotFoundError("deleted"));
  EXPECT_EQ(stream->ended.code(), absl::StatusCode::kNotFound);
  EXPECT_FALSE(session->Enter());
  EXPECT_TRUE(sessions.Open(kVolume, 1, 1, stream).ok()) << "a new volume of that id";
}

}  // namespace
}  // namespace weir::replica
