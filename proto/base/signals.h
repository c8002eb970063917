// The signals of a process: SIGTERM and SIGINT end it, SIGHUP has it read anew what may change while it runs.
#ifndef WEIR_PROTO_BASE_SIGNALS_H_
#define WEIR_PROTO_BASE_SIGNALS_H_

#include <signal.h>

#include <functional>

namespace weir {

// One a process, made by main before any thread is: the signals are blocked for this thread and all that come after, so
// that AwaitStop alone gets them. SIGPIPE is ignored.
class Signals {
 public:
  Signals();
  // Blocks until one that ends the process, and returns it. Calls `reload` for SIGHUP, on this thread.
  int AwaitStop(const std::function<void()>& reload) const;

 private:
  sigset_t set_;
};

}  // namespace weir

#endif  // WEIR_PROTO_BASE_SIGNALS_H_
