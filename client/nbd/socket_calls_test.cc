#include "client/nbd/socket_calls.h"

#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "client/nbd/unanswered.h"
#include "gtest/gtest.h"

namespace weir::nbd {
namespace {

constexpr size_t kRequestBytes = 28;

std::string Request() {
  std::string request(kRequestBytes, '\0');
  request.replace(0, 4, "\x25\x60\x95\x13");
  return request;
}

// Plays nbdkit's part.
class SocketCallsTest : public testing::Test {
 protected:
  SocketCallsTest() {
    int ends[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    client_ = ends[0];
    server_ = ends[1];
    // A handshake, whose last step is the open callback.
    ClientSends("h");
    char byte;
    EXPECT_EQ(ReadFromClient(server_, &byte, 1), 1);
    ConnectionOpened();
  }
  ~SocketCallsTest() override {
    HangUp();
    close(server_);
  }

  void ClientSends(const std::string& bytes) {
    ASSERT_EQ(write(client_, bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
  }
  void HangUp() { close(std::exchange(client_, -1)); }

  ssize_t ReadHeader() {
    char header[kRequestBytes];
    return ReadFromClient(server_, header, sizeof header);
  }
  bool Reply(std::atomic<int>* replies = nullptr) {
    const char first[16] = {}, last[8] = {};
    const bool begun =
        SendToClient(server_, first, sizeof first, MSG_MORE | MSG_NOSIGNAL) == sizeof first;
    // Not after the last piece: by then whoever waits for it may have gone on.
    if (replies != nullptr) ++*replies;
    return begun && SendToClient(server_, last, sizeof last, MSG_NOSIGNAL) == sizeof last;
  }

  // Two workers have read a request each when the client does `misbehave`; a third reads then.
  // Returns how many replies had been sent when it had read `size` bytes or their end.
  template <typename Misbehave>
  int RepliesBeforeTheThirdReads(Misbehave misbehave) {
    ClientSends(Request() + Request());
    absl::Notification third_reads;
    std::atomic<int> replies = 0;
    std::vector<std::thread> workers;
    for (int i = 0; i < 2; ++i) {
      EXPECT_EQ(ReadOn(workers, [&] {
        third_reads.WaitForNotification();
        EXPECT_TRUE(Reply(&replies));
      }), static_cast<ssize_t>(kRequestBytes));
    }
    misbehave();
    int seen = -1;
    std::thread third([&] {
      third_reads.Notify();
      char header[kRequestBytes];
      while (ReadFromClient(server_, header, sizeof header) == 1) {
      }
      seen = replies;
    });
    third.join();
    for (std::thread& worker : workers) worker.join();
    EXPECT_EQ(replies, 2);
    return seen;
  }

  int client_ = -1;
  int server_ = -1;

 private:
  // Starts a worker that reads a header, and then does `rest`. Returns what it has read.
  template <typename Rest>
  ssize_t ReadOn(std::vector<std::thread>& workers, Rest rest) {
    absl::Notification has_read;
    ssize_t result = 0;
    workers.emplace_back([this, rest, &has_read, &result] {
      result = ReadHeader();
      has_read.Notify();
      rest();
    });
    has_read.WaitForNotification();
    return result;
  }
};

TEST_F(SocketCallsTest, TheEndIsReadWhenAllRequestsAreAnswered) {
  EXPECT_EQ(RepliesBeforeTheThirdReads([this] { HangUp(); }), 2);
}

TEST_F(SocketCallsTest, WhatIsNoRequestIsReadWhenAllRequestsAreAnswered) {
  EXPECT_EQ(RepliesBeforeTheThirdReads([this] { ClientSends(std::string(kRequestBytes, 'x')); }),
            2);
}

TEST_F(SocketCallsTest, APartOfARequestIsReadWhenAllRequestsAreAnswered) {
  EXPECT_EQ(RepliesBeforeTheThirdReads([this] {
              ClientSends("\x25");
              HangUp();
            }),
            2);
}

TEST_F(SocketCallsTest, AnEndInsideAPayloadDoesNotWaitForItsOwnRequest) {
  ClientSends(Request() + "some");
  HangUp();
  ASSERT_EQ(ReadHeader(), static_cast<ssize_t>(kRequestBytes));
  char payload[kRequestBytes];
  EXPECT_EQ(ReadFromClient(server_, payload, sizeof payload), 4);
  EXPECT_EQ(ReadFromClient(server_, payload, sizeof payload), 0);
}

TEST_F(SocketCallsTest, AReplyToOneThatIsGoneCountsAsSent) {
  ClientSends(Request());
  HangUp();
  ASSERT_EQ(ReadHeader(), static_cast<ssize_t>(kRequestBytes));
  EXPECT_TRUE(Reply());
  EXPECT_EQ(ReadHeader(), 0);
  const char byte = 0;
  EXPECT_EQ(SendToClient(server_, &byte, 1, MSG_NOSIGNAL), -1) << "no reply, and not ours to hide";
}

TEST_F(SocketCallsTest, ADisconnectHasNoAnswerToWaitFor) {
  std::string disconnect = Request();
  disconnect[7] = 2;
  ClientSends(disconnect);
  std::thread([&] { EXPECT_EQ(ReadHeader(), static_cast<ssize_t>(kRequestBytes)); }).join();
  ::shutdown(client_, SHUT_WR);
  char byte;
  EXPECT_EQ(ReadFromClient(server_, &byte, 1), 0);
}

TEST_F(SocketCallsTest, AHandshakeDoesNotWaitForWhatAnEarlierConnectionLeft) {
  ClientSends(Request());
  // On a thread of its own, which has no reply to send: as after NBD_CMD_DISC.
  std::thread([&] { EXPECT_EQ(ReadHeader(), static_cast<ssize_t>(kRequestBytes)); }).join();
  // The next connection has the same number; an option of as many bytes as a request has.
  ConnectionBegun();
  ClientSends(std::string(kRequestBytes, 'o'));
  EXPECT_EQ(ReadHeader(), static_cast<ssize_t>(kRequestBytes));
  ConnectionOpened();
}

TEST(UnansweredTest, CountsOnlyWhatWasOpened) {
  Unanswered unanswered;
  EXPECT_FALSE(unanswered.Take(7));
  unanswered.Open(7);
  EXPECT_TRUE(unanswered.Take(7));
  EXPECT_FALSE(unanswered.AwaitAtMost(0, 7, absl::ZeroDuration()));
  EXPECT_TRUE(unanswered.AwaitAtMost(1, 7, absl::ZeroDuration()));
  EXPECT_TRUE(unanswered.AwaitAtMost(0, 8, absl::ZeroDuration()));
  unanswered.Answer(7);
  EXPECT_TRUE(unanswered.AwaitAtMost(0, 7, absl::ZeroDuration()));
}

TEST(UnansweredTest, AConnectionInheritsNothing) {
  Unanswered unanswered;
  unanswered.Open(7);
  ASSERT_TRUE(unanswered.Take(7));
  unanswered.Open(7);
  EXPECT_TRUE(unanswered.AwaitAtMost(0, 7, absl::ZeroDuration()));
  unanswered.Answer(7);
  EXPECT_TRUE(unanswered.Take(7));
  EXPECT_FALSE(unanswered.AwaitAtMost(0, 7, absl::ZeroDuration()));
}

}  // namespace
}  // namespace weir::nbd
