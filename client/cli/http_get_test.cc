#include "client/cli/http_get.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace weir::cli {
namespace {

using ::testing::HasSubstr;

constexpr absl::Duration kLong = absl::Seconds(30);

// Answers one connection with `bytes`, whatever is asked, and keeps it open until the client ends it.
class Server {
 public:
  explicit Server(const std::string& bytes) : listener_(socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    EXPECT_EQ(listen(listener_, 1), 0);
    socklen_t length = sizeof(address);
    EXPECT_EQ(getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &length), 0);
    url_ = absl::StrCat("http://127.0.0.1:", ntohs(address.sin_port), "/metrics");
    thread_ = std::thread([this, bytes] {
      const int client = accept(listener_, nullptr, nullptr);
      if (client < 0) return;
      send(client, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      char asked[1024];
      while (read(client, asked, sizeof(asked)) > 0) {
      }
      close(client);
    });
  }
  ~Server() {
    shutdown(listener_, SHUT_RDWR);  // accept returns, if nobody came
    thread_.join();
    close(listener_);
  }

  const std::string& url() const { return url_; }

 private:
  const int listener_;
  std::string url_;
  std::thread thread_;
};

std::string WhyNot(const std::string& url, absl::Duration timeout, size_t bytes_max) {
  const auto page = HttpGet(url, timeout, bytes_max);
  EXPECT_EQ(page.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(page.status().message()), HasSubstr(url + ": "));
  return std::string(page.status().message());
}

TEST(HttpGetTest, GetsAPage) {
  const Server server("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\na 1\n");
  const auto page = HttpGet(server.url(), kLong, 4);
  ASSERT_TRUE(page.ok()) << page.status();
  EXPECT_EQ(*page, "a 1\n");
}

TEST(HttpGetTest, SaysWhyThereIsNone) {
  const Server missing("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
  EXPECT_THAT(WhyNot(missing.url(), kLong, 10), HasSubstr("HTTP status 404"));
  // Nobody is sent elsewhere.
  const Server moved("HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n");
  EXPECT_THAT(WhyNot(moved.url(), kLong, 10), HasSubstr("HTTP status 302"));
  const Server large("HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n01234567890");
  EXPECT_THAT(WhyNot(large.url(), kLong, 10), HasSubstr("more than 10 bytes"));
  const Server nonsense("220 smtp ready\r\n");
  WhyNot(nonsense.url(), kLong, 10);
  WhyNot("http://127.0.0.1:1/metrics", kLong, 10);
  WhyNot("file:///etc/passwd", kLong, 10);
}

TEST(HttpGetTest, OneThatSaysNothingOrNeverEndsIsGivenUp) {
  const absl::Time begun = absl::Now();
  const Server silent("");
  WhyNot(silent.url(), absl::Milliseconds(50), 10);
  const Server half("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\na");
  WhyNot(half.url(), absl::Milliseconds(50), 10);
  EXPECT_LT(absl::Now() - begun, kLong);
}

}  // namespace
}  // namespace weir::cli
