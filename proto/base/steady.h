// Time, and waits for it, that nobody's setting of the wall clock moves.
//
// Abseil 20220623 waits by the wall clock, whatever it is given (CondVar::WaitWithTimeout, Mutex::AwaitWithTimeout, Notification): set back
// by an hour meanwhile, such a wait lasts an hour longer. So what decides anything waits here.
#ifndef WEIR_PROTO_BASE_STEADY_H_
#define WEIR_PROTO_BASE_STEADY_H_

#include <algorithm>
#include <chrono>
#include <condition_variable>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace weir {

// Since a fixed origin of this boot's.
inline absl::Duration SteadyNow() { return absl::FromChrono(std::chrono::steady_clock::now().time_since_epoch()); }

// absl::CondVar, but for that. Thread-safety: safe.
class SteadyCondVar {
 public:
  void Signal() { changed_.notify_one(); }
  void SignalAll() { changed_.notify_all(); }

  // Both may return early, for no reason; they let go of the mutex meanwhile.
  void Wait(absl::Mutex* mutex) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    Held held{mutex};
    changed_.wait(held);
  }
  void WaitFor(absl::Mutex* mutex, absl::Duration wait) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    Held held{mutex};
    changed_.wait_for(held, absl::ToChronoMicroseconds(std::min(wait, kWaitMax) + absl::Microseconds(1)));
  }

  // Until `*done`, which `mutex` guards and whose change is signalled, for at most `wait`. Returns it.
  bool AwaitFor(absl::Mutex* mutex, absl::Duration wait, const bool* done) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    const absl::Duration until = SteadyNow() + wait;
    for (absl::Duration left = wait; !*done && left > absl::ZeroDuration(); left = until - SteadyNow()) WaitFor(mutex, left);
    return *done;
  }

 private:
  // As the standard library calls it.
  struct Held {
    absl::Mutex* mutex;
    void lock() ABSL_NO_THREAD_SAFETY_ANALYSIS { mutex->Lock(); }
    void unlock() ABSL_NO_THREAD_SAFETY_ANALYSIS { mutex->Unlock(); }
  };
  // So that no sum of times overflows.
  static constexpr absl::Duration kWaitMax = absl::Hours(1);

  std::condition_variable_any changed_;
};

}  // namespace weir

#endif  // WEIR_PROTO_BASE_STEADY_H_
