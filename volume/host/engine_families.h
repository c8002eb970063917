// What engines count of their own work, as Prometheus wants it: made anew at each scrape.
#ifndef WEIR_VOLUME_HOST_ENGINE_FAMILIES_H_
#define WEIR_VOLUME_HOST_ENGINE_FAMILIES_H_

#include <string>
#include <vector>

#include "prometheus/metric_family.h"
#include "volume/engine/stats.h"
#include "volume/engine/types.h"
#include "volume/engine/view.h"

namespace weir::host {

// "member_away", "barrier", ...: the label `reason`.
const char* HoldReasonName(engine::HoldReason reason);

// Counters begin at 0 with each attach, as with each start of a process.
// Thread-safety: none.
class EngineFamilies {
 public:
  EngineFamilies();

  // One attached volume, as of `now`.
  void Add(const std::string& volume, const engine::EngineView& view, const engine::Stats& stats,
           engine::Time now);
  // What was added since the last time; families without a series are left out.
  std::vector<prometheus::MetricFamily> Take();

 private:
  void AddFlushes(const std::string& volume, const engine::Stats& stats);

  prometheus::MetricFamily held_;
  prometheus::MetricFamily durable_age_;
  prometheus::MetricFamily not_durable_;
  prometheus::MetricFamily lane_completed_;
  prometheus::MetricFamily lane_durable_;
  prometheus::MetricFamily flush_runs_;
  prometheus::MetricFamily flush_seconds_;
  prometheus::MetricFamily fan_out_;
  prometheus::MetricFamily merged_;
  prometheus::MetricFamily requeued_;
  prometheus::MetricFamily hidden_errors_;
  prometheus::MetricFamily barrier_seconds_;
  prometheus::MetricFamily suspend_seconds_;
};

}  // namespace weir::host

#endif  // WEIR_VOLUME_HOST_ENGINE_FAMILIES_H_
