// What becomes of a replica that makes itself known.
//
// Thread-safety: pure functions.
#ifndef WEIR_VOLUME_HOST_REGISTRATION_H_
#define WEIR_VOLUME_HOST_REGISTRATION_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "weir/v1/catalog.pb.h"
#include "weir/v1/replica.pb.h"

namespace weir::host {

// Its record from now on. `known`: all records. FAILED_PRECONDITION: it is not to be taken for the replica that it
// says it is. INVALID_ARGUMENT.
absl::StatusOr<v1::ReplicaRecord> Registered(const v1::RegisterRequest& request,
                                             const std::vector<v1::ReplicaRecord>& known,
                                             const std::string& cluster_id, absl::Time now);

// Whether the catalog need not be told yet: all that counts is the same, and enough of the lease is left.
bool IsWorthNoWrite(const v1::ReplicaRecord& before, const v1::ReplicaRecord& after, absl::Time now);

// It registers itself, and its lease is not over.
bool IsAlive(const v1::ReplicaRecord& record, absl::Time now);

// It registers itself, and its lease is over.
bool IsGone(const v1::ReplicaRecord& record, absl::Time now);

}  // namespace weir::host

#endif  // WEIR_VOLUME_HOST_REGISTRATION_H_
