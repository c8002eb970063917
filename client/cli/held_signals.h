// Signals that end a command, held for it to ask whether one has come.
#ifndef WEIR_CLIENT_CLI_HELD_SIGNALS_H_
#define WEIR_CLIENT_CLI_HELD_SIGNALS_H_

#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <ctime>
#include <initializer_list>

#include "absl/time/time.h"

namespace weir::cli {

// SIGINT, SIGTERM and those of `more` wait while this lives, for who asks. To be made before any other
// thread: those inherit it.
class HeldSignals {
 public:
  explicit HeldSignals(std::initializer_list<int> more = {}) {
    sigemptyset(&signals_);
    sigaddset(&signals_, SIGINT);
    sigaddset(&signals_, SIGTERM);
    for (const int signal : more) sigaddset(&signals_, signal);
    pthread_sigmask(SIG_BLOCK, &signals_, &before_);
  }
  ~HeldSignals() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  HeldSignals(const HeldSignals&) = delete;
  HeldSignals& operator=(const HeldSignals&) = delete;

  // The one that has come within `duration`; 0: none.
  int Await(absl::Duration duration) const {
    const timespec limit = absl::ToTimespec(std::max(duration, absl::ZeroDuration()));
    return std::max(sigtimedwait(&signals_, nullptr, &limit), 0);
  }

 private:
  sigset_t signals_, before_;
};

}  // namespace weir::cli

#endif  // WEIR_CLIENT_CLI_HELD_SIGNALS_H_
