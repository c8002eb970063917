#include "client/nbd/hang_up.h"

#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <string>
#include <vector>

#include "absl/synchronization/blocking_counter.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"

// nbdkit's, which the library under test refers to.
extern "C" int nbdkit_nanosleep(unsigned, unsigned) { return -1; }

namespace weir::nbd {
namespace {

// A listener on an abstract name of this process, and one accepted connection.
class Server {
 public:
  explicit Server(const std::string& name) {
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    const std::string path = name + std::to_string(getpid());
    std::memcpy(address.sun_path + 1, path.data(), path.size());
    const socklen_t length = offsetof(sockaddr_un, sun_path) + 1 + path.size();
    auto* generic = reinterpret_cast<sockaddr*>(&address);
    EXPECT_EQ(bind(listener_, generic, length), 0);
    EXPECT_EQ(listen(listener_, 1), 0);
    EXPECT_EQ(connect(client_, generic, length), 0);
    accepted_ = accept(listener_, nullptr, nullptr);
  }
  ~Server() {
    close(accepted_);
    close(client_);
    close(listener_);
  }

  // What the server's end of the connection reads without waiting: 0 is the end, -1 nothing yet.
  ssize_t ServerReads() {
    char byte;
    return recv(accepted_, &byte, 1, MSG_DONTWAIT);
  }
  bool ServerCanAnswer() {
    char byte = 'a';
    return send(accepted_, &byte, 1, 0) == 1 && recv(client_, &byte, 1, 0) == 1;
  }

 private:
  const int listener_ = socket(AF_UNIX, SOCK_STREAM, 0);
  const int client_ = socket(AF_UNIX, SOCK_STREAM, 0);
  int accepted_ = -1;
};

TEST(HangUpTest, EndsReadingButNotAnswering) {
  Server nbd("nbd");
  Descriptors descriptors;
  const std::vector<std::string> listeners = ListenerAddresses(descriptors);
  ASSERT_EQ(nbd.ServerReads(), -1);
  EXPECT_EQ(EndReading(descriptors, listeners), 1);
  EXPECT_EQ(nbd.ServerReads(), 0);
  EXPECT_TRUE(nbd.ServerCanAnswer());
}

TEST(HangUpTest, LeavesListenersThatCameLaterAlone) {
  Server nbd("nbd");
  Descriptors descriptors;
  const std::vector<std::string> listeners = ListenerAddresses(descriptors);
  Server grpc("grpc");
  EXPECT_EQ(EndReading(descriptors, listeners), 1);
  EXPECT_EQ(grpc.ServerReads(), -1);
}

TEST(HangUpTest, HangsUpWhenNbdkitShutsDown) {
  Server nbd("nbd");
  // The stand-in above says at once that nbdkit shuts down.
  { HangUp hang_up(absl::InfiniteDuration(), [] { ADD_FAILURE(); }); }
  EXPECT_EQ(nbd.ServerReads(), 0);
}

TEST(HangUpTest, LetsGoOfWhatIsNotAnsweredInTimeUntilItIsOver) {
  absl::BlockingCounter twice(2);
  std::atomic<int> times{0};
  HangUp hang_up(absl::ZeroDuration(), [&] {
    if (++times <= 2) twice.DecrementCount();
  });
  twice.Wait();
}

TEST(HangUpTest, HangsUpWithNoDescriptorLeft) {
  Server nbd("nbd");
  Descriptors descriptors;
  const std::vector<std::string> listeners = ListenerAddresses(descriptors);
  rlimit before;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  const rlimit none = {0, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  EXPECT_EQ(EndReading(descriptors, listeners), 1);
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_EQ(nbd.ServerReads(), 0);
}

}  // namespace
}  // namespace weir::nbd
