// Every metric of a replica, in one place.
//
// Thread-safety: safe. What costs a look at the store (space, positions) is
// collected when Prometheus asks, by StoreCollector.
#ifndef WEIR_REPLICA_SERVER_METRICS_H_
#define WEIR_REPLICA_SERVER_METRICS_H_

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "prometheus/collectable.h"
#include "prometheus/counter.h"
#include "prometheus/family.h"
#include "prometheus/gauge.h"
#include "prometheus/histogram.h"
#include "prometheus/registry.h"
#include "replica/store/store.h"
#include "weir/v1/replica.pb.h"

namespace weir::replica {

class Metrics {
 public:
  explicit Metrics(uint32_t domains);

  // One answered io. `error` is its errno.
  void Answered(v1::IoKind kind, uint64_t bytes, int error, absl::Duration took);
  void Synced(uint32_t domain, absl::Duration took);
  void Injected(v1::FaultOp op);

  const std::shared_ptr<prometheus::Registry> registry;

  prometheus::Gauge& streams;
  prometheus::Counter& streams_ended_malformed;
  prometheus::Gauge& store_failed;
  prometheus::Gauge& space_exhausted;
  prometheus::Gauge& registered;
  prometheus::Counter& copied_in_bytes;
  prometheus::Counter& scrubbed_bytes;
  prometheus::Counter& scrub_damaged_blocks;

 private:
  struct PerKind {
    prometheus::Counter* requests = nullptr;
    prometheus::Counter* bytes = nullptr;
    prometheus::Histogram* seconds = nullptr;
  };

  std::array<PerKind, v1::IoKind_ARRAYSIZE> kinds_;
  std::array<prometheus::Counter*, v1::FaultOp_ARRAYSIZE> injected_{};
  std::vector<prometheus::Histogram*> sync_seconds_;  // by domain
  prometheus::Family<prometheus::Counter>& errors_;   // by errno: bounded, see Answered
};

class DiskProbes;

// Space and disks of the directories, space and positions of the volumes.
class StoreCollector : public prometheus::Collectable {
 public:
  // `store` and `disks`, of the same directories, must outlive it.
  StoreCollector(const store::Store* store, std::vector<std::string> data_dirs, const DiskProbes* disks)
      : store_(store), data_dirs_(std::move(data_dirs)), disks_(disks) {}
  std::vector<prometheus::MetricFamily> Collect() const override;

 private:
  const store::Store* const store_;
  const std::vector<std::string> data_dirs_;
  const DiskProbes* const disks_;
};

struct DirectorySpace {
  uint64_t capacity_bytes = 0;
  uint64_t available_bytes = 0;
};
// Of its file system; zeros if it cannot be asked.
DirectorySpace SpaceOf(const std::string& directory);

}  // namespace weir::replica

#endif  // WEIR_REPLICA_SERVER_METRICS_H_
