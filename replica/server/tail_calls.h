// ReadTail and AdoptTail: one lane's tail leaves one replica and enters another.
//
// The reactors own themselves until OnDone. `replica` outlives them.
#ifndef WEIR_REPLICA_SERVER_TAIL_CALLS_H_
#define WEIR_REPLICA_SERVER_TAIL_CALLS_H_

#include "grpcpp/support/server_callback.h"
#include "proto/wire/access.h"
#include "replica/server/replica.h"
#include "weir/v1/replica.pb.h"

namespace weir::replica {

grpc::ServerWriteReactor<v1::TailChunk>* StartReadTail(Replica& replica,
                                                       const wire::VolumeGrant& grant,
                                                       const v1::ReadTailRequest& request);
grpc::ServerReadReactor<v1::AdoptTailRequest>* StartAdoptTail(Replica& replica,
                                                           const wire::VolumeGrant& grant);

}  // namespace weir::replica

#endif  // WEIR_REPLICA_SERVER_TAIL_CALLS_H_
