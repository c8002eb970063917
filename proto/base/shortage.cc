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

}  // namespace

bool IsShortage(int error) { return error == EMFILE || error == ENFILE || error == ENOMEM; }

bool Patience::Lasts(absl::string_view why) {
  const absl::Duration now = SteadyNow();
  if (!begun_) {
    begun_ = true;
    since_ = now;
    LOG(WARNING) << "cannot open " << path_ << ": " << why << "; trying again for " << absl::FormatDuration(longest_)
                 << ". Who holds the files? (ls /proc/PID/fd; LimitNOFILE=, fs.file-max)";
  }
  if (now - since_ >= longest_) return false;
  absl::SleepFor(kPause);
  return true;
}

int OpenPatiently(const std::string& path, int flags, mode_t mode, absl::Duration longest) {
  Patience patience(path, longest);
  for (;;) {
    const int fd = ::open(path.c_str(), flags, mode);
    if (fd >= 0) return fd;
    const int error = errno;
    if (!IsShortage(error) || !patience.Lasts(std::strerror(error))) {
      errno = error;
      return fd;
    }
  }
}

}  // namespace weir
