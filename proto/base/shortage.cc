#include "proto/base/shortage.h"

#include <fcntl.h>

#include <cerrno>
#include <cstring>

#include "absl/time/clock.h"
#include "proto/base/log.h"
#include "proto/base/steady.h"

namespace weir {
namespace {

constexpr absl::Duration kPause = absl::Milliseconds(50);

std::atomic<bool> patience_ended{false};

}  // namespace

bool IsShortage(int error) { return error == EMFILE || error == ENFILE || error == ENOMEM; }

void EndPatience() { patience_ended.store(true); }

bool Shortage::MayEnd(const std::string& path, absl::string_view why) {
  const int64_t now_us = absl::ToInt64Microseconds(SteadyNow());
  int64_t since_us = 0;
  if (since_us_.compare_exchange_strong(since_us, now_us)) {
    since_us = now_us;
    LOG(ERROR) << "cannot open " << path << ": " << why << "; trying again for " << absl::FormatDuration(longest_)
               << ", and serving nobody who needs it. Who holds the files? (ls /proc/PID/fd; LimitNOFILE=, fs.file-max)";
  }
  if (patience_ended.load() || absl::Microseconds(now_us - since_us) >= longest_) return false;
  absl::SleepFor(kPause);
  return true;
}

int OpenPatiently(const std::string& path, int flags, mode_t mode, absl::Duration longest) {
  Shortage shortage(longest);
  for (;;) {
    const int fd = ::open(path.c_str(), flags, mode);
    if (fd >= 0) return fd;
    const int error = errno;
    if (!IsShortage(error) || !shortage.MayEnd(path, std::strerror(error))) {
      errno = error;
      return fd;
    }
  }
}

}  // namespace weir
