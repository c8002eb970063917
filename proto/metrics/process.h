// What every process tells of itself: its build, and what it uses of the machine under the names that
// Prometheus' own clients use.
#ifndef WEIR_PROTO_METRICS_PROCESS_H_
#define WEIR_PROTO_METRICS_PROCESS_H_

#include <string>
#include <utility>
#include <vector>

#include "prometheus/collectable.h"
#include "prometheus/metric_family.h"

namespace weir::metrics {

// Looks at /proc/self at each scrape. Thread-safety: safe.
class ProcessCollector : public prometheus::Collectable {
 public:
  // `component`: what this process is, as in "weir-replica".
  explicit ProcessCollector(std::string component) : component_(std::move(component)) {}
  std::vector<prometheus::MetricFamily> Collect() const override;

 private:
  const std::string component_;
};

}  // namespace weir::metrics

#endif  // WEIR_PROTO_METRICS_PROCESS_H_
