#include "proto/wire/accept.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>

#include "absl/time/time.h"
#include "proto/base/call_redirect.h"
#include "proto/base/log.h"
#include "proto/base/steady.h"

namespace weir::wire {
namespace {

constexpr absl::Duration kSayEvery = absl::Minutes(1);

rlim_t FilesMax() {
  struct rlimit limit;
  return getrlimit(RLIMIT_NOFILE, &limit) == 0 ? limit.rlim_cur : RLIM_INFINITY;
}

// Once in a while: whoever connects decides how often it happens.
void SayThatOneWasRefused(rlim_t files_max) {
  static std::atomic<int64_t> said_at_us{absl::ToInt64Microseconds(-kSayEvery)};
  const int64_t now = absl::ToInt64Microseconds(SteadyNow());
  int64_t before = said_at_us.load();
  if (now - before < absl::ToInt64Microseconds(kSayEvery) || !said_at_us.compare_exchange_strong(before, now)) return;
  LOG(WARNING) << "connections are refused: three quarters of the " << files_max
               << " files that this process may open are open (RLIMIT_NOFILE); raise LimitNOFILE=, or see who connects (ss -tnp)";
}

// Something to let go of when there is not one file left: a connection that waits can then be taken, and refused. -1: none.
std::atomic<int> spare{-1};

void HaveASpare() {
  if (spare.load() >= 0) return;
  int none = -1;
  const int opened = open("/dev/null", O_RDONLY | O_CLOEXEC);
  if (opened >= 0 && !spare.compare_exchange_strong(none, opened)) close(opened);
}

// Of a process that may open no file at all. False: there is no spare one either, and connections wait.
bool RefuseOne(int listener) {
  const int given = spare.exchange(-1);
  if (given < 0) return false;
  close(given);
  const int refused = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (refused >= 0) close(refused);
  HaveASpare();
  return refused >= 0;
}

}  // namespace

int AcceptWithinLimit(int listener, sockaddr* address, socklen_t* size, int flags) {
  while (true) {
    const socklen_t size_before = size == nullptr ? 0 : *size;
    const int accepted = accept4(listener, address, size, flags);
    const rlim_t files_max = FilesMax();
    // The kernel gives the lowest number that is free: all below are open.
    if (accepted >= 0 && static_cast<rlim_t>(accepted) < files_max - files_max / 4) {
      HaveASpare();
      return accepted;
    }
    const int error = accepted >= 0 ? 0 : errno;
    if (error == EBADF || error == EINVAL || error == ENOTSOCK || error == EFAULT) return accepted;  // it listens no more, or never did
    const bool none_left = error == EMFILE || error == ENFILE;
    if (accepted >= 0) close(accepted);
    if (accepted >= 0 || none_left) SayThatOneWasRefused(files_max);
    if (accepted < 0 && !(none_left && RefuseOne(listener))) {
      errno = EAGAIN;  // gRPC asks again when the next one connects
      return -1;
    }
    if (size != nullptr) *size = size_before;
  }
}

void KeepListenersAlive() {
  static const bool kept = [] {
    HaveASpare();
    const bool redirected = RedirectCall("libgrpc.so", "accept4", reinterpret_cast<void*>(&AcceptWithinLimit));
    if (!redirected) LOG(WARNING) << "this gRPC does not accept as 1.51 does; it may accept nobody any more once files have run out";
    return redirected;
  }();
  (void)kept;
}

}  // namespace weir::wire
