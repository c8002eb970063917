// One thread that runs closures when their time has come: the timers of all
// engines of a host, and delayed connection attempts.
//
// Thread-safety: safe. Closures run on the timer's thread, without its mutex;
// they must be short and must not block.
#ifndef WEIR_VOLUME_HOST_TIMER_H_
#define WEIR_VOLUME_HOST_TIMER_H_

#include <cstdint>
#include <functional>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "proto/base/steady.h"
#include "volume/engine/types.h"

namespace weir::host {

class Timer {
 public:
  Timer();
  // Drops what has not run yet, waits for the one that runs.
  ~Timer();
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;

  // There is no way to cancel: closures hold weak references and check whether
  // they are still wanted. That is cheaper than bookkeeping, since almost all
  // timers here (deadlines) are never moved to an earlier time.
  void At(engine::Time when, std::function<void()> run);

 private:
  struct Entry {
    engine::Time when;
    uint64_t order = 0;  // closures of one instant run in the order of At
    std::function<void()> run;
  };
  // The heap's top is the earliest.
  static bool Later(const Entry& a, const Entry& b);
  void Loop();

  absl::Mutex mu_;
  SteadyCondVar changed_;
  std::vector<Entry> heap_ ABSL_GUARDED_BY(mu_);
  uint64_t orders_ ABSL_GUARDED_BY(mu_) = 0;
  bool stop_ ABSL_GUARDED_BY(mu_) = false;
  std::thread thread_;  // last: it uses all of the above
};

}  // namespace weir::host

#endif  // WEIR_VOLUME_HOST_TIMER_H_
