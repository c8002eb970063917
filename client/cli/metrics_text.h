// Prometheus' text format, as the /metrics of our processes have it: read, and what two looks at it say.
//
// Thread-safety: free functions and values, safe.
#ifndef WEIR_CLIENT_CLI_METRICS_TEXT_H_
#define WEIR_CLIENT_CLI_METRICS_TEXT_H_

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace weir::cli {

using Labels = std::map<std::string, std::string>;
// By hash: a process with hundreds of volumes has hundreds of thousands of them.
using Series = absl::flat_hash_map<Labels, double>;
// By name. A histogram is three: NAME_bucket, NAME_sum, NAME_count.
using Metrics = std::map<std::string, Series>;

// INVALID_ARGUMENT names the line. Timestamps and comments are passed over; of two equal series the last one counts.
absl::StatusOr<Metrics> ParseMetrics(absl::string_view text);

// How many values were at most so large, by upper bound, the last one infinite.
using Buckets = std::map<double, double>;
using Histograms = absl::flat_hash_map<Labels, Buckets>;

// As Prometheus' histogram_quantile: evenly spread within a bucket; in the last one, its lower bound. None of no values,
// and of buckets without an infinite one.
std::optional<double> Quantile(double q, const Buckets& buckets);

// One process at one moment.
struct Scrape {
  std::string process;
  absl::Status status;  // why `metrics` are empty
  Metrics metrics;
  absl::Duration at;  // since some moment that is the same for all
};

// What happened in a process between two looks. A counter that is smaller than before, or whose process is another one, began at
// 0 in between. So did one that is new.
class Change {
 public:
  // `before` null, or without an answer: nothing is known, and all below is empty. Both outlive this.
  Change(const Scrape* before, const Scrape& now);

  // Each a second, summed over all labels but those to `keep`.
  Series Rates(const std::string& counter, const std::vector<std::string>& keep) const;
  // What was observed in between, likewise. `histogram`: without _bucket.
  Histograms Observed(const std::string& histogram, const std::vector<std::string>& keep) const;

 private:
  double Before(const std::string& name, const Labels& labels) const;  // 0: there was none

  const Scrape* before_;  // null: nothing is known
  const Scrape& now_;
  double seconds_ = 0;
  bool restarted_ = false;
};

// None: there is no such series.
std::optional<double> ValueOf(const Metrics& metrics, const std::string& name, const Labels& labels);

}  // namespace weir::cli

#endif  // WEIR_CLIENT_CLI_METRICS_TEXT_H_
