#include "volume/host/engine_families.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "prometheus/metric_type.h"
#include "proto/base/position.h"
#include "proto/metrics/families.h"

namespace weir::host {
namespace {

using metrics::AddCounter;
using metrics::AddGauge;
using metrics::AddHistogram;
using metrics::Labels;
using metrics::MakeFamily;
using prometheus::MetricFamily;
using prometheus::MetricType;

// By engine::HoldReason.
constexpr const char* kReasons[engine::kHoldReasons] = {
    "suspended", "barrier",     "locked",      "catalog", "too_few_members", "member_away",
    "requeue",   "member_busy", "replay_full", "backlog", "parent_away"};
// By engine::FlushPurpose.
constexpr const char* kPurposes[engine::kFlushPurposes] = {"client", "auto", "suspend", "barrier"};
// By engine::Result::Kind.
constexpr const char* kResults[engine::kResultKinds] = {"ok", "error", "requeue", "not_supported", "fenced"};
// By engine::BarrierStage.
constexpr const char* kStages[engine::kBarrierStages] = {"drain", "pre_flush", "write", "pin", "post_flush"};

std::vector<double> DurationBounds() {
  std::vector<double> bounds;
  for (size_t i = 0; i < engine::DurationCounts::kBounds; ++i) {
    bounds.push_back(absl::ToDoubleSeconds(engine::DurationCounts::Bound(i)));
  }
  return bounds;
}

void AddDurations(MetricFamily& family, const Labels& labels, const engine::DurationCounts& counts) {
  static const auto* const bounds = new std::vector<double>(DurationBounds());
  AddHistogram(family, labels, *bounds, counts.buckets(), absl::ToDoubleSeconds(counts.sum()));
}

}  // namespace

const char* HoldReasonName(engine::HoldReason reason) { return kReasons[static_cast<size_t>(reason)]; }

EngineFamilies::EngineFamilies()
    : held_(MakeFamily(MetricType::Gauge, "weir_volume_held_requests",
                 "Requests that are not carried on with, by what they wait for; explain says more.")),
      durable_age_(MakeFamily(MetricType::Gauge, "weir_volume_durable_point_age_seconds",
                        "Everything that was answered so long ago is on stable storage of every member; 0: all is.")),
      not_durable_(MakeFamily(MetricType::Gauge, "weir_volume_not_durable_bytes",
                        "Data of writes that are on every member and not yet on stable storage of each.")),
      lane_completed_(MakeFamily(MetricType::Gauge, "weir_volume_lane_completed_writes",
                           "Writes of its epoch that every member has, by lane.")),
      lane_durable_(MakeFamily(MetricType::Gauge, "weir_volume_lane_durable_writes",
                         "The durable point: writes of its epoch that are on stable storage of every member, by lane.")),
      flush_runs_(MakeFamily(MetricType::Counter, "weir_volume_flush_runs_total",
                       "Runs of the flush worker that ended, by what asked for them and what the answers were folded to.")),
      flush_seconds_(MakeFamily(MetricType::Histogram, "weir_volume_flush_run_duration_seconds",
                          "From asking the first flush domain to the last one's answer.")),
      fan_out_(MakeFamily(MetricType::Histogram, "weir_volume_flush_fan_out_clones",
                    "Flush domains that a run has asked, of all members together.")),
      merged_(MakeFamily(MetricType::Counter, "weir_volume_flushes_merged_total",
                   "Flushes that another one's run has answered too.")),
      requeued_(MakeFamily(MetricType::Counter, "weir_volume_flushes_requeued_total",
                     "Flushes that went back to the head of the queue, to run again.")),
      hidden_errors_(MakeFamily(MetricType::Counter, "weir_volume_target_hidden_errors_total",
                          "Errors that this replica answered to flushes and that no flush's result told: precedence or a leave hid them, or nobody awaited it.")),
      barrier_seconds_(MakeFamily(MetricType::Histogram, "weir_volume_barrier_duration_seconds",
                            "How long barriers took, by phase; a snapshot has pin instead of write and post_flush.")),
      suspend_seconds_(MakeFamily(MetricType::Histogram, "weir_volume_suspend_duration_seconds",
                            "How long suspends took: until nothing was in flight (draining), then until the resume, or a restore (suspended).")) {}

void EngineFamilies::Add(const std::string& volume, const engine::EngineView& view, const engine::Stats& stats,
                         engine::Time now) {
  const Labels labels = {{"volume", volume}};
  for (size_t i = 0; i < engine::kHoldReasons; ++i) {
    AddGauge(held_, {{"volume", volume}, {"reason", kReasons[i]}}, static_cast<double>(stats.held[i]));
  }
  const absl::Duration age = stats.durable_until ? now - *stats.durable_until : absl::ZeroDuration();
  AddGauge(durable_age_, labels, absl::ToDoubleSeconds(std::max(age, absl::ZeroDuration())));
  AddGauge(not_durable_, labels, static_cast<double>(stats.not_durable_bytes));
  for (size_t lane = 0; lane < view.completed.size(); ++lane) {
    const Labels of_lane = {{"volume", volume}, {"lane", absl::StrCat(lane)}};
    AddGauge(lane_completed_, of_lane, static_cast<double>(view.completed[lane].n()));
    AddGauge(lane_durable_, of_lane, static_cast<double>(view.durable[lane].n()));
  }
  AddFlushes(volume, stats);
  for (size_t i = 0; i < engine::kBarrierStages; ++i) {
    AddDurations(barrier_seconds_, {{"volume", volume}, {"phase", kStages[i]}}, stats.counted.barriers[i]);
  }
  AddDurations(suspend_seconds_, {{"volume", volume}, {"phase", "draining"}}, stats.counted.suspending);
  AddDurations(suspend_seconds_, {{"volume", volume}, {"phase", "suspended"}}, stats.counted.suspended);
}

void EngineFamilies::AddFlushes(const std::string& volume, const engine::Stats& stats) {
  const Labels labels = {{"volume", volume}};
  for (size_t i = 0; i < engine::kFlushPurposes; ++i) {
    const engine::FlushCounts& flushes = stats.counted.flushes[i];
    for (size_t kind = 0; kind < engine::kResultKinds; ++kind) {
      AddCounter(flush_runs_, {{"volume", volume}, {"purpose", kPurposes[i]}, {"result", kResults[kind]}},
                 flushes.runs[kind]);
    }
    AddDurations(flush_seconds_, {{"volume", volume}, {"purpose", kPurposes[i]}}, flushes.took);
  }
  const std::vector<double> widths(engine::kFanOutBounds.begin(), engine::kFanOutBounds.end());
  AddHistogram(fan_out_, labels, widths, stats.counted.fan_out, static_cast<double>(stats.counted.fan_out_sum));
  AddCounter(merged_, labels, static_cast<double>(stats.counted.flushes_merged));
  AddCounter(requeued_, labels, static_cast<double>(stats.counted.flushes_requeued));
  for (const auto& [replica, errors] : stats.hidden_errors) {
    AddCounter(hidden_errors_, {{"volume", volume}, {"replica", replica}}, static_cast<double>(errors));
  }
}

std::vector<MetricFamily> EngineFamilies::Take() {
  std::vector<MetricFamily> taken;
  for (MetricFamily* family :
       {&held_, &durable_age_, &not_durable_, &lane_completed_, &lane_durable_, &flush_runs_, &flush_seconds_,
        &fan_out_, &merged_, &requeued_, &hidden_errors_, &barrier_seconds_, &suspend_seconds_}) {
    if (family->metric.empty()) continue;
    taken.push_back(*family);
    family->metric.clear();
  }
  return taken;
}

}  // namespace weir::host
