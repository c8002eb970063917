// The calls about the copies of catalog records.
//
// Thread-safety: safe. They block and run on a control thread. `replica` outlives them.
#ifndef WEIR_REPLICA_SERVER_RECORD_CALLS_H_
#define WEIR_REPLICA_SERVER_RECORD_CALLS_H_

#include "absl/status/status.h"
#include "replica/server/replica.h"
#include "weir/v1/replica.pb.h"

namespace weir::replica {

absl::Status KeepRecord(Replica& replica, const v1::KeepRecordRequest& request);
absl::Status ListRecords(Replica& replica, const v1::ListRecordsRequest& request,
                         v1::ListRecordsResponse* response);

}  // namespace weir::replica

#endif  // WEIR_REPLICA_SERVER_RECORD_CALLS_H_
