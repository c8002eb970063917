// What weirctl trace shows of a volume: samples its requests for a while, and says where their time went.
//
// The engine does not tell of which request a clone is; its kind and blocks do, so the Tracer finds out: a clone
// is of the oldest sampled request of its kind that covers its blocks and has none like it yet, and a flush
// clone of every flush and barrier under way. Requests that overlap may be mistaken for each other.
//
//   IDLE <--Start / Finish--> TRACING --Stop--> STOPPED
//
// Memory: kSamplesMax samples, kCloneSamplesMax of clones, kLiveMax requests under way, the slowest that were asked for.
//
// Thread-safety: safe; called with the volume's mutex held, and takes no other. While nobody traces it costs
// its users active(), one relaxed load, and nothing else.
//
// Life: shared by the runner, its sessions and whoever traces.
#ifndef WEIR_VOLUME_HOST_TRACER_H_
#define WEIR_VOLUME_HOST_TRACER_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "proto/base/position.h"
#include "volume/engine/types.h"
#include "volume/host/target_times.h"
#include "weir/v1/volume.pb.h"

namespace weir::host {

class Tracer {
 public:
  static constexpr size_t kSamplesMax = 1 << 16;
  static constexpr size_t kCloneSamplesMax = 1 << 18;
  static constexpr size_t kLiveMax = 256;
  static constexpr size_t kClonesOfRequestMax = 64;
  // All requests up to this many a second, and one in kOneIn beyond. Fewer if the trace is a long one.
  static constexpr uint64_t kAllUpTo = 1000;
  static constexpr uint64_t kOneIn = 100;

  struct Options {
    absl::Duration length = absl::Seconds(10);
    size_t slowest = 10;
  };

  bool active() const { return active_.load(std::memory_order_relaxed); }

  // `stopped` is called if the volume is let go before Finish, at most once, without a lock held.
  // RESOURCE_EXHAUSTED: it is being traced. FAILED_PRECONDITION: it is let go.
  absl::Status Start(const Options& options, engine::Time now, std::function<void()> stopped);
  // REQUIRES: Start was OK.
  v1::TraceResponse Finish(engine::Time now);
  // The volume is let go. Nothing is traced any more.
  void Stop(const std::string& reason);

  // Of the volume's users: a request comes. Not 0: it is sampled, and Completed must follow, with this number.
  uint64_t Submitted(engine::RequestKind kind, BlockRange range, engine::Time now);
  // `sample` 0: only counted. `admitted`: when the engine took it.
  void Completed(uint64_t sample, engine::RequestKind kind, int error, engine::Time admitted, engine::Time now);
  // Of sessions.
  void Queued(const std::string& replica, const engine::Clone& clone, engine::Time now);
  void Answered(engine::CloneId clone, const CloneTimes& times, engine::Time now);

 private:
  // Where a request's time goes, in the order of v1.TracedKind.
  enum Part { kTotal, kBacklog, kEngine, kReplicas, kFinish };
  static constexpr size_t kParts = 5;
  using Parts = std::array<absl::Duration, kParts>;

  struct Clone {
    engine::CloneId id{};
    std::string replica;
    BlockRange range;
    bool answered = false;
    CloneTimes times;
  };
  struct Request {
    uint64_t sample = 0;
    engine::RequestKind kind = engine::RequestKind::kRead;
    BlockRange range;
    engine::Time submitted{};
    engine::Time first_queued = absl::InfiniteDuration();
    engine::Time last_answered = -absl::InfiniteDuration();
    std::vector<Clone> clones;
  };
  using Samples = std::vector<float>;  // microseconds
  struct ReplicaSamples {
    uint64_t clones = 0;
    std::array<Samples, kCloneStages> stages;
  };
  struct KindSamples {
    uint64_t requests = 0;
    std::array<Samples, kParts> parts;
    std::map<std::string, ReplicaSamples> replicas;
  };
  struct Trace {
    Options options;
    engine::Time begun{};
    std::function<void()> stopped;
    engine::Time second_begun{};
    uint64_t in_second = 0;   // requests
    uint64_t all_up_to = kAllUpTo;
    size_t samples = 0;
    size_t clone_samples = 0;
    std::vector<Request> live;  // oldest first
    std::map<engine::RequestKind, KindSamples> kinds;
    std::vector<v1::TracedRequest> slowest;  // the slowest first
  };

  static Parts PartsOf(const Request& request, engine::Time admitted, engine::Time now);
  static bool IsOf(const engine::Clone& clone, const Request& request);
  static bool HasLike(const std::string& replica, const engine::Clone& clone, const Request& request);
  static v1::TracedRequest Describe(const Request& request, const Parts& parts, int error, engine::Time begun);
  static v1::TracedTimes Quantiles(Samples& samples);

  bool SampleNextLocked(engine::Time now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void AddSampleLocked(const Request& request, const Parts& parts, int error) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  std::atomic<bool> active_{false};  // trace_ is there
  absl::Mutex mu_;
  std::unique_ptr<Trace> trace_ ABSL_GUARDED_BY(mu_);
  uint64_t next_sample_ ABSL_GUARDED_BY(mu_) = 1;  // never comes twice, so an old one is of no later trace
  std::string stop_reason_ ABSL_GUARDED_BY(mu_);   // not empty: stopped
};

}  // namespace weir::host

#endif  // WEIR_VOLUME_HOST_TRACER_H_
