// The calls about pins and the volume's size.
//
// Thread-safety: safe. They block and run on a control thread. `replica` outlives them.
#ifndef WEIR_REPLICA_SERVER_PIN_CALLS_H_
#define WEIR_REPLICA_SERVER_PIN_CALLS_H_

#include "absl/status/status.h"
#include "replica/server/replica.h"
#include "weir/v1/replica.pb.h"

namespace weir::replica {

absl::Status UpdateVolume(Replica& replica, const v1::UpdateReplicaVolumeRequest& request);
absl::Status ReadPinned(Replica& replica, const v1::ReadPinnedRequest& request,
                        v1::ReadPinnedResponse* response);
absl::Status GetChangedSince(Replica& replica, const v1::GetChangedSinceRequest& request,
                             v1::GetChangedSinceResponse* response);

}  // namespace weir::replica

#endif  // WEIR_REPLICA_SERVER_PIN_CALLS_H_
