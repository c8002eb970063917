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

TlsMetrics::TlsMetrics(TlsFiles files, const TlsFiles& etcd, TlsFiles nbd) : files_(std::move(files)), nbd_(std::move(nbd)) {
  for (const auto& [which, path] : {std::pair("etcd", etcd.cert), std::pair("etcd_authority", etcd.ca)}) {
    if (path.empty()) continue;
    const absl::StatusOr<absl::Time> end = wire::CertificateEnd(path);
    if (end.ok()) etcd_.push_back(Gauge(which, *end));
  }
}

std::vector<prometheus::MetricFamily> TlsMetrics::Collect() const {
  prometheus::MetricFamily family;
  family.name = "weir_tls_certificate_expiry_timestamp_seconds";
  family.help = "When the process's own certificate, the authority's that signed its peers', and the same towards etcd and of NBD over TLS expire.";
  family.type = prometheus::MetricType::Gauge;
  family.metric = etcd_;
  if (files_.given()) {
    const absl::StatusOr<wire::CertificateEnds> now = wire::CheckCertificates(files_);
    absl::MutexLock lock(&mutex_);
    if (now.ok()) ends_ = *now;
    if (ends_.has_value()) {
      family.metric.push_back(Gauge("own", ends_->certificate));
      family.metric.push_back(Gauge("authority", ends_->authority));
    }
  }
  for (const auto& [which, path] : {std::pair("nbd", nbd_.cert), std::pair("nbd_authority", nbd_.ca)}) {
    if (path.empty()) continue;
    const absl::StatusOr<absl::Time> now = wire::CertificateEnd(path);
    absl::MutexLock lock(&mutex_);
    if (now.ok()) nbd_ends_[path] = *now;
    if (const auto end = nbd_ends_.find(path); end != nbd_ends_.end()) family.metric.push_back(Gauge(which, end->second));
  }
  if (family.metric.empty()) return {};
  return {std::move(family)};
}

}  // namespace weir::monitor
