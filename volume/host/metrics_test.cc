#include "volume/host/metrics.h"

#include <set>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "volume/engine/view.h"

namespace weir::host {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

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
    if (attached) metrics.SetState("demo", 1, ViewOf(replicas));
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

TEST(MetricsTest, CountersStay) {
  Metrics metrics;
  metrics.CountTargetError("demo", "r1", 5);
  metrics.set_refresh([] {});
  EXPECT_THAT(SeriesOf(metrics, "weir_volume_target_errors_total"), ElementsAre("r1"));
  EXPECT_THAT(SeriesOf(metrics, "weir_volume_target_errors_total"), ElementsAre("r1"));
}

}  // namespace
}  // namespace weir::host
