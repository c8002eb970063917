#include "proto/metrics/families.h"

#include <limits>

#include "prometheus/client_metric.h"

namespace weir::metrics {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;

ClientMetric& AddSeries(MetricFamily& family, const Labels& labels) {
  ClientMetric& series = family.metric.emplace_back();
  for (const auto& [name, value] : labels) series.label.push_back({name, value});
  return series;
}

}  // namespace

MetricFamily MakeFamily(prometheus::MetricType type, const char* name, const char* help) {
  MetricFamily family;
  family.name = name;
  family.help = help;
  family.type = type;
  return family;
}

void AddGauge(MetricFamily& family, const Labels& labels, double value) {
  AddSeries(family, labels).gauge.value = value;
}

void AddCounter(MetricFamily& family, const Labels& labels, double value) {
  AddSeries(family, labels).counter.value = value;
}

void AddHistogram(MetricFamily& family, const Labels& labels, absl::Span<const double> bounds,
                  absl::Span<const uint64_t> counts, double sum) {
  ClientMetric::Histogram& histogram = AddSeries(family, labels).histogram;
  for (size_t i = 0; i < counts.size(); ++i) {
    histogram.sample_count += counts[i];
    histogram.bucket.push_back(
        {histogram.sample_count, i < bounds.size() ? bounds[i] : std::numeric_limits<double>::infinity()});
  }
  histogram.sample_sum = sum;
}

}  // namespace weir::metrics
