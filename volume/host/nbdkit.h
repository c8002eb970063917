// weir-volume --nbd_socket: the process becomes nbdkit with our plugin.
#ifndef WEIR_VOLUME_HOST_NBDKIT_H_
#define WEIR_VOLUME_HOST_NBDKIT_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"

namespace weir::host {

struct NbdkitConfig {
  std::string nbdkit;   // program, looked up in PATH
  std::string plugin;   // empty: nbdkit-weir-plugin.so beside this program
  std::string socket;   // Unix socket to serve on
  std::string threads;  // a connection
  std::string default_volume;  // of the export name ""; empty: the only one
  std::string config;          // the file of --config, for SIGHUP; empty: none
};

// The command line, with host options as key=value of the plugin.
std::vector<std::string> NbdkitCommand(
    const NbdkitConfig& config,
    const std::vector<std::pair<std::string, std::string>>& options);

// `*plugin` as it is loaded: if empty, the one beside this program. FAILED_PRECONDITION: it cannot be read.
absl::Status FindPlugin(std::string* plugin);

// Replaces this process (same pid); returns only an error, that says what to
// do. A socket file that nobody serves any more is removed first; one that is
// served is FAILED_PRECONDITION.
absl::Status BecomeNbdkit(
    NbdkitConfig config,
    const std::vector<std::pair<std::string, std::string>>& options);

}  // namespace weir::host

#endif  // WEIR_VOLUME_HOST_NBDKIT_H_
