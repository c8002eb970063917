// How far a volume's scrub is, as people and programs may see it.
//
// Thread-safety: pure functions. `now` is the clock of the view's times.
#ifndef WEIR_VOLUME_HOST_SCRUB_STATUS_H_
#define WEIR_VOLUME_HOST_SCRUB_STATUS_H_

#include "volume/engine/view.h"
#include "weir/v1/volume.pb.h"

namespace weir::host {

v1::ScrubStatus DescribeScrub(const engine::ScrubView& scrub, engine::Time now);

// Adds what there is to say.
void ExplainScrub(const engine::ScrubView& scrub, engine::Time now, v1::ExplainResponse* out);

}  // namespace weir::host

#endif  // WEIR_VOLUME_HOST_SCRUB_STATUS_H_
