#include "proto/monitor/tls_metrics.h"

#include <utility>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace weir::monitor {
namespace {

prometheus::ClientMetric Gauge(const char* which, absl::Time end) {
  prometheus::ClientMetric metric;
  metric.label.push_back({"which", which});
  metric.gauge.value = static_cast<double>(absl::ToUnixSeconds(end));
  return metric;
}

}  // namespace

std::vector<prometheus::MetricFamily> TlsMetrics::Collect() const {
  if (!files_.given()) return {};
  const absl::StatusOr<wire::CertificateEnds> now = wire::CheckCertificates(files_);
  absl::MutexLock lock(&mutex_);
  if (now.ok()) ends_ = *now;
  if (!ends_.has_value()) return {};
  prometheus::MetricFamily family;
  family.name = "weir_tls_certificate_expiry_timestamp_seconds";
  family.help = "When the process's own certificate, and the authority's that signed its peers', expire.";
  family.type = prometheus::MetricType::Gauge;
  family.metric = {Gauge("own", ends_->certificate), Gauge("authority", ends_->authority)};
  return {std::move(family)};
}

}  // namespace weir::monitor
