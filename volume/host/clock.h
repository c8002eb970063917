// The one clock of volume/host: monotonic, for the engine's `now` and timers.
#ifndef WEIR_VOLUME_HOST_CLOCK_H_
#define WEIR_VOLUME_HOST_CLOCK_H_

#include <chrono>

#include "absl/time/time.h"
#include "volume/engine/types.h"

namespace weir::host {

inline engine::Time MonotonicNow() {
  return absl::FromChrono(std::chrono::steady_clock::now().time_since_epoch());
}

}  // namespace weir::host

#endif  // WEIR_VOLUME_HOST_CLOCK_H_
