// The one clock of volume/host: monotonic, for the engine's `now` and timers.
#ifndef WEIR_VOLUME_HOST_CLOCK_H_
#define WEIR_VOLUME_HOST_CLOCK_H_

#include "proto/base/steady.h"
#include "volume/engine/types.h"

namespace weir::host {

inline engine::Time MonotonicNow() { return SteadyNow(); }

}  // namespace weir::host

#endif  // WEIR_VOLUME_HOST_CLOCK_H_
