#include "volume/host/metrics.h"

#include <cerrno>
#include <cmath>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "volume/engine/result.h"
#include "volume/engine/stats.h"
#include "volume/engine/types.h"
#include "volume/engine/view.h"

namespace weir::host {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::Pair;

// "replica1" or, without that label, "demo": of each series of a metric, in order.
std::multiset<std::string> SeriesOf(const Metrics& metrics, const std::string& metric) {
  std::multiset<std::string> found;
  for (const prometheus::MetricFamily& family : metrics.Collect()) {
    if (family.name != metric) continue;
    for (const prometheus::ClientMetric& series : family.metric) {
      std::string shown;
      for (const prometheus::ClientMetric::Label& label : series.label) {
        if (label.name == "replica" || (label.name == "volume" && shown.empty())) shown = label.value;
      }
      found.insert(shown);
    }
  }
  return found;
}

engine::EngineView ViewOf(const std::vector<std::string>& replicas) {
  engine::EngineView view;
  view.held = true;
  for (const std::string& replica : replicas) {
    view.targets.emplace_back();
    view.targets.back().config.replica = replica;
  }
  return view;
}

TEST(MetricsTest, WhatIsNotAttachedAnyMoreIsNotTold) {
  Metrics metrics;
  std::vector<std::string> replicas = {"r1", "r2"};
  bool attached = true;
  metrics.set_refresh([&] {
    if (attached) metrics.SetState("demo", 1, ViewOf(replicas), std::nullopt, engine::Time());
  });
  EXPECT_THAT(SeriesOf(metrics, "weir_volume_held"), ElementsAre("demo"));
  EXPECT_THAT(SeriesOf(metrics, "weir_volume_target_in_sync"), ElementsAre("r1", "r2"));

  replicas = {"r2", "r3"};
  EXPECT_THAT(SeriesOf(metrics, "weir_volume_target_in_sync"), ElementsAre("r2", "r3"));

  attached = false;
  EXPECT_THAT(SeriesOf(metrics, "weir_volume_held"), IsEmpty());
  EXPECT_THAT(SeriesOf(metrics, "weir_volume_target_in_sync"), IsEmpty());

  attached = true;
  EXPECT_THAT(SeriesOf(metrics, "weir_volume_held"), ElementsAre("demo"));
}

const prometheus::MetricFamily* Find(const std::vector<prometheus::MetricFamily>& families,
                                     const std::string& name) {
  for (const prometheus::MetricFamily& family : families) {
    if (family.name == name) return &family;
  }
  return nullptr;
}

// Its one series with this label.
const prometheus::ClientMetric& SeriesWith(const prometheus::MetricFamily& family, const std::string& value) {
  for (const prometheus::ClientMetric& series : family.metric) {
    for (const prometheus::ClientMetric::Label& label : series.label) {
      if (label.value == value) return series;
    }
  }
  ADD_FAILURE() << family.name << " has no series with " << value;
  return family.metric[0];
}

TEST(MetricsTest, WhatTheEngineCountsIsToldAsItIs) {
  Metrics metrics;
  engine::EngineView view = ViewOf({"r1", "r2"});
  view.completed = {Position(7, 30), Position(7, 8)};
  view.durable = {Position(7, 21), Position(7, 8)};
  engine::Stats stats;
  stats.held[static_cast<size_t>(engine::HoldReason::kCatalog)] = 3;
  stats.durable_until = absl::Seconds(95);
  stats.not_durable_bytes = 8192;
  stats.hidden_errors = {{"r1", 0}, {"r2", 4}};
  engine::FlushCounts& flushes =
      stats.counted.flushes[static_cast<size_t>(engine::FlushPurpose::kRequests)];
  flushes.runs[static_cast<size_t>(engine::Result::Kind::kRequeue)] = 2;
  flushes.took.Add(absl::Microseconds(100));
  flushes.took.Add(absl::Minutes(2));
  stats.counted.fan_out[5] = 2;  // 7 and 8
  stats.counted.fan_out_sum = 15;
  metrics.set_refresh([&] { metrics.SetState("demo", 7, view, stats, absl::Seconds(100)); });

  const std::vector<prometheus::MetricFamily> families = metrics.Collect();
  const auto gauge = [&](const std::string& name, const std::string& label) {
    return SeriesWith(*Find(families, name), label).gauge.value;
  };
  EXPECT_EQ(gauge("weir_volume_held_requests", "catalog"), 3);
  EXPECT_EQ(gauge("weir_volume_held_requests", "requeue"), 0);
  EXPECT_EQ(gauge("weir_volume_durable_point_age_seconds", "demo"), 5);
  EXPECT_EQ(gauge("weir_volume_not_durable_bytes", "demo"), 8192);
  EXPECT_EQ(gauge("weir_volume_lane_completed_writes", "0"), 30);
  EXPECT_EQ(gauge("weir_volume_lane_durable_writes", "0"), 21);
  EXPECT_EQ(SeriesWith(*Find(families, "weir_volume_target_hidden_errors_total"), "r2").counter.value, 4);
  EXPECT_EQ(SeriesWith(*Find(families, "weir_volume_flush_runs_total"), "requeue").counter.value, 2);

  // Buckets are cumulative, and the last one is for everything.
  const auto& took = SeriesWith(*Find(families, "weir_volume_flush_run_duration_seconds"), "client").histogram;
  EXPECT_EQ(took.sample_count, 2u);
  EXPECT_NEAR(took.sample_sum, 120.0001, 1e-9);
  EXPECT_EQ(took.bucket.front().upper_bound, 1e-4);
  EXPECT_EQ(took.bucket.front().cumulative_count, 1u);
  EXPECT_NEAR(took.bucket[took.bucket.size() - 2].upper_bound, 52.4288, 1e-9);
  EXPECT_EQ(took.bucket[took.bucket.size() - 2].cumulative_count, 1u);
  EXPECT_TRUE(std::isinf(took.bucket.back().upper_bound));
  EXPECT_EQ(took.bucket.back().cumulative_count, 2u);
  const auto& width = Find(families, "weir_volume_flush_fan_out_clones")->metric.at(0).histogram;
  EXPECT_EQ(width.sample_sum, 15);
  EXPECT_EQ(width.bucket[5].upper_bound, 8);
  EXPECT_EQ(width.bucket[5].cumulative_count, 2u);
}

TEST(MetricsTest, AMemberIsInOneStateAndItsCopyingHasASpeed) {
  Metrics metrics;
  engine::EngineView view = ViewOf({"good", "away", "failed", "joining", "out"});
  using Health = engine::TargetView::Health;
  view.targets[0].health = Health::kConnected;
  view.targets[2].health = Health::kFailed;
  view.targets[3].health = Health::kConnected;
  view.targets[3].joining = true;
  view.targets[3].join_blocks_left = 100;
  view.targets[3].join_time_left = absl::Seconds(4);
  view.targets[4].health = Health::kOut;
  view.targets[3].config.state = view.targets[4].config.state = engine::TargetState::kOut;
  metrics.set_refresh([&] {
    metrics.SetCatalog(false);
    metrics.SetState("demo", 1, view, std::nullopt, absl::Seconds(100));
  });
  const std::vector<prometheus::MetricFamily> families = metrics.Collect();
  std::map<std::string, std::string> states;
  for (const prometheus::ClientMetric& series : Find(families, "weir_volume_target_state")->metric) {
    std::map<std::string, std::string> labels;
    for (const prometheus::ClientMetric::Label& label : series.label) labels[label.name] = label.value;
    if (series.gauge.value == 1) states[labels["replica"]] += labels["state"];
  }
  EXPECT_THAT(states, ElementsAre(Pair("away", "away"), Pair("failed", "failed"), Pair("good", "in_sync"),
                                  Pair("joining", "joining"), Pair("out", "out")));
  const prometheus::MetricFamily& speed = *Find(families, "weir_volume_join_bytes_per_second");
  EXPECT_EQ(SeriesWith(speed, "joining").gauge.value, 102400);
  EXPECT_EQ(SeriesWith(speed, "out").gauge.value, 0);
  EXPECT_EQ(Find(families, "weir_volume_catalog_up")->metric.at(0).gauge.value, 0);
}

TEST(MetricsTest, WhereTheTimeOfClonesGoesIsToldByReplicaAndStage) {
  Metrics metrics;
  const Metrics::Target target = metrics.ForTarget("demo", "r1");
  EXPECT_EQ(metrics.ForTarget("demo", "r1").times, target.times) << "over all sessions";
  target.times->Add({CloneTimes::Of(absl::ZeroDuration(), absl::Microseconds(10), absl::Milliseconds(1), 800)});
  target.times->Began(absl::ZeroDuration());
  target.times->Ended(absl::Milliseconds(1500));
  const std::vector<prometheus::MetricFamily> families = metrics.Collect();
  const prometheus::MetricFamily& seconds = *Find(families, "weir_volume_target_rpc_duration_seconds");
  EXPECT_NEAR(SeriesWith(seconds, "send").histogram.sample_sum, 10e-6, 1e-9);
  EXPECT_NEAR(SeriesWith(seconds, "store").histogram.sample_sum, 800e-6, 1e-9);
  EXPECT_NEAR(SeriesWith(seconds, "wire").histogram.sample_sum, 190e-6, 1e-9);
  EXPECT_EQ(SeriesWith(seconds, "send").histogram.bucket.front().upper_bound, 1e-5);
  EXPECT_EQ(SeriesWith(seconds, "send").histogram.sample_count, 1u);
  EXPECT_EQ(SeriesWith(*Find(families, "weir_volume_target_busy_seconds_total"), "r1").counter.value, 1.5);
}

TEST(MetricsTest, OnlyWhoIsNoMemberLags) {
  Metrics metrics;
  engine::EngineView view = ViewOf({"member", "out", "joining"});
  view.targets[0].left = view.targets[1].left = view.targets[2].left = absl::Seconds(40);
  view.targets[1].health = engine::TargetView::Health::kOut;
  view.targets[2].joining = true;
  metrics.set_refresh([&] { metrics.SetState("demo", 1, view, std::nullopt, absl::Seconds(100)); });
  const std::vector<prometheus::MetricFamily> families = metrics.Collect();
  const prometheus::MetricFamily& lag = *Find(families, "weir_volume_target_lag_seconds");
  EXPECT_EQ(SeriesWith(lag, "member").gauge.value, 0);
  EXPECT_EQ(SeriesWith(lag, "out").gauge.value, 60);
  EXPECT_EQ(SeriesWith(lag, "joining").gauge.value, 60);
}

TEST(MetricsTest, AnEngineThatHasEndedCountsNothing) {
  Metrics metrics;
  metrics.set_refresh([&] { metrics.SetState("demo", 7, ViewOf({"r1"}), std::nullopt, engine::Time()); });
  const std::vector<prometheus::MetricFamily> families = metrics.Collect();
  EXPECT_NE(Find(families, "weir_volume_held"), nullptr);
  EXPECT_EQ(Find(families, "weir_volume_durable_point_age_seconds"), nullptr);
}

TEST(MetricsTest, AnErrnoWithoutANameMakesNoLabelOfItsOwn) {
  Metrics metrics;
  metrics.CountTargetError("demo", "r1", EIO);
  metrics.CountTargetError("demo", "r1", 100000);
  metrics.CountTargetError("demo", "r1", 100001);
  const std::vector<prometheus::MetricFamily> families = metrics.Collect();
  const prometheus::MetricFamily& errors = *Find(families, "weir_volume_target_errors_total");
  EXPECT_EQ(errors.metric.size(), 2u);
  EXPECT_EQ(SeriesWith(errors, "EIO").counter.value, 1);
  EXPECT_EQ(SeriesWith(errors, "other").counter.value, 2);
}

TEST(MetricsTest, CountersStay) {
  Metrics metrics;
  metrics.CountTargetError("demo", "r1", 5);
  metrics.set_refresh([] {});
  EXPECT_THAT(SeriesOf(metrics, "weir_volume_target_errors_total"), ElementsAre("r1"));
  EXPECT_THAT(SeriesOf(metrics, "weir_volume_target_errors_total"), ElementsAre("r1"));
}

// Of each volume that any series names.
std::set<std::string> VolumesToldOf(const Metrics& metrics) {
  std::set<std::string> volumes;
  for (const prometheus::MetricFamily& family : metrics.Collect()) {
    for (const prometheus::ClientMetric& series : family.metric) {
      for (const prometheus::ClientMetric::Label& label : series.label) {
        if (label.name == "volume") volumes.insert(label.value);
      }
    }
  }
  return volumes;
}

TEST(MetricsTest, AVolumeThatNobodyCountsAnyMoreIsForgotten) {
  Metrics metrics(/*kept_for=*/absl::ZeroDuration());
  auto volume = std::make_optional(metrics.ForVolume("gone"));
  auto target = std::make_optional(metrics.ForTarget("gone", "r1"));
  const Metrics::Volume stays = metrics.ForVolume("stays");
  metrics.CountRequestError("gone", engine::RequestKind::kRead, EIO);
  metrics.CountTargetError("gone", "r1", EIO);
  metrics.ObserveAttach("gone", /*ok=*/true, absl::Seconds(1), absl::ZeroDuration());
  metrics.CountLeftover("gone");
  EXPECT_THAT(VolumesToldOf(metrics), ElementsAre("gone", "stays"));
  volume.reset();
  target->requeues->Increment();
  EXPECT_THAT(VolumesToldOf(metrics), ElementsAre("gone", "stays")) << "a session counts still";
  target.reset();
  EXPECT_THAT(VolumesToldOf(metrics), ElementsAre("stays"));
  // A later one of that name begins anew.
  target = metrics.ForTarget("gone", "r1");
  EXPECT_EQ(target->requeues->Value(), 0);
  EXPECT_THAT(VolumesToldOf(metrics), ElementsAre("gone", "stays"));
}

TEST(MetricsTest, WhatWasCountedLastIsToldForAWhile) {
  Metrics metrics;
  metrics.ObserveAttach("demo", /*ok=*/false, absl::Seconds(1), absl::ZeroDuration());
  EXPECT_THAT(VolumesToldOf(metrics), ElementsAre("demo"));
  EXPECT_THAT(VolumesToldOf(metrics), ElementsAre("demo"));
}

}  // namespace
}  // namespace weir::host
