#include "proto/monitor/monitor_server.h"

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/blocking_counter.h"
#include "absl/synchronization/notification.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "prometheus/counter.h"
#include "prometheus/registry.h"
#include "proto/monitor/http_get.h"

namespace weir::monitor {
namespace {

using testing::EndsWith;
using testing::HasSubstr;
using testing::StartsWith;

std::string Ask(int port, const std::string& path, const std::string& method = "GET") {
  return HttpGet(absl::StrCat("127.0.0.1:", port), path, method);
}

std::unique_ptr<MonitorServer> Start(MonitorServer::Options options) {
  options.listen = "127.0.0.1:0";
  auto server = MonitorServer::Start(std::move(options));
  EXPECT_TRUE(server.ok()) << server.status();
  return *std::move(server);
}

TEST(MonitorServerTest, ServesWhatIsDeclared) {
  auto registry = std::make_shared<prometheus::Registry>();
  prometheus::BuildCounter().Name("weir_tests_total").Help("Tests.").Register(*registry).Add({{"name", "a"}}).Increment();
  MonitorServer::Options options;
  options.metrics = {registry};
  options.ready = [] { return absl::OkStatus(); };
  const auto server = Start(std::move(options));
  const std::string metrics = Ask(server->port(), "/metrics");
  EXPECT_THAT(metrics, StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(metrics, HasSubstr("\nweir_tests_total{name=\"a\"} 1\n"));
  for (const char* page : {"/healthz", "/readyz"}) {
    const std::string answer = Ask(server->port(), page);
    EXPECT_THAT(answer, StartsWith("HTTP/1.1 200 OK\r\n")) << page;
    EXPECT_THAT(answer, EndsWith("\r\n\r\nok\n")) << page;
    EXPECT_THAT(Ask(server->port(), page, "HEAD"), EndsWith("\r\n\r\n")) << page;
  }
  EXPECT_THAT(Ask(server->port(), "/other"), StartsWith("HTTP/1.1 404"));
}

TEST(MonitorServerTest, OtherMachinesReachItOnlyIfSomebodySaysSo) {
  for (const char* listen : {"", "127.0.0.1:1", "localhost:1", "[::1]:1"}) {
    EXPECT_TRUE(CheckMetricsListen(listen, /*insecure=*/false).ok()) << listen;
  }
  // Civetweb takes lists and bare ports too, for every address.
  for (const char* listen : {"0.0.0.0:0", "10.0.0.1:1", "[::]:1", "node7:1", "127.0.0.1:1,0.0.0.0:2", "127.0.0.1:1,2", "9700"}) {
    EXPECT_THAT(CheckMetricsListen(listen, /*insecure=*/false).message(), HasSubstr("insecure_metrics")) << listen;
    EXPECT_TRUE(CheckMetricsListen(listen, /*insecure=*/true).ok()) << listen;
  }
  MonitorServer::Options options;
  options.listen = "0.0.0.0:0";
  options.ready = [] { return absl::OkStatus(); };
  EXPECT_TRUE(absl::IsInvalidArgument(MonitorServer::Start(options).status()));
  options.insecure = true;
  EXPECT_TRUE(MonitorServer::Start(options).ok());
}

TEST(MonitorServerTest, SaysWhyNotAndThatItIsOver) {
  std::atomic<bool> ready{false};
  MonitorServer::Options options;
  options.healthy = [] { return absl::DataLossError("the disk has failed"); };
  options.ready = [&] { return ready ? absl::OkStatus() : absl::UnavailableError("it starts"); };
  const auto server = Start(std::move(options));
  EXPECT_THAT(Ask(server->port(), "/healthz"), StartsWith("HTTP/1.1 503 "));
  EXPECT_THAT(Ask(server->port(), "/healthz"), EndsWith("\r\n\r\nthe disk has failed\n"));
  EXPECT_THAT(Ask(server->port(), "/readyz"), EndsWith("\r\n\r\nit starts\n"));
  ready = true;
  EXPECT_THAT(Ask(server->port(), "/readyz"), EndsWith("\r\n\r\nok\n"));
}

// A collection that does not end before it is told to.
class Stuck : public prometheus::Collectable {
 public:
  std::vector<prometheus::MetricFamily> Collect() const override {
    running.DecrementCount();
    released.WaitForNotification();
    return {};
  }
  mutable absl::BlockingCounter running{2};
  absl::Notification released;
};

TEST(MonitorServerTest, HealthAnswersWhileScrapesAreStuck) {
  auto stuck = std::make_shared<Stuck>();
  MonitorServer::Options options;
  options.metrics = {stuck};
  options.ready = [] { return absl::OkStatus(); };
  const auto server = Start(std::move(options));
  std::thread first([&] { EXPECT_THAT(Ask(server->port(), "/metrics"), StartsWith("HTTP/1.1 200 ")); });
  std::thread second([&] { EXPECT_THAT(Ask(server->port(), "/metrics"), StartsWith("HTTP/1.1 200 ")); });
  stuck->running.Wait();
  EXPECT_THAT(Ask(server->port(), "/metrics"), StartsWith("HTTP/1.1 503 "));
  EXPECT_THAT(Ask(server->port(), "/healthz"), StartsWith("HTTP/1.1 200 "));
  EXPECT_THAT(Ask(server->port(), "/readyz"), StartsWith("HTTP/1.1 200 "));
  stuck->released.Notify();
  first.join();
  second.join();
}

TEST(MonitorServerTest, AnAddressThatIsTakenIsSaidSo) {
  MonitorServer::Options options;
  options.ready = [] { return absl::OkStatus(); };
  const auto server = Start(options);
  options.listen = absl::StrCat("127.0.0.1:", server->port());
  const absl::Status second = MonitorServer::Start(options).status();
  EXPECT_EQ(second.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(second.message()), HasSubstr(options.listen));
}

}  // namespace
}  // namespace weir::monitor
