// What GetReplica and --version call this build.
#ifndef WEIR_REPLICA_SERVER_VERSION_H_
#define WEIR_REPLICA_SERVER_VERSION_H_

namespace weir::replica {

inline constexpr char kVersion[] = "0.1.0";

}  // namespace weir::replica

#endif  // WEIR_REPLICA_SERVER_VERSION_H_
