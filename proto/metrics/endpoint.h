// Serves collectables as Prometheus text at http://HOST:PORT/metrics.
#ifndef WEIR_PROTO_METRICS_ENDPOINT_H_
#define WEIR_PROTO_METRICS_ENDPOINT_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "prometheus/collectable.h"

namespace prometheus {
class Exposer;
}

namespace weir::metrics {

// Owns two threads; the destructor waits for a scrape that runs. Thread-safety: safe.
class Endpoint {
 public:
  // `listen`: HOST:PORT, port 0 takes a free one. FAILED_PRECONDITION: it cannot be listened on.
  static absl::StatusOr<std::unique_ptr<Endpoint>> Start(
      const std::string& listen, std::vector<std::shared_ptr<prometheus::Collectable>> collectables);
  ~Endpoint();

  int port() const { return port_; }

 private:
  Endpoint(std::unique_ptr<prometheus::Exposer> exposer,
           std::vector<std::shared_ptr<prometheus::Collectable>> collectables);

  const std::vector<std::shared_ptr<prometheus::Collectable>> collectables_;
  const std::unique_ptr<prometheus::Exposer> exposer_;
  int port_ = 0;
};

}  // namespace weir::metrics

#endif  // WEIR_PROTO_METRICS_ENDPOINT_H_
