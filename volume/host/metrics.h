// Every metric of a frontend, declared in one place.
//
// Thread-safety: safe; counters are atomics, histograms lock for an instant.
#ifndef WEIR_VOLUME_HOST_METRICS_H_
#define WEIR_VOLUME_HOST_METRICS_H_

#include <array>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "prometheus/collectable.h"
#include "prometheus/counter.h"
#include "prometheus/family.h"
#include "prometheus/gauge.h"
#include "prometheus/histogram.h"
#include "prometheus/registry.h"
#include "volume/engine/stats.h"
#include "volume/engine/types.h"
#include "volume/engine/view.h"
#include "volume/host/target_times.h"

namespace weir::host {

class EngineFamilies;

inline constexpr size_t kRequestKinds = 7;

// "read", "write", ...: the label `kind`.
const char* KindName(engine::RequestKind kind);

class Metrics : public prometheus::Collectable {
 public:
  // What was counted of a volume is told so long after the last one to count has gone: Prometheus sees the end of it.
  static constexpr absl::Duration kKeptFor = absl::Minutes(10);

  explicit Metrics(absl::Duration kept_for = kKeptFor);
  ~Metrics() override;

  // One target's metrics, looked up once a session. Pointers live as long as this, and
  // no longer than the Metrics.
  struct Target {
    std::shared_ptr<const void> held;
    std::array<prometheus::Histogram*, kRequestKinds> clone_seconds{};
    prometheus::Counter* requeues = nullptr;
    prometheus::Counter* sessions = nullptr;
    prometheus::Counter* sessions_lost = nullptr;
    prometheus::Counter* checksum_errors = nullptr;
    TargetTimes* times = nullptr;
  };
  // One volume's metrics, looked up once an attach. Pointers as Target's.
  struct Volume {
    std::shared_ptr<const void> held;
    std::array<prometheus::Counter*, kRequestKinds> requests{};
    std::array<prometheus::Counter*, kRequestKinds> bytes{};
    std::array<prometheus::Histogram*, kRequestKinds> seconds{};
  };
  Target ForTarget(const std::string& volume, const std::string& replica);
  Volume ForVolume(const std::string& volume);

  // Errors are rare, so these look their series up.
  void CountTargetError(const std::string& volume, const std::string& replica,
                        int error);
  void CountRequestError(const std::string& volume, engine::RequestKind kind,
                         int error);
  void ObserveAttach(const std::string& volume, bool ok, absl::Duration whole,
                     absl::Duration takeover);

  // What a member that was replaced had was deleted.
  void CountLeftover(const std::string& volume);

  // The state of one attached volume, as of `now`; `stats`: unless its engine has ended. Only within
  // what set_refresh gave.
  void SetState(const std::string& volume, uint32_t epoch, const engine::EngineView& view,
                const std::optional<engine::Stats>& stats, engine::Time now);

  // Whether it has answered, as far as is known.
  void SetCatalog(bool up) { catalog_up_.Add({}).Set(up ? 1 : 0); }

  // Called at each scrape, one at a time, to call SetCatalog, and SetState for every attached volume. The state of
  // volumes, and of replicas of theirs, that it does not tell of is told no more.
  void set_refresh(std::function<void()> refresh) {
    refresh_ = std::move(refresh);
  }
  std::vector<prometheus::MetricFamily> Collect() const override;

 private:
  template <typename T>
  using Family = prometheus::Family<T>;

