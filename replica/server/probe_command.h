// weir-replica probe: what can be seen of a directory's disk before a store is put there.
#ifndef WEIR_REPLICA_SERVER_PROBE_COMMAND_H_
#define WEIR_REPLICA_SERVER_PROBE_COMMAND_H_

#include <ostream>

namespace weir::replica {

// `argv[0]` is "probe". The exit code: 0 nothing speaks against the disk, 1 it is suspicious or does not keep
// data, 2 wrong arguments, or no directory that can be written to.
int ProbeCommand(int argc, const char* const* argv, std::ostream& out, std::ostream& err);

}  // namespace weir::replica

#endif  // WEIR_REPLICA_SERVER_PROBE_COMMAND_H_
