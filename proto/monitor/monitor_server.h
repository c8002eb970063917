// The HTTP listener of a process:
//
//   /metrics   Prometheus text: what Options names, and when the process's certificates expire
//   /healthz   200 while the process works; 503 once it never will again without somebody's help
//   /readyz    200 while it can serve now; 503 else, such as while it starts, stops or waits
//
// The pages are text for people: "ok", or why not.
//
// Thread-safety: safe. It has threads of its own. The destructor stops listening and waits for the
// answers under way; what Options points to must live until then.
#ifndef WEIR_PROTO_MONITOR_MONITOR_SERVER_H_
#define WEIR_PROTO_MONITOR_MONITOR_SERVER_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "proto/base/tls_files.h"

class CivetServer;
namespace prometheus {
class Collectable;
}

namespace weir::monitor {

// INVALID_ARGUMENT if a listener at `listen` could be reached from other machines, and nobody said `insecure`: it is
// plain HTTP, whatever certificates the process has. Empty: there is none.
absl::Status CheckMetricsListen(const std::string& listen, bool insecure);

class MonitorServer {
 public:
  // Called for each request, on several threads at once. May block for a second or two; see SharedCheck.
  using Check = std::function<absl::Status()>;
  struct Options {
    std::string listen;  // HOST:PORT; port 0: any free one
    bool insecure = false;  // `listen` may be for other machines
    std::vector<std::shared_ptr<prometheus::Collectable>> metrics;
    TlsFiles etcd;  // of the catalog, for their expiry; may be empty
    TlsFiles nbd;   // of nbdkit, likewise; see TlsMetrics
    Check healthy = [] { return absl::OkStatus(); };
    Check ready;
  };

  // INVALID_ARGUMENT: as CheckMetricsListen. UNAVAILABLE: the address is in use, or is not this machine's; says what to do.
  static absl::StatusOr<std::unique_ptr<MonitorServer>> Start(Options options);
  ~MonitorServer();

  int port() const { return port_; }

 private:
  class Metrics;
  class Health;

  MonitorServer() = default;

  // In this order: the server goes first, then what it calls.
  std::unique_ptr<Metrics> metrics_;
  std::unique_ptr<Health> healthy_;
  std::unique_ptr<Health> ready_;
  std::unique_ptr<CivetServer> server_;
  int port_ = 0;
};

}  // namespace weir::monitor

#endif  // WEIR_PROTO_MONITOR_MONITOR_SERVER_H_