  void SetTarget(const std::string& volume, const engine::TargetView& target, engine::Time now);
  void SetScrub(const std::string& volume, const engine::ScrubView& scrub);
  // All that the families have of one volume.
  struct OfVolume {
    std::shared_ptr<const void> held = std::make_shared<char>();  // by those who count, too
    engine::Time used;                                            // when one of them was last seen
    std::map<const void*, std::function<void()>> remove;          // by series
    std::map<std::string, std::unique_ptr<TargetTimes>> times;    // by replica
  };
  OfVolume& Of(const std::string& volume) ABSL_EXCLUSIVE_LOCKS_REQUIRED(volumes_mutex_);
  template <typename T, typename... Arguments>
  static T& Add(OfVolume& volume, Family<T>& family, const prometheus::Labels& labels, const Arguments&... arguments) {
    T& series = family.Add(labels, arguments...);
    volume.remove.emplace(&series, [&family, &series] { family.Remove(&series); });
    return series;
  }
  void ForgetVolumes() const ABSL_LOCKS_EXCLUDED(volumes_mutex_);
  void AddTargetTimes(std::vector<prometheus::MetricFamily>* families) const;
  void Tell(Family<prometheus::Gauge>* family, const prometheus::Labels& labels, double value);

  prometheus::Registry registry_;
  // Taken around a refresh, which fills telling_.
  mutable absl::Mutex scrape_mutex_;
  const std::unique_ptr<EngineFamilies> engines_;
  using Series = std::set<std::pair<Family<prometheus::Gauge>*, prometheus::Gauge*>>;
  mutable Series told_;     // by the last scrape
  mutable Series telling_;  // by the one that runs
  std::function<void()> refresh_;
  const absl::Duration kept_for_;
  mutable absl::Mutex volumes_mutex_;
  mutable std::map<std::string, OfVolume> volumes_ ABSL_GUARDED_BY(volumes_mutex_);

  // What clients asked for.
  Family<prometheus::Counter>& requests_;
  Family<prometheus::Counter>& request_bytes_;
  Family<prometheus::Counter>& request_errors_;
  Family<prometheus::Histogram>& request_seconds_;
  // What each target made of it: a request's time less its slowest clone's is
  // the frontend's own.
  Family<prometheus::Histogram>& clone_seconds_;
  Family<prometheus::Counter>& target_errors_;
  Family<prometheus::Counter>& requeues_;
  Family<prometheus::Counter>& checksum_errors_;
  Family<prometheus::Counter>& sessions_;
  Family<prometheus::Counter>& sessions_lost_;
  // Attaching.
  Family<prometheus::Histogram>& attach_seconds_;
  Family<prometheus::Histogram>& takeover_seconds_;
  Family<prometheus::Counter>& attaches_;
  Family<prometheus::Counter>& leftovers_;
  // State, refreshed at each scrape.
  Family<prometheus::Gauge>& catalog_up_;
  Family<prometheus::Gauge>& epoch_;
  Family<prometheus::Gauge>& state_;
  Family<prometheus::Gauge>& queued_;
  Family<prometheus::Gauge>& inflight_;
  Family<prometheus::Gauge>& replay_bytes_;
  Family<prometheus::Gauge>& flush_supported_;
  Family<prometheus::Gauge>& target_up_;
  Family<prometheus::Gauge>& target_failed_;
  Family<prometheus::Gauge>& held_;
  Family<prometheus::Gauge>& target_in_sync_;
  Family<prometheus::Gauge>& target_state_;
  Family<prometheus::Gauge>& target_slow_;
  Family<prometheus::Gauge>& target_lag_;
  Family<prometheus::Gauge>& target_answer_p99_;
  Family<prometheus::Gauge>& join_left_;
  Family<prometheus::Gauge>& join_copied_;
  Family<prometheus::Gauge>& join_seconds_left_;
  Family<prometheus::Gauge>& join_speed_;
  Family<prometheus::Gauge>& repaired_blocks_;
  Family<prometheus::Gauge>& damaged_blocks_;
  Family<prometheus::Gauge>& target_inflight_;
  Family<prometheus::Gauge>& scrub_running_;
  Family<prometheus::Gauge>& scrub_done_;
  Family<prometheus::Gauge>& scrubs_finished_;
  Family<prometheus::Gauge>& scrub_read_;
  Family<prometheus::Gauge>& scrub_bad_;
  Family<prometheus::Gauge>& scrub_left_;
};

}  // namespace weir::host

#endif  // WEIR_VOLUME_HOST_METRICS_H_
