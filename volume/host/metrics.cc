#include "volume/host/metrics.h"

#include <string.h>

#include <algorithm>
#include <map>
#include <memory>

#include "absl/strings/string_view.h"
#include "proto/metrics/families.h"
#include "volume/host/clock.h"
#include "volume/host/engine_families.h"

namespace weir::host {
namespace {

using prometheus::BuildCounter;
using prometheus::BuildGauge;
using prometheus::BuildHistogram;

// 50 us to 6.5 s in steps of 2: a hot write is near 200 us, a flush near 1 ms,
// a hanging replica is dropped after 10 s.
const prometheus::Histogram::BucketBoundaries& IoBuckets() {
  static const auto* const buckets = [] {
    auto* made = new prometheus::Histogram::BucketBoundaries;
    for (double bound = 50e-6; bound < 10; bound *= 2) made->push_back(bound);
    return made;
  }();
  return *buckets;
}

// 10 ms to 40 s in steps of 4.
const prometheus::Histogram::BucketBoundaries& AttachBuckets() {
  static const auto* const buckets = new prometheus::Histogram::BucketBoundaries{
      0.01, 0.04, 0.16, 0.64, 2.56, 10.24, 40.96};
  return *buckets;
}

// A member in one word. Whoever is to leave is still what it was.
const char* TargetStateName(const engine::TargetView& target) {
  using Health = engine::TargetView::Health;
  if (target.joining) return "joining";
  if (target.config.state == engine::TargetState::kOut || target.health == Health::kOut) return "out";
  if (target.health == Health::kFailed) return "failed";
  return target.health == Health::kConnected ? "in_sync" : "away";
}

constexpr const char* kTargetStates[] = {"in_sync", "away", "failed", "joining", "out"};

constexpr const char* kStates[] = {"active",    "suspending", "suspended",
                                   "restoring", "committing", "fenced"};

// By CloneStage.
constexpr const char* kCloneStageNames[kCloneStages] = {"send", "store", "wire"};

const std::vector<double>& StageBounds() {
  static const auto* const bounds = [] {
    auto* made = new std::vector<double>;
    for (size_t i = 0; i < TargetTimes::kBounds; ++i) {
      made->push_back(absl::ToDoubleSeconds(TargetTimes::Bound(i)));
    }
    return made;
  }();
  return *bounds;
}

// Since when a member has all that was completed is not asked: nothing is completed without it.
absl::Duration Lag(const engine::TargetView& target, engine::Time now) {
  const bool behind = target.joining || target.health == engine::TargetView::Health::kOut;
  return behind ? std::max(now - target.left, absl::ZeroDuration()) : absl::ZeroDuration();
}

// A replica may answer any number; only those with a name get a label of their own.
const char* ErrnoName(int error) {
  const char* name = strerrorname_np(error);
  return name != nullptr ? name : "other";
}

}  // namespace

const char* KindName(engine::RequestKind kind) {
  static constexpr const char* kNames[kRequestKinds] = {
      "read", "write", "write_zeroes", "discard", "flush", "barrier", "extents"};
  return kNames[static_cast<size_t>(kind)];
}

#define WEIR_FAMILY(builder, name, help) \
  builder().Name(name).Help(help).Register(registry_)

Metrics::Metrics(absl::Duration kept_for)
    : engines_(std::make_unique<EngineFamilies>()),
      kept_for_(kept_for),
      requests_(WEIR_FAMILY(BuildCounter, "weir_volume_requests_total",
                            "Requests completed, by volume and kind.")),
      request_bytes_(WEIR_FAMILY(BuildCounter, "weir_volume_request_bytes_total",
                                 "Bytes of the completed requests.")),
      request_errors_(WEIR_FAMILY(BuildCounter,
                                  "weir_volume_request_errors_total",
                                  "Requests completed with an error, by errno.")),
      request_seconds_(WEIR_FAMILY(
          BuildHistogram, "weir_volume_request_duration_seconds",
          "From a request's submission to its completion.")),
      clone_seconds_(WEIR_FAMILY(
          BuildHistogram, "weir_volume_clone_duration_seconds",
          "From handing a clone to a replica's stream to its answer: wire and "
          "replica.")),
      target_errors_(WEIR_FAMILY(
          BuildCounter, "weir_volume_target_errors_total",
          "Clones a replica answered with an error, those hidden from the "
          "client by precedence included, by errno.")),
      requeues_(WEIR_FAMILY(BuildCounter, "weir_volume_requeues_total",
                            "Clones a replica asked to be sent again.")),
      checksum_errors_(WEIR_FAMILY(
          BuildCounter, "weir_volume_checksum_errors_total",
          "Reads whose data did not match the replica's checksums.")),
      sessions_(WEIR_FAMILY(BuildCounter, "weir_volume_sessions_total",
                            "Sessions to a replica that came to stand.")),
      sessions_lost_(WEIR_FAMILY(
          BuildCounter, "weir_volume_sessions_lost_total",
          "Sessions to a replica, or attempts at one, that ended unasked.")),
      attach_seconds_(WEIR_FAMILY(BuildHistogram,
                                  "weir_volume_attach_duration_seconds",
                                  "Attaching a volume, as a whole.")),
      takeover_seconds_(WEIR_FAMILY(
          BuildHistogram, "weir_volume_takeover_duration_seconds",
          "The part of attaching that seals and levels the replicas.")),
      attaches_(WEIR_FAMILY(BuildCounter, "weir_volume_attaches_total",
                            "Attempts to attach, by outcome.")),
      leftovers_(WEIR_FAMILY(BuildCounter, "weir_volume_leftovers_deleted_total",
                             "Members that were replaced and whose data was then deleted.")),
      catalog_up_(WEIR_FAMILY(BuildGauge, "weir_volume_catalog_up",
                              "1: the catalog has answered this frontend. It is asked at each scrape, for the next one.")),
      epoch_(WEIR_FAMILY(BuildGauge, "weir_volume_epoch",
                         "Epoch under which this frontend serves the volume.")),
      state_(WEIR_FAMILY(BuildGauge, "weir_volume_state",
                         "1 for the state the volume is in, 0 for others.")),
      queued_(WEIR_FAMILY(BuildGauge, "weir_volume_queued_requests",
                          "Requests that wait in the queue.")),
      inflight_(WEIR_FAMILY(BuildGauge, "weir_volume_inflight_requests",
                            "Requests that were dispatched and not completed.")),
      replay_bytes_(WEIR_FAMILY(
          BuildGauge, "weir_volume_replay_bytes",
          "Written data kept to refill a replica that comes back.")),
      flush_supported_(WEIR_FAMILY(BuildGauge, "weir_volume_flush_supported",
                                   "0: a replica cannot flush, FLUSH fails.")),
      target_up_(WEIR_FAMILY(BuildGauge, "weir_volume_target_up",
                             "1: the session to this replica stands.")),
      target_failed_(WEIR_FAMILY(
          BuildGauge, "weir_volume_target_failed",
          "1: this replica has failed, and too few others are good for it to leave.")),
      held_(WEIR_FAMILY(BuildGauge, "weir_volume_held",
                        "1: fewer replicas than min_in_sync are in sync, requests wait.")),
      target_in_sync_(WEIR_FAMILY(BuildGauge, "weir_volume_target_in_sync",
                                  "1: this replica has all that was acknowledged.")),
      target_state_(WEIR_FAMILY(
          BuildGauge, "weir_volume_target_state",
          "1 for the state this replica is in, 0 for others: in_sync; away, in sync and without a session; failed, in sync "
          "and may not leave; joining, being brought back; out.")),
      target_slow_(WEIR_FAMILY(BuildGauge, "weir_volume_target_slow",
                               "1: this replica was much slower than all others of late.")),
      target_lag_(WEIR_FAMILY(
          BuildGauge, "weir_volume_target_lag_seconds",
          "How long ago this replica last had all that was answered, as far as is known; 0: it has.")),
      target_answer_p99_(WEIR_FAMILY(
          BuildGauge, "weir_volume_target_answer_p99_seconds",
          "In which it answered 99 of 100 writes and flushes of late, within a factor of 2.")),
      join_left_(WEIR_FAMILY(
          BuildGauge, "weir_volume_join_left_bytes",
          "Still to be copied to this replica that is brought back, as far as is known.")),
      join_copied_(WEIR_FAMILY(BuildGauge, "weir_volume_join_copied_bytes",
                               "Copied to this replica by the join under way.")),
      join_seconds_left_(WEIR_FAMILY(
          BuildGauge, "weir_volume_join_left_seconds",
          "How long that will take at the speed of late; 0: not known, or nothing is copied.")),
      join_speed_(WEIR_FAMILY(BuildGauge, "weir_volume_join_bytes_per_second",
                              "The speed of late at which that is copied; 0: not known, or nothing is copied.")),
      repaired_blocks_(WEIR_FAMILY(
          BuildGauge, "weir_volume_target_repaired_blocks",
          "Blocks that this replica had damaged and that were written anew, since the attach.")),
      damaged_blocks_(WEIR_FAMILY(
          BuildGauge, "weir_volume_target_damaged_blocks",
          "Blocks that were found damaged on this replica and that are not repaired yet.")),
      target_inflight_(WEIR_FAMILY(BuildGauge,
                                   "weir_volume_target_inflight_clones",
                                   "Clones this replica has not answered.")),
      scrub_running_(WEIR_FAMILY(BuildGauge, "weir_volume_scrub_running",
                                 "1: the replicas are being compared.")),
      scrub_done_(WEIR_FAMILY(BuildGauge, "weir_volume_scrub_done_ratio",
                              "Share of the volume that this scrub, or the last one, has compared.")),
      scrubs_finished_(WEIR_FAMILY(BuildGauge, "weir_volume_scrubs_finished",
                                   "Scrubs that came to their end, since the attach.")),
      scrub_read_(WEIR_FAMILY(BuildGauge, "weir_volume_scrub_read_bytes",
                              "Read by scrubs on all replicas together, since the attach.")),
      scrub_bad_(WEIR_FAMILY(
          BuildGauge, "weir_volume_scrub_bad_blocks",
          "Blocks that scrubs found damaged, or to differ, on some replica, since the attach.")),
      scrub_left_(WEIR_FAMILY(BuildGauge, "weir_volume_scrub_left_blocks",
                              "Of those of this scrub, or the last one: could not be repaired.")) {}

#undef WEIR_FAMILY

Metrics::~Metrics() = default;

Metrics::OfVolume& Metrics::Of(const std::string& volume) {
  OfVolume& of = volumes_[volume];
  of.used = MonotonicNow();
  return of;
}

// Volumes come and go; without this a frontend would tell of all that it ever had.
void Metrics::ForgetVolumes() const {
  const engine::Time now = MonotonicNow();
  absl::MutexLock lock(&volumes_mutex_);
  for (auto at = volumes_.begin(); at != volumes_.end();) {
    OfVolume& of = at->second;
    if (of.held.use_count() > 1) of.used = now;
    if (of.held.use_count() > 1 || now - of.used < kept_for_) {
      ++at;
      continue;
    }
    for (const auto& [series, remove] : of.remove) remove();
    at = volumes_.erase(at);
  }
}

Metrics::Target Metrics::ForTarget(const std::string& volume,
                                   const std::string& replica) {
  const std::map<std::string, std::string> labels = {{"volume", volume},
                                                     {"replica", replica}};
  absl::MutexLock lock(&volumes_mutex_);
  OfVolume& of = Of(volume);
  Target target;
  target.held = of.held;
  for (size_t i = 0; i < kRequestKinds; ++i) {
    auto with_kind = labels;
    with_kind["kind"] = KindName(static_cast<engine::RequestKind>(i));
    target.clone_seconds[i] = &Add(of, clone_seconds_, with_kind, IoBuckets());
  }
  target.requeues = &Add(of, requeues_, labels);
  target.sessions = &Add(of, sessions_, labels);
  target.sessions_lost = &Add(of, sessions_lost_, labels);
  target.checksum_errors = &Add(of, checksum_errors_, labels);
  std::unique_ptr<TargetTimes>& times = of.times[replica];
  if (times == nullptr) times = std::make_unique<TargetTimes>();
  target.times = times.get();
  return target;
}

void Metrics::AddTargetTimes(std::vector<prometheus::MetricFamily>* families) const {
  absl::MutexLock lock(&volumes_mutex_);
  const engine::Time now = MonotonicNow();
  prometheus::MetricFamily seconds = metrics::MakeFamily(
      prometheus::MetricType::Histogram, "weir_volume_target_rpc_duration_seconds",
      "Where the time of clones goes, by stage: send, until gRPC has the frame; store, as the replica says it; "
      "wire, the rest.");
  prometheus::MetricFamily busy = metrics::MakeFamily(
      prometheus::MetricType::Counter, "weir_volume_target_busy_seconds_total",
      "Time during which this replica had at least one clone to answer.");
  for (const auto& [volume, of] : volumes_) {
    for (const auto& [replica, times] : of.times) {
      const TargetTimes::Counts counts = times->Read(now);
      metrics::AddCounter(busy, {{"volume", volume}, {"replica", replica}}, absl::ToDoubleSeconds(counts.busy));
      for (size_t i = 0; i < kCloneStages; ++i) {
        metrics::AddHistogram(seconds, {{"volume", volume}, {"replica", replica}, {"stage", kCloneStageNames[i]}},
                              StageBounds(), counts.stages[i].buckets, absl::ToDoubleSeconds(counts.stages[i].sum));
      }
    }
  }
  if (busy.metric.empty()) return;
  families->push_back(std::move(seconds));
  families->push_back(std::move(busy));
}

Metrics::Volume Metrics::ForVolume(const std::string& volume) {
  absl::MutexLock lock(&volumes_mutex_);
  OfVolume& of = Of(volume);
  Volume metrics;
  metrics.held = of.held;
  Add(of, leftovers_, {{"volume", volume}});
  for (size_t i = 0; i < kRequestKinds; ++i) {
    const std::map<std::string, std::string> labels = {
        {"volume", volume},
        {"kind", KindName(static_cast<engine::RequestKind>(i))}};
    metrics.requests[i] = &Add(of, requests_, labels);
    metrics.bytes[i] = &Add(of, request_bytes_, labels);
    metrics.seconds[i] = &Add(of, request_seconds_, labels, IoBuckets());
  }
  return metrics;
}

void Metrics::CountTargetError(const std::string& volume,
                               const std::string& replica, int error) {
  absl::MutexLock lock(&volumes_mutex_);
  Add(Of(volume), target_errors_, {{"volume", volume}, {"replica", replica}, {"errno", ErrnoName(error)}}).Increment();
}

void Metrics::CountRequestError(const std::string& volume,
                                engine::RequestKind kind, int error) {
  absl::MutexLock lock(&volumes_mutex_);
  Add(Of(volume), request_errors_, {{"volume", volume}, {"kind", KindName(kind)}, {"errno", ErrnoName(error)}})
      .Increment();
}

void Metrics::ObserveAttach(const std::string& volume, bool ok,
                            absl::Duration whole, absl::Duration takeover) {
  absl::MutexLock lock(&volumes_mutex_);
  OfVolume& of = Of(volume);
  Add(of, attaches_, {{"volume", volume}, {"outcome", ok ? "ok" : "failed"}}).Increment();
  Add(of, attach_seconds_, {{"volume", volume}}, AttachBuckets()).Observe(absl::ToDoubleSeconds(whole));
  Add(of, takeover_seconds_, {{"volume", volume}}, AttachBuckets()).Observe(absl::ToDoubleSeconds(takeover));
}

void Metrics::CountLeftover(const std::string& volume) {
  absl::MutexLock lock(&volumes_mutex_);
  Add(Of(volume), leftovers_, {{"volume", volume}}).Increment();
}

void Metrics::Tell(Family<prometheus::Gauge>* family, const prometheus::Labels& labels, double value) {
  prometheus::Gauge& gauge = family->Add(labels);
  gauge.Set(value);
  telling_.insert({family, &gauge});
}

void Metrics::SetState(const std::string& volume, uint32_t epoch, const engine::EngineView& view,
                       const std::optional<engine::Stats>& stats, engine::Time now) {
  const std::map<std::string, std::string> labels = {{"volume", volume}};
  if (stats) engines_->Add(volume, view, *stats, now);
  Tell(&epoch_, labels, epoch);
  for (size_t i = 0; i < std::size(kStates); ++i) {
    Tell(&state_, {{"volume", volume}, {"state", kStates[i]}},
         static_cast<size_t>(view.state) == i ? 1 : 0);
  }
  Tell(&queued_, labels, static_cast<double>(view.queued_requests));
  Tell(&inflight_, labels, static_cast<double>(view.inflight_requests));
  Tell(&replay_bytes_, labels, static_cast<double>(view.replay_bytes));
  Tell(&flush_supported_, labels, view.flush_supported ? 1 : 0);
  Tell(&held_, labels, view.held ? 1 : 0);
  SetScrub(volume, view.scrub);
  for (const engine::TargetView& target : view.targets) {
    // One that has left for good: the name may have come back at another slot.
    if (!target.config.gone) SetTarget(volume, target, now);
  }
}

void Metrics::SetTarget(const std::string& volume, const engine::TargetView& target, engine::Time now) {
  using Health = engine::TargetView::Health;
  const std::map<std::string, std::string> labels = {{"volume", volume}, {"replica", target.config.replica}};
  const absl::string_view state = TargetStateName(target);
  for (const char* each : kTargetStates) {
    Tell(&target_state_, {{"volume", volume}, {"replica", target.config.replica}, {"state", each}}, each == state ? 1 : 0);
  }
  Tell(&target_up_, labels, target.health == Health::kConnected ? 1 : 0);
  Tell(&target_failed_, labels, target.health == Health::kFailed ? 1 : 0);
  Tell(&target_in_sync_, labels, target.config.state == engine::TargetState::kInSync ? 1 : 0);
  Tell(&target_slow_, labels, target.slow ? 1 : 0);
  Tell(&target_lag_, labels, absl::ToDoubleSeconds(Lag(target, now)));
  Tell(&target_answer_p99_, labels, absl::ToDoubleSeconds(target.answer_p99));
  const double left = static_cast<double>(target.join_blocks_left * kBlockBytes);
  const double seconds =
      target.join_time_left < absl::InfiniteDuration() ? absl::ToDoubleSeconds(target.join_time_left) : 0;
  Tell(&join_left_, labels, left);
  Tell(&join_copied_, labels, static_cast<double>(target.join_bytes_copied));
  Tell(&join_seconds_left_, labels, seconds);
  Tell(&join_speed_, labels, seconds > 0 ? left / seconds : 0);
  Tell(&repaired_blocks_, labels, static_cast<double>(target.repaired_blocks));
  Tell(&damaged_blocks_, labels, static_cast<double>(target.damaged_blocks));
  Tell(&target_inflight_, labels, static_cast<double>(target.inflight_clones));
}

void Metrics::SetScrub(const std::string& volume, const engine::ScrubView& scrub) {
  const std::map<std::string, std::string> labels = {{"volume", volume}};
  Tell(&scrub_running_, labels, scrub.running ? 1 : 0);
  const double total = static_cast<double>(scrub.blocks_total);
  Tell(&scrub_done_, labels, total == 0 ? 0 : static_cast<double>(scrub.blocks_done) / total);
  Tell(&scrubs_finished_, labels, static_cast<double>(scrub.finished));
  Tell(&scrub_read_, labels, static_cast<double>(scrub.bytes_read_in_all));
  Tell(&scrub_bad_, labels, static_cast<double>(scrub.bad_blocks_in_all));
  Tell(&scrub_left_, labels, static_cast<double>(scrub.left_blocks));
}

std::vector<prometheus::MetricFamily> Metrics::Collect() const {
  absl::MutexLock lock(&scrape_mutex_);
  telling_.clear();
  if (refresh_) refresh_();
  // A volume that went elsewhere while it was held must not stay held here for ever.
  for (const auto& series : told_) {
    if (telling_.count(series) == 0) series.first->Remove(series.second);
  }
  told_ = telling_;
  ForgetVolumes();
  std::vector<prometheus::MetricFamily> families = registry_.Collect();
  for (prometheus::MetricFamily& family : engines_->Take()) families.push_back(std::move(family));
  AddTargetTimes(&families);
  return families;
}

}  // namespace weir::host
