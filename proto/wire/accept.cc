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

// Something to let go of when there is not one file left: a connection that waits can then be taken, and refused.
std::atomic<int>& Spare() {
  static std::atomic<int> spare{open("/dev/null", O_RDONLY | O_CLOEXEC)};
  return spare;
}

// Of a process that may open no file at all. False: there is no spare one either, and connections wait.
bool RefuseOne(int listener) {
  const int spare = Spare().exchange(-1);
  if (spare < 0) return false;
  close(spare);
  const int refused = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (refused >= 0) close(refused);
  Spare().store(open("/dev/null", O_RDONLY | O_CLOEXEC));
  return refused >= 0;
}

}  // namespace

int AcceptWithinLimit(int listener, sockaddr* address, socklen_t* size, int flags) {
  while (true) {
    const socklen_t size_before = size == nullptr ? 0 : *size;
    const int accepted = accept4(listener, address, size, flags);
    const rlim_t files_max = FilesMax();
    // The kernel gives the lowest number that is free: all below are open.
    if (accepted >= 0 && static_cast<rlim_t>(accepted) < files_max - files_max / 4) return accepted;
    if (accepted >= 0) {
      close(accepted);
    } else if (errno == EBADF || errno == EINVAL || errno == ENOTSOCK || errno == EFAULT) {
      return accepted;  // it listens no more, or never did
    } else if ((errno != EMFILE && errno != ENFILE) || !RefuseOne(listener)) {
      errno = EAGAIN;  // gRPC asks again when the next one connects
      return -1;
    }
    SayThatOneWasRefused(files_max);
    if (size != nullptr) *size = size_before;
  }
}

void KeepListenersAlive() {
  static const bool kept = [] {
    Spare();
    const bool redirected = RedirectCall("libgrpc.so", "accept4", reinterpret_cast<void*>(&AcceptWithinLimit));
    if (!redirected) LOG(WARNING) << "this gRPC does not accept as 1.51 does; it may accept nobody any more once files have run out";
    return redirected;
  }();
  (void)kept;
}

}  // namespace weir::wire
