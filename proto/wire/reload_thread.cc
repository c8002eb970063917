#include "proto/wire/reload_thread.h"

#include <pthread.h>
#include <signal.h>

#include <utility>

#include "proto/wire/reload.h"

namespace weir::wire {
namespace {

sigset_t HangUpSignal() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGHUP);
  return set;
}

}  // namespace

ReloadThread::ReloadThread(std::string config) {
  const sigset_t set = HangUpSignal();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  thread_ = std::thread([this, config = std::move(config)] { Run(config); });
}

ReloadThread::~ReloadThread() {
  ending_ = true;
  pthread_kill(thread_.native_handle(), SIGHUP);
  thread_.join();
}

void ReloadThread::Run(const std::string& config) const {
  pthread_setname_np(pthread_self(), "weir-reload");
  const sigset_t set = HangUpSignal();
  for (int signal_number = 0; sigwait(&set, &signal_number) == 0 && !ending_;) Reload(config);
}

}  // namespace weir::wire
