#include "proto/metrics/endpoint.h"

#include <exception>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "prometheus/exposer.h"

namespace weir::metrics {

absl::StatusOr<std::unique_ptr<Endpoint>> Endpoint::Start(
    const std::string& listen, std::vector<std::shared_ptr<prometheus::Collectable>> collectables) {
  try {
    auto exposer = std::make_unique<prometheus::Exposer>(listen, 2);
    return std::unique_ptr<Endpoint>(new Endpoint(std::move(exposer), std::move(collectables)));
  } catch (const std::exception& error) {
    return absl::FailedPreconditionError(absl::StrCat(
        "cannot serve metrics on ", listen, ": ", error.what(),
        "; another process may be using it, choose another --metrics_listen"));
  }
}

Endpoint::Endpoint(std::unique_ptr<prometheus::Exposer> exposer,
                   std::vector<std::shared_ptr<prometheus::Collectable>> collectables)
    : collectables_(std::move(collectables)), exposer_(std::move(exposer)) {
  for (const auto& collectable : collectables_) exposer_->RegisterCollectable(collectable);
  const std::vector<int> ports = exposer_->GetListeningPorts();
  if (!ports.empty()) port_ = ports[0];
}

Endpoint::~Endpoint() = default;

}  // namespace weir::metrics
