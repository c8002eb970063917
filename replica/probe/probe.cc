#include "replica/probe/probe.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <string>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/base/errno.h"
#include "replica/probe/layers.h"

namespace weir::probe {

absl::StatusOr<DiskTruth> ProbeDirectory(const std::string& directory, const Rounds& rounds) {
  std::error_code error;
  const std::filesystem::path path = std::filesystem::canonical(directory, error);
  if (error) return ErrnoToStatus(error.value(), absl::StrCat(directory, ": ", error.message()));
  if (!std::filesystem::is_directory(path, error)) {
    return absl::FailedPreconditionError(absl::StrCat(directory, ": is no directory"));
  }
  if (access(path.c_str(), W_OK | X_OK) != 0) {
    return ErrnoToStatus(errno, absl::StrCat(directory, ": cannot be written to: ", std::strerror(errno)));
  }
  DiskFacts facts = LayersBelow(path, /*root=*/"");
  const absl::StatusOr<SyncTimes> times = MeasureSyncs(path, rounds);
  const bool full = absl::IsResourceExhausted(times.status());
  const bool failed = absl::IsDataLoss(times.status());
  if (times.ok()) {
    facts.times = *times;
  } else if (!full && !failed) {
    return times.status();
  } else {
    facts.unmeasured = std::string(times.status().message());
    facts.io_failed = failed;
  }
  return Judge(std::move(facts));
}

}  // namespace weir::probe
