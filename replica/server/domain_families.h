// What the store's flush domains tell, as Prometheus wants it.
#ifndef WEIR_REPLICA_SERVER_DOMAIN_FAMILIES_H_
#define WEIR_REPLICA_SERVER_DOMAIN_FAMILIES_H_

#include <vector>

#include "absl/types/span.h"
#include "prometheus/metric_family.h"
#include "replica/store/domain_stats.h"

namespace weir::replica {

// `domains`: by domain; its index is the label `domain`.
std::vector<prometheus::MetricFamily> DomainFamilies(absl::Span<const store::DomainStats> domains);

}  // namespace weir::replica

#endif  // WEIR_REPLICA_SERVER_DOMAIN_FAMILIES_H_
