// ReadTail and AdoptTail: one lane's tail leaves one replica and enters another.
//
// The reactors own themselves until OnDone. `replica` outlives them.
#ifndef WEIR_REPLICA_SERVER_TAIL_CALLS_H_
#define WEIR_REPLICA_SERVER_TAIL_CALLS_H_

#include <functional>

#include "absl/status/status.h"
#include "grpcpp/support/server_callback.h"
#include "proto/base/position.h"
#include "proto/wire/access.h"
#include "replica/server/admission.h"
#include "replica/server/replica.h"
#include "weir/v1/replica.pb.h"

namespace weir::replica {

// Runs `step`, of a takeover or a join, for a fence that names this process and the promised epoch. Until it
// returns no newer epoch's Seal is answered, so a step never changes what a Seal has reported.
// `who`: kStore, where the process does not matter.
absl::Status FencedStep(Replica& replica, const v1::Fence& fence,
                        const std::function<absl::Status(VolumeId)>& step,
                        Acquaintance who = Acquaintance::kProcess);

grpc::ServerWriteReactor<v1::TailChunk>* StartReadTail(Replica& replica,
                                                       const wire::VolumeGrant& grant,
                                                       const v1::ReadTailRequest& request);
grpc::ServerReadReactor<v1::AdoptTailRequest>* StartAdoptTail(Replica& replica,
                                                           const wire::VolumeGrant& grant);

}  // namespace weir::replica

#endif  // WEIR_REPLICA_SERVER_TAIL_CALLS_H_
