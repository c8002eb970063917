#include "replica/server/domain_families.h"

#include "absl/strings/str_cat.h"
#include "proto/metrics/families.h"

namespace weir::replica {
namespace {

using metrics::AddCounter;
using metrics::AddGauge;
using metrics::AddHistogram;
using metrics::Labels;
using metrics::MakeFamily;
using prometheus::MetricFamily;
using prometheus::MetricType;
using store::DomainStats;

// By store::Step.
constexpr const char* kSteps[store::kSteps] = {"write_batch", "wal_sync", "floor", "read"};

std::vector<double> StepBounds() {
  std::vector<double> bounds;
  for (size_t i = 0; i < store::StepCounts::kBounds; ++i) {
    bounds.push_back(absl::ToDoubleSeconds(store::StepCounts::Bound(i)));
  }
  return bounds;
}

// One number of each domain.
struct Number {
  const char* name;
  const char* help;
  MetricType type;
  double (*of)(const DomainStats& stats);
};

constexpr Number kNumbers[] = {
    {"weir_replica_rocksdb_slowdowns_total", "How often RocksDB began to slow writes down, since compaction lags.",
     MetricType::Counter, [](const DomainStats& s) { return static_cast<double>(s.slowdowns); }},
    {"weir_replica_rocksdb_stops_total", "How often RocksDB stopped writes, since compaction lags.",
     MetricType::Counter, [](const DomainStats& s) { return static_cast<double>(s.stops); }},
    {"weir_replica_rocksdb_write_stopped", "1: RocksDB takes no writes now.", MetricType::Gauge,
     [](const DomainStats& s) { return s.stopped ? 1.0 : 0.0; }},
    {"weir_replica_rocksdb_delayed_write_bytes_per_second",
     "What RocksDB slows writes down to now; 0: it does not.", MetricType::Gauge,
     [](const DomainStats& s) { return static_cast<double>(s.delayed_bytes_per_second); }},
    {"weir_replica_rocksdb_compaction_pending_bytes", "What compactions have still to rewrite, estimated.",
     MetricType::Gauge, [](const DomainStats& s) { return static_cast<double>(s.compaction_pending_bytes); }},
    {"weir_replica_rocksdb_running_compactions", "Compactions that run now.", MetricType::Gauge,
     [](const DomainStats& s) { return static_cast<double>(s.compactions_running); }},
    {"weir_replica_rocksdb_compactions_total", "Compactions that ended.", MetricType::Counter,
     [](const DomainStats& s) { return static_cast<double>(s.compactions); }},
    {"weir_replica_rocksdb_compaction_seconds_total", "Time that they took.", MetricType::Counter,
     [](const DomainStats& s) { return absl::ToDoubleSeconds(s.compaction_time); }},
    {"weir_replica_rocksdb_compaction_written_bytes_total", "Bytes that they wrote, blobs included.",
     MetricType::Counter, [](const DomainStats& s) { return static_cast<double>(s.compaction_written_bytes); }},
    {"weir_replica_rocksdb_memtable_flushes_total", "Memtables written out.", MetricType::Counter,
     [](const DomainStats& s) { return static_cast<double>(s.memtable_flushes); }},
    {"weir_replica_rocksdb_memtable_bytes", "Memory of memtables.", MetricType::Gauge,
     [](const DomainStats& s) { return static_cast<double>(s.memtable_bytes); }},
    {"weir_replica_rocksdb_block_cache_bytes", "Memory of the block cache.", MetricType::Gauge,
     [](const DomainStats& s) { return static_cast<double>(s.block_cache_bytes); }},
    {"weir_replica_rocksdb_wal_bytes", "Size of the write-ahead logs.", MetricType::Gauge,
     [](const DomainStats& s) { return static_cast<double>(s.wal_bytes); }},
    {"weir_replica_rocksdb_table_bytes", "Size of the tables (SST): keys, and versions without data.",
     MetricType::Gauge, [](const DomainStats& s) { return static_cast<double>(s.table_bytes); }},
    {"weir_replica_rocksdb_blob_bytes", "Size of the blob files: the data.", MetricType::Gauge,
     [](const DomainStats& s) { return static_cast<double>(s.blob_bytes); }},
    {"weir_replica_rocksdb_blob_garbage_bytes", "What of the blob files nothing refers to any more.",
     MetricType::Gauge, [](const DomainStats& s) { return static_cast<double>(s.blob_garbage_bytes); }},
};

}  // namespace

std::vector<MetricFamily> DomainFamilies(absl::Span<const DomainStats> domains) {
  static const auto* const bounds = new std::vector<double>(StepBounds());
  std::vector<MetricFamily> families;
  if (domains.empty()) return families;
  MetricFamily& steps = families.emplace_back(
      MakeFamily(MetricType::Histogram, "weir_replica_store_step_seconds",
                 "Steps of the store: a batch into RocksDB, the sync of its WAL, then of the floor file, the read of a stripe."));
  for (size_t domain = 0; domain < domains.size(); ++domain) {
    for (size_t step = 0; step < store::kSteps; ++step) {
      const store::StepCounts& counts = domains[domain].steps[step];
      AddHistogram(steps, {{"domain", absl::StrCat(domain)}, {"step", kSteps[step]}}, *bounds, counts.buckets,
                   absl::ToDoubleSeconds(counts.sum));
    }
  }
  for (const Number& number : kNumbers) {
    MetricFamily& family = families.emplace_back(MakeFamily(number.type, number.name, number.help));
    for (size_t domain = 0; domain < domains.size(); ++domain) {
      const Labels labels{{"domain", absl::StrCat(domain)}};
      const double value = number.of(domains[domain]);
      number.type == MetricType::Counter ? AddCounter(family, labels, value) : AddGauge(family, labels, value);
    }
  }
  return families;
}

}  // namespace weir::replica
