#include "replica/server/metrics.h"

#include <string.h>
#include <sys/statvfs.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/metrics/families.h"
#include "replica/server/disk_probes.h"
#include "replica/server/domain_families.h"

namespace weir::replica {
namespace {

using prometheus::BuildCounter;
using prometheus::BuildGauge;
using prometheus::BuildHistogram;
using prometheus::MetricFamily;
using metrics::Labels;

// 20 us to 10 s: a memory-speed write at one end, a dying disk at the other.
prometheus::Histogram::BucketBoundaries LatencyBuckets() {
  return {20e-6, 50e-6, 100e-6, 200e-6, 500e-6, 1e-3, 2e-3, 5e-3, 10e-3,
          20e-3, 50e-3, 100e-3, 200e-3, 500e-3, 1,    2,    5,    10};
}

std::string NameOf(v1::IoKind kind) {
  switch (kind) {
    case v1::IO_KIND_READ:
      return "read";
    case v1::IO_KIND_WRITE:
      return "write";
    case v1::IO_KIND_WRITE_ZEROES:
      return "write_zeroes";
    case v1::IO_KIND_DISCARD:
      return "discard";
    case v1::IO_KIND_FLUSH:
      return "flush";
    case v1::IO_KIND_EXTENTS:
      return "extents";
    default:
      return "unknown";
  }
}

std::string NameOf(v1::FaultOp op) {
  switch (op) {
    case v1::FAULT_OP_READ:
      return "read";
    case v1::FAULT_OP_WRITE:
      return "write";
    case v1::FAULT_OP_FLUSH:
      return "flush";
    case v1::FAULT_OP_FILE_WRITE:
      return "file_write";
    case v1::FAULT_OP_FILE_SYNC:
      return "file_sync";
    default:
      return "unknown";
  }
}

MetricFamily GaugeFamily(const char* name, const char* help) {
  return metrics::MakeFamily(prometheus::MetricType::Gauge, name, help);
}

// Families about the directories. Those about their disks are there, and 0, before the disks were looked at.
struct DirectoryFamilies {
  MetricFamily capacity = GaugeFamily("weir_replica_data_dir_capacity_bytes",
                                      "Size of the file system of a data directory.");
  MetricFamily available = GaugeFamily("weir_replica_data_dir_available_bytes",
                                       "Free space of the file system of a data directory.");
  MetricFamily verdict = GaugeFamily(
      "weir_replica_data_dir_verdict",
      "1: what was found out at the start about the disk below a data directory: durable, unknown, suspicious or not_durable.");
  MetricFamily cache = GaugeFamily(
      "weir_replica_data_dir_volatile_cache",
      "1: a device below a data directory claims a volatile cache. 0: none does, or none is to be seen.");
  MetricFamily sync_median = GaugeFamily(
      "weir_replica_data_dir_sync_median_seconds",
      "Median time of a write of 4 KiB and its fdatasync in a data directory, measured at the start. 0: not measured.");
  MetricFamily sync_max = GaugeFamily("weir_replica_data_dir_sync_max_seconds",
                                      "The longest time of a write of 4 KiB and its fdatasync in a data directory, measured at the start.");

