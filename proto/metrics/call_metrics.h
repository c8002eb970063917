// The calls of a gRPC server: how many, by method and code, and how long they took.
#ifndef WEIR_PROTO_METRICS_CALL_METRICS_H_
#define WEIR_PROTO_METRICS_CALL_METRICS_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "grpcpp/support/server_interceptor.h"
#include "grpcpp/support/status.h"
#include "prometheus/collectable.h"
#include "prometheus/counter.h"
#include "prometheus/family.h"
#include "prometheus/gauge.h"
#include "prometheus/histogram.h"
#include "prometheus/metric_family.h"
#include "prometheus/registry.h"

namespace weir::metrics {

// Thread-safety: safe.
class CallMetrics : public prometheus::Collectable {
 public:
  // `component`: as in weir_<component>_calls_total.
  explicit CallMetrics(const std::string& component);

  void Began() { running_.Increment(); }
  // `method`: as in "/csi.v1.Node/NodeStageVolume". One that no service here has counts as "other", so that a
  // stranger cannot make series.
  void Ended(absl::string_view method, grpc::StatusCode code, absl::Duration took);

  std::vector<prometheus::MetricFamily> Collect() const override { return registry_.Collect(); }

 private:
  prometheus::Registry registry_;
  prometheus::Gauge& running_;
  prometheus::Family<prometheus::Counter>& calls_;
  prometheus::Family<prometheus::Histogram>& seconds_;
};

// For grpc::ServerBuilder::experimental().SetInterceptorCreators: counts each call in `metrics`.
std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface> CountCalls(
    std::shared_ptr<CallMetrics> metrics);

}  // namespace weir::metrics

#endif  // WEIR_PROTO_METRICS_CALL_METRICS_H_
