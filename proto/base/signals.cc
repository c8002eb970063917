#include "proto/base/signals.h"

#include "proto/base/shortage.h"

namespace weir {

Signals::Signals() {
  sigemptyset(&set_);
  for (const int signal_number : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&set_, signal_number);
  pthread_sigmask(SIG_BLOCK, &set_, nullptr);
  signal(SIGPIPE, SIG_IGN);
}

int Signals::AwaitStop(const std::function<void()>& reload) const {
  int signal_number = 0;
  while (sigwait(&set_, &signal_number) == 0 && signal_number == SIGHUP) reload();
  EndPatience();
  return signal_number;
}

}  // namespace weir