  void Add(const std::string& directory, const probe::DiskTruth* truth) {
    const Labels labels{{"dir", directory}};
    const DirectorySpace space = SpaceOf(directory);
    metrics::AddGauge(capacity, labels, static_cast<double>(space.capacity_bytes));
    metrics::AddGauge(available, labels, static_cast<double>(space.available_bytes));
    for (const probe::Verdict one : {probe::Verdict::kDurable, probe::Verdict::kUnknown, probe::Verdict::kSuspicious,
                                     probe::Verdict::kNotDurable}) {
      metrics::AddGauge(verdict, {{"dir", directory}, {"verdict", probe::VerdictName(one)}},
                        truth != nullptr && truth->verdict == one ? 1 : 0);
    }
    const probe::SyncTimes times = truth != nullptr ? truth->facts.times : probe::SyncTimes();
    metrics::AddGauge(cache, labels, truth != nullptr && truth->volatile_cache.value_or(false) ? 1 : 0);
    metrics::AddGauge(sync_median, labels, absl::ToDoubleSeconds(times.sync_median));
    metrics::AddGauge(sync_max, labels, absl::ToDoubleSeconds(times.sync_max));
  }
};

// Families about the volumes; a position's n alone, since 64 bits do not fit into a double.
struct VolumeFamilies {
  MetricFamily epoch = GaugeFamily("weir_replica_volume_promised_epoch",
                                   "Lowest epoch whose frontend this replica obeys.");
  MetricFamily applied = GaugeFamily(
      "weir_replica_lane_applied_writes", "Writes of its epoch that a lane has applied.");
  MetricFamily durable = GaugeFamily(
      "weir_replica_lane_durable_writes",
      "Writes of its epoch that a lane has synced; 0 while only an earlier epoch is synced.");
  MetricFamily invalid = GaugeFamily(
      "weir_replica_lane_invalid_blocks",
      "Blocks of a lane that a join has still to copy; the lane serves no reads of them.");
  MetricFamily live = GaugeFamily(
      "weir_replica_volume_live_bytes",
      "Data of the newest versions of a volume's blocks; above 2 GiB as it was counted some scrapes ago, or an estimate.");
  MetricFamily pinned = GaugeFamily("weir_replica_volume_pinned_bytes",
                                    "Data of older versions that pins keep; with those of snapshots, at most.");
  MetricFamily reclaimable =
      GaugeFamily("weir_replica_volume_reclaimable_bytes",
                  "Data of older versions that compaction will drop; approximate.");

