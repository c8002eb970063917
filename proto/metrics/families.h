// Metric families that are made anew at each scrape, from what somebody else counts.
#ifndef WEIR_PROTO_METRICS_FAMILIES_H_
#define WEIR_PROTO_METRICS_FAMILIES_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "prometheus/metric_family.h"
#include "prometheus/metric_type.h"

namespace weir::metrics {

using Labels = std::map<std::string, std::string>;

// Without a series yet.
prometheus::MetricFamily MakeFamily(prometheus::MetricType type, const char* name, const char* help);

void AddGauge(prometheus::MetricFamily& family, const Labels& labels, double value);
void AddCounter(prometheus::MetricFamily& family, const Labels& labels, double value);
// `counts[i]`: how many were at most `bounds[i]`, and more than the bound before; one more count than
// bounds, for what was larger. `sum`: of all values.
void AddHistogram(prometheus::MetricFamily& family, const Labels& labels, absl::Span<const double> bounds,
                  absl::Span<const uint64_t> counts, double sum);

}  // namespace weir::metrics

#endif  // WEIR_PROTO_METRICS_FAMILIES_H_
