// What a volume is doing, as people and programs may see it.
//
// Thread-safety: pure functions.
#ifndef WEIR_VOLUME_HOST_EXPLAIN_H_
#define WEIR_VOLUME_HOST_EXPLAIN_H_

#include "volume/engine/stats.h"
#include "volume/engine/types.h"
#include "volume/engine/view.h"
#include "volume/host/host.h"
#include "weir/v1/catalog.pb.h"
#include "weir/v1/replica.pb.h"
#include "weir/v1/volume.pb.h"

namespace weir::host {

// `view` null: not attached here. `attaching`: an attach is under way. `elsewhere`: the record
// says that another frontend has it; if it is attached here too, it was taken over.
v1::Volume DescribeVolume(const v1::VolumeRecord& record,
                          const engine::EngineView* view, bool flush_supported,
                          bool attaching, bool elsewhere);

// Why it is slow, degraded or waiting; what happens next and when; what can be
// done. `now` is the clock of the view's times.
v1::ExplainResponse ExplainVolume(const v1::VolumeRecord& record,
                                  const engine::EngineView* view,
                                  bool flush_supported, bool attaching,
                                  bool elsewhere, const HostOptions& options, engine::Time now);

// Of an attached volume, too: what requests wait for, how old its durable point is, and which replicas' errors nobody was told
// as a flush's result.
void ExplainStats(const engine::Stats& stats, engine::Time now, v1::ExplainResponse* out);

// What speaks against the disks of a member, by its own word of when it started.
void ExplainDisks(const v1::GetReplicaResponse& member, v1::ExplainResponse* out);

}  // namespace weir::host

#endif  // WEIR_VOLUME_HOST_EXPLAIN_H_
