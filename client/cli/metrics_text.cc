#include "client/cli/metrics_text.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "proto/base/status_macros.h"

namespace weir::cli {
namespace {

constexpr char kStarted[] = "process_start_time_seconds";

bool IsNameCharacter(char c) { return absl::ascii_isalnum(c) || c == '_' || c == ':'; }

// One line: NAME{LABEL="VALUE",...} NUMBER [TIMESTAMP].
class SampleLine {
 public:
  explicit SampleLine(absl::string_view line) : left_(line) {}

  absl::Status ReadInto(Metrics& metrics) {
    ASSIGN_OR_RETURN(const std::string name, Name());
    Labels labels;
    if (Take('{')) {
      RETURN_IF_ERROR(ReadLabels(labels));
    }
    ASSIGN_OR_RETURN(const double value, Number());
    metrics[name][std::move(labels)] = value;
    return absl::OkStatus();
  }

 private:
  void SkipBlanks() { left_ = absl::StripLeadingAsciiWhitespace(left_); }

  bool Take(char c) {
    SkipBlanks();
    if (left_.empty() || left_.front() != c) return false;
    left_.remove_prefix(1);
    return true;
  }

  absl::StatusOr<std::string> Name() {
    SkipBlanks();
    size_t end = 0;
    while (end < left_.size() && IsNameCharacter(left_[end])) ++end;
    if (end == 0 || absl::ascii_isdigit(left_.front())) return absl::InvalidArgumentError("no name where one should be");
    std::string name(left_.substr(0, end));
    left_.remove_prefix(end);
    return name;
  }

  // Up to and with the closing brace.
  absl::Status ReadLabels(Labels& labels) {
    while (!Take('}')) {
      ASSIGN_OR_RETURN(std::string name, Name());
      if (!Take('=') || !Take('"')) return absl::InvalidArgumentError("a label without a quoted value");
      ASSIGN_OR_RETURN(labels[std::move(name)], Quoted());
      if (Take(',')) continue;
      if (Take('}')) break;
      return absl::InvalidArgumentError("labels that do not end");
    }
    return absl::OkStatus();
  }

  // After the opening quote.
  absl::StatusOr<std::string> Quoted() {
    std::string value;
    for (size_t at = 0; at < left_.size(); ++at) {
      if (left_[at] == '"') {
        left_.remove_prefix(at + 1);
        return value;
      }
      if (left_[at] != '\\') {
        value.push_back(left_[at]);
        continue;
      }
      if (++at == left_.size()) break;
      value.push_back(left_[at] == 'n' ? '\n' : left_[at]);
    }
    return absl::InvalidArgumentError("a quoted value that does not end");
  }

  absl::StatusOr<double> Number() {
    SkipBlanks();
    const absl::string_view word = left_.substr(0, left_.find_first_of(" \t"));
    double value = 0;
    if (!absl::SimpleAtod(word, &value)) return absl::InvalidArgumentError("no number where one should be");
    return value;
  }

  absl::string_view left_;
};

Labels Kept(const Labels& labels, const std::vector<std::string>& keep) {
  Labels kept;
  for (const std::string& name : keep) {
    const auto found = labels.find(name);
    if (found != labels.end()) kept.insert(*found);
  }
  return kept;
}

// The upper bound of a bucket; none: it says no number.
std::optional<double> BoundOf(const Labels& labels) {
  const auto le = labels.find("le");
  double bound = 0;
  if (le == labels.end() || !absl::SimpleAtod(le->second, &bound) || std::isnan(bound)) return std::nullopt;
  return bound;
}

}  // namespace

absl::StatusOr<Metrics> ParseMetrics(absl::string_view text) {
  Metrics metrics;
  int number = 0;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    ++number;
    line = absl::StripAsciiWhitespace(line);
    if (line.empty() || line.front() == '#') continue;
    if (const absl::Status status = SampleLine(line).ReadInto(metrics); !status.ok()) {
      return absl::InvalidArgumentError(absl::StrCat("line ", number, " is no metric: ", status.message()));
    }
  }
  return metrics;
}

std::optional<double> Quantile(double q, const Buckets& buckets) {
  if (buckets.size() < 2 || !std::isinf(buckets.rbegin()->first)) return std::nullopt;
  double total = 0;
  for (const auto& [bound, count] : buckets) total = std::max(total, count);
  if (!(total > 0)) return std::nullopt;
  const double rank = q * total;
  double lower = 0;
  double below = 0;
  for (const auto& [bound, count] : buckets) {
    const double up_to = std::max(below, count);  // what does not grow is taken for rounding, as there
    if (std::isinf(bound) && bound > 0) return lower;
    if (up_to >= rank && up_to > below) {
      if (bound <= 0) return bound;
      return lower + (bound - lower) * (rank - below) / (up_to - below);
    }
    lower = bound;
    below = up_to;
  }
  return lower;
}

Change::Change(const Scrape* before, const Scrape& now)
    : before_(before != nullptr && before->status.ok() && now.status.ok() && now.at > before->at ? before : nullptr),
      now_(now) {
  if (before_ == nullptr) return;
  seconds_ = absl::ToDoubleSeconds(now.at - before->at);
  restarted_ = ValueOf(before->metrics, kStarted, {}) != ValueOf(now.metrics, kStarted, {});
}

double Change::Before(const std::string& name, const Labels& labels) const {
  return restarted_ ? 0 : ValueOf(before_->metrics, name, labels).value_or(0);
}

Series Change::Rates(const std::string& counter, const std::vector<std::string>& keep) const {
  Series rates;
  const auto series = now_.metrics.find(counter);
  if (before_ == nullptr || series == now_.metrics.end()) return rates;
  for (const auto& [labels, value] : series->second) {
    const double before = Before(counter, labels);
    const double change = value < before ? value : value - before;
    if (std::isfinite(change)) rates[Kept(labels, keep)] += change / seconds_;
  }
  return rates;
}

Histograms Change::Observed(const std::string& histogram, const std::vector<std::string>& keep) const {
  Histograms sums;
  const std::string name = histogram + "_bucket";
  const auto series = now_.metrics.find(name);
  if (before_ == nullptr || series == now_.metrics.end()) return sums;
  struct Both {
    Buckets now, before;
    bool began_anew = false;  // all buckets of a histogram do, or none
  };
  absl::flat_hash_map<Labels, Both> all;
  for (const auto& [labels, value] : series->second) {
    const std::optional<double> bound = BoundOf(labels);
    if (!bound || !std::isfinite(value)) continue;
    Labels whose = labels;
    whose.erase("le");
    Both& both = all[whose];
    both.now[*bound] = value;
    both.before[*bound] = Before(name, labels);
    both.began_anew |= value < both.before[*bound];
  }
  for (const auto& [labels, both] : all) {
    Buckets& sum = sums[Kept(labels, keep)];
    for (const auto& [bound, value] : both.now) sum[bound] += value - (both.began_anew ? 0 : both.before.at(bound));
  }
  return sums;
}

std::optional<double> ValueOf(const Metrics& metrics, const std::string& name, const Labels& labels) {
  const auto series = metrics.find(name);
  if (series == metrics.end()) return std::nullopt;
  const auto found = series->second.find(labels);
  if (found == series->second.end()) return std::nullopt;
  return found->second;
}

}  // namespace weir::cli
