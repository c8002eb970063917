// Says in the log which requests took long, and where their time went as far as the host knows: a line each, a few a
// second, and how many were left out.
//
// What it knows costs next to nothing while nothing is slow: sessions report only clones that took long, and the runner
// looks a few times a second at what requests are held for. So a line can name the slow clones of the request's kind
// and blocks, and what requests of the volume, not this one in particular, were held for meanwhile.
//
// Thread-safety: safe; NoteClone may be called with any mutex held.
#ifndef WEIR_VOLUME_HOST_SLOW_LOG_H_
#define WEIR_VOLUME_HOST_SLOW_LOG_H_

#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "proto/base/position.h"
#include "volume/engine/stats.h"
#include "volume/engine/types.h"
#include "volume/host/target_times.h"

namespace weir::host {

class SlowLog {
 public:
  // What it remembers of the past, each.
  static constexpr size_t kClonesMax = 64;
  static constexpr size_t kLooksMax = 64;
  static constexpr int kLinesASecond = 5;

  struct Request {
    engine::RequestKind kind = engine::RequestKind::kRead;
    BlockRange range;
    int error = 0;
    engine::Time submitted{};
    engine::Time admitted{};   // the engine took it
    engine::Time completed{};
  };
  struct Clone {
    std::string replica;
    engine::RequestKind kind = engine::RequestKind::kRead;
    BlockRange range;
    engine::Time queued{};
    engine::Time ended{};      // answered, or its session was
    bool answered = false;
    CloneTimes times;
  };
  using Held = std::array<uint64_t, engine::kHoldReasons>;  // requests, by engine::HoldReason

  // `slower_than`: infinite: nothing is slow. `write`: a line, without an end; called without a lock held.
  SlowLog(absl::Duration slower_than, std::function<void(const std::string&)> write)
      : slower_than_(slower_than), write_(std::move(write)) {}

  bool enabled() const { return slower_than_ < absl::InfiniteDuration(); }
  bool IsSlow(absl::Duration took) const { return took > slower_than_; }
  // Half of it: what a request waits for may be the second half of its time.
  bool CloneIsSlow(absl::Duration took) const { return enabled() && took > slower_than_ / 2; }
  // How often Look wants to be called while there are requests.
  absl::Duration look_every() const;

  // One that CloneIsSlow.
  void NoteClone(Clone clone);
  void Look(const Held& held, engine::Time now);
  // One that IsSlow.
  void Log(const Request& request);

 private:
  // In words, after what the request was.
  std::string WhereLocked(const Request& request) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  std::string HeldLocked(const Request& request) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // "; N others were left out", and forgets them.
  std::string TakeLeftOutLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void BeginSecondLocked(engine::Time now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  struct Seen {
    engine::Time when{};
    Held held{};
  };

  const absl::Duration slower_than_;
  const std::function<void(const std::string&)> write_;
  absl::Mutex mu_;
  std::deque<Clone> clones_ ABSL_GUARDED_BY(mu_);  // as they ended
  std::deque<Seen> looks_ ABSL_GUARDED_BY(mu_);
  engine::Time second_begun_ ABSL_GUARDED_BY(mu_) = -absl::InfiniteDuration();
  int lines_ ABSL_GUARDED_BY(mu_) = 0;          // in this second
  uint64_t left_out_ ABSL_GUARDED_BY(mu_) = 0;  // and not told of yet
};

}  // namespace weir::host

#endif  // WEIR_VOLUME_HOST_SLOW_LOG_H_
