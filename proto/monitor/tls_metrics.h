// When a process's certificates expire, for Prometheus.
#ifndef WEIR_PROTO_MONITOR_TLS_METRICS_H_
#define WEIR_PROTO_MONITOR_TLS_METRICS_H_

#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "prometheus/collectable.h"
#include "prometheus/metric_family.h"
#include "proto/base/tls_files.h"
#include "proto/wire/certificates.h"

namespace weir::monitor {

// Thread-safety: safe. Reads the process's own files and nbdkit's at each scrape, those for etcd once, as its client does.
class TlsMetrics : public prometheus::Collectable {
 public:
  // Not given: there is nothing to tell. `etcd`: what a catalog's client shows and trusts; `cert` may be empty. `nbd`: what the
  // nbdkit that serves NBD over TLS for this process shows and trusts; each may be empty, and its key is not looked at.
  explicit TlsMetrics(TlsFiles files, const TlsFiles& etcd = {}, TlsFiles nbd = {});
  std::vector<prometheus::MetricFamily> Collect() const override;

 private:
  const TlsFiles files_;
  const TlsFiles nbd_;
  std::vector<prometheus::ClientMetric> etcd_;
  mutable absl::Mutex mutex_;
  // Of the last files that were good: gRPC goes on with those, too, while the present ones are not.
  mutable std::optional<wire::CertificateEnds> ends_ ABSL_GUARDED_BY(mutex_);
  // By file: as it was when it could last be read.
  mutable std::map<std::string, absl::Time> nbd_ends_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace weir::monitor

#endif  // WEIR_PROTO_MONITOR_TLS_METRICS_H_
