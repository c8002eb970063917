#include "proto/monitor/monitor_server.h"

#include <CivetServer.h>

#include <atomic>
#include <exception>
#include <iterator>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "prometheus/collectable.h"
#include "prometheus/text_serializer.h"
#include "proto/base/status_macros.h"
#include "proto/monitor/tls_metrics.h"
#include "proto/wire/identity.h"
#include "proto/wire/loopback.h"

namespace weir::monitor {
namespace {

// Of these, scrapes get two: however slow they are, the other pages answer.
constexpr int kThreads = 4;
constexpr int kScrapesMax = 2;
// For a peer to send its request, and to take the answer.
constexpr int kPeerDeadlineMs = 5'000;

struct Answer {
  int code = 200;
  std::string body;
};

void Send(mg_connection* connection, const Answer& answer, bool with_body) {
  const std::string head = absl::StrCat(
      "HTTP/1.1 ", answer.code, answer.code == 200 ? " OK" : " Service Unavailable",
      "\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nCache-Control: no-store\r\n"
      "Connection: close\r\nContent-Length: ",
      answer.body.size(), "\r\n\r\n");
  mg_write(connection, head.data(), head.size());
  if (with_body) mg_write(connection, answer.body.data(), answer.body.size());
}

class Page : public CivetHandler {
 public:
  using CivetHandler::handleGet;
  using CivetHandler::handleHead;
  bool handleGet(CivetServer*, mg_connection* connection) final {
    Send(connection, Read(), /*with_body=*/true);
    return true;
  }
  bool handleHead(CivetServer*, mg_connection* connection) final {
    Send(connection, Read(), /*with_body=*/false);
    return true;
  }

 private:
  virtual Answer Read() = 0;
};

}  // namespace

class MonitorServer::Metrics final : public Page {
 public:
  explicit Metrics(std::vector<std::shared_ptr<prometheus::Collectable>> sources)
      : sources_(std::move(sources)) {}

 private:
  Answer Read() override {
    struct Scrape {
      explicit Scrape(std::atomic<int>& running) : running(running), number(++running) {}
      ~Scrape() { --running; }
      std::atomic<int>& running;
      const int number;
    };
    const Scrape scrape(running_);
    if (scrape.number > kScrapesMax) return {503, "too many scrapes at once; one Prometheus, or two, is enough\n"};
    std::vector<prometheus::MetricFamily> families;
    for (const auto& source : sources_) {
      std::vector<prometheus::MetricFamily> some = source->Collect();
      families.insert(families.end(), std::make_move_iterator(some.begin()), std::make_move_iterator(some.end()));
    }
    return {200, prometheus::TextSerializer().Serialize(families)};
  }

  const std::vector<std::shared_ptr<prometheus::Collectable>> sources_;
  std::atomic<int> running_{0};
};

class MonitorServer::Health final : public Page {
 public:
  explicit Health(Check check) : check_(std::move(check)) {}

 private:
  Answer Read() override {
    const absl::Status status = check_();
    if (status.ok()) return {200, "ok\n"};
    return {503, absl::StrCat(status.message(), "\n")};
  }

  const Check check_;
};

absl::Status CheckMetricsListen(const std::string& listen, bool insecure) {
  // A list has other addresses too.
  const bool list = absl::StrContains(listen, ',');
  if (insecure || listen.empty() || (!list && wire::IsThisMachine(listen))) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("metrics_listen=", listen, " would tell other machines the names and numbers of volumes in plain "
                   "text; say insecure_metrics if the network is trusted"));
}

absl::StatusOr<std::unique_ptr<MonitorServer>> MonitorServer::Start(Options options) {
  RETURN_IF_ERROR(CheckMetricsListen(options.listen, options.insecure));
  std::unique_ptr<MonitorServer> server(new MonitorServer);
  options.metrics.push_back(std::make_shared<TlsMetrics>(wire::IdentityFiles(), options.etcd, options.nbd));
  server->metrics_ = std::make_unique<Metrics>(std::move(options.metrics));
  server->healthy_ = std::make_unique<Health>(std::move(options.healthy));
  server->ready_ = std::make_unique<Health>(std::move(options.ready));
  // Civetweb reports by exception; it ends here.
  try {
    server->server_ = std::make_unique<CivetServer>(std::vector<std::string>{
        "listening_ports", options.listen, "num_threads", absl::StrCat(kThreads),
        "request_timeout_ms", absl::StrCat(kPeerDeadlineMs)});
  } catch (const std::exception&) {
    return absl::UnavailableError(absl::StrCat(
        "cannot listen on --metrics_listen=", options.listen,
        ": the address is in use or not this machine's; stop the other process (ss -lptn shows it) or choose "
        "another address"));
  }
  server->server_->addHandler("/metrics", *server->metrics_);
  server->server_->addHandler("/healthz", *server->healthy_);
  server->server_->addHandler("/readyz", *server->ready_);
  const std::vector<int> ports = server->server_->getListeningPorts();
  if (!ports.empty()) server->port_ = ports.front();
  return server;
}

MonitorServer::~MonitorServer() = default;

}  // namespace weir::monitor