  void Add(const store::Store& store, const store::VolumeState& volume) {
    const std::string id = absl::StrCat(static_cast<uint64_t>(volume.id));
    metrics::AddGauge(epoch, {{"volume", id}}, volume.promised_epoch);
    for (const store::LaneState& lane : volume.lanes) {
      const Labels labels{{"volume", id}, {"lane", absl::StrCat(Index(lane.lane))}};
      const bool same = lane.durable_position.epoch() == lane.position.epoch();
      metrics::AddGauge(applied, labels, static_cast<double>(lane.position.n()));
      metrics::AddGauge(durable, labels, same ? static_cast<double>(lane.durable_position.n()) : 0);
      metrics::AddGauge(invalid, labels, static_cast<double>(lane.invalid_blocks));
    }
    if (const auto space = store.GetSpaceUsed(volume.id); space.ok()) {
      metrics::AddGauge(live, {{"volume", id}}, static_cast<double>(space->live_bytes));
      metrics::AddGauge(pinned, {{"volume", id}}, static_cast<double>(space->pinned_bytes));
      metrics::AddGauge(reclaimable, {{"volume", id}}, static_cast<double>(space->reclaimable_bytes));
    }
  }
};

}  // namespace

Metrics::Metrics(uint32_t domains)
    : registry(std::make_shared<prometheus::Registry>()),
      streams(BuildGauge()
                  .Name("weir_replica_streams")
                  .Help("I/O streams that are open, one a volume and frontend.")
                  .Register(*registry)
                  .Add({})),
      streams_ended_malformed(
          BuildCounter()
              .Name("weir_replica_malformed_streams_total")
              .Help("I/O streams ended since their frontend sent a malformed frame.")
              .Register(*registry)
              .Add({})),
      store_failed(BuildGauge()
                       .Name("weir_replica_store_failed")
                       .Help("1 once a sync or the database failed; the store serves no more.")
                       .Register(*registry)
                       .Add({})),
      space_exhausted(BuildGauge()
                          .Name("weir_replica_space_exhausted")
                          .Help("1 while frontends are told to refuse new writes with ENOSPC.")
                          .Register(*registry)
                          .Add({})),
      registered(BuildGauge()
                     .Name("weir_replica_registered")
                     .Help("1: a frontend has taken its registration. 0: none has, or it does not "
                           "register itself.")
                     .Register(*registry)
                     .Add({})),
      copied_in_bytes(BuildCounter()
                          .Name("weir_replica_copied_in_bytes_total")
                          .Help("Data of versions copied in from other replicas by joins.")
                          .Register(*registry)
                          .Add({})),
      scrubbed_bytes(BuildCounter()
                         .Name("weir_replica_scrubbed_bytes_total")
                         .Help("Data read and checked for scrubs.")
                         .Register(*registry)
                         .Add({})),
      scrub_damaged_blocks(BuildCounter()
                               .Name("weir_replica_scrub_damaged_blocks_total")
                               .Help("Blocks that scrubs found not to match their checksums.")
                               .Register(*registry)
                               .Add({})),
      errors_(BuildCounter()
                  .Name("weir_replica_errors_total")
                  .Help("Requests answered with an error, by errno; injected ones too.")
                  .Register(*registry)) {
  auto& requests = BuildCounter()
                       .Name("weir_replica_requests_total")
                       .Help("Requests (clones) answered on I/O streams, errors too.")
                       .Register(*registry);
  auto& bytes = BuildCounter()
                    .Name("weir_replica_bytes_total")
                    .Help("Bytes of the blocks that successful requests covered.")
                    .Register(*registry);
  auto& seconds = BuildHistogram()
                      .Name("weir_replica_request_seconds")
                      .Help("From receiving a request to queueing its answer.")
                      .Register(*registry);
  for (int kind = v1::IO_KIND_READ; kind < v1::IoKind_ARRAYSIZE; ++kind) {
    const Labels labels{{"op", NameOf(static_cast<v1::IoKind>(kind))}};
    kinds_[kind] = {&requests.Add(labels), &bytes.Add(labels),
                    &seconds.Add(labels, LatencyBuckets())};
  }
  auto& injected = BuildCounter()
                       .Name("weir_replica_injected_faults_total")
                       .Help("Requests, writes of files and syncs of files that a fault rule struck.")
                       .Register(*registry);
  for (int op = v1::FAULT_OP_READ; op < v1::FaultOp_ARRAYSIZE; ++op) {
    injected_[op] = &injected.Add({{"op", NameOf(static_cast<v1::FaultOp>(op))}});
  }
  auto& syncs = BuildHistogram()
                    .Name("weir_replica_sync_seconds")
                    .Help("Syncs of a flush domain; flushes and FUA writes share them.")
                    .Register(*registry);
  for (uint32_t domain = 0; domain < domains; ++domain) {
    sync_seconds_.push_back(&syncs.Add({{"domain", absl::StrCat(domain)}}, LatencyBuckets()));
  }
}

void Metrics::Answered(v1::IoKind kind, uint64_t bytes, int error, absl::Duration took) {
  PerKind& counters = kinds_[kind];
  counters.requests->Increment();
  counters.seconds->Observe(absl::ToDoubleSeconds(took));
  if (error == 0) {
    counters.bytes->Increment(static_cast<double>(bytes));
    return;
  }
  // An injected errno may be any number; only those with a name get a label.
  const char* name = strerrorname_np(error);
  errors_.Add({{"errno", name != nullptr ? name : "other"}}).Increment();
}

void Metrics::Synced(uint32_t domain, absl::Duration took) {
  sync_seconds_[domain]->Observe(absl::ToDoubleSeconds(took));
}

void Metrics::Injected(v1::FaultOp op) { injected_[op]->Increment(); }

std::vector<MetricFamily> StoreCollector::Collect() const {
  DirectoryFamilies directories;
  for (size_t i = 0; i < data_dirs_.size(); ++i) directories.Add(data_dirs_[i], disks_->Of(i).get());
  std::vector<MetricFamily> families = DomainFamilies(store_->GetDomainStats());
  VolumeFamilies volumes;
  for (VolumeId id : store_->Volumes()) {
    if (const auto volume = store_->GetVolume(id); volume.ok()) volumes.Add(*store_, *volume);
  }
  for (MetricFamily* family :
       {&directories.capacity, &directories.available, &directories.verdict, &directories.cache,
        &directories.sync_median, &directories.sync_max, &volumes.epoch, &volumes.applied, &volumes.durable,
        &volumes.invalid, &volumes.live, &volumes.pinned, &volumes.reclaimable}) {
    families.push_back(std::move(*family));
  }
  return families;
}

DirectorySpace SpaceOf(const std::string& directory) {
  DirectorySpace space;
  struct statvfs stats;
  if (statvfs(directory.c_str(), &stats) != 0) return space;
  space.capacity_bytes = uint64_t{stats.f_blocks} * stats.f_frsize;
  space.available_bytes = uint64_t{stats.f_bavail} * stats.f_frsize;
  return space;
}

}  // namespace weir::replica
