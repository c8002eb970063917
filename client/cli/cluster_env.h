// DIR/cluster.env: where the processes of a cluster are, as ops/cluster wrote it.
//
// The file can be sourced by a shell; here it is read without one, so that
// nothing in it is ever run. Thread-safety: free functions, safe.
#ifndef WEIR_CLIENT_CLI_CLUSTER_ENV_H_
#define WEIR_CLIENT_CLI_CLUSTER_ENV_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "proto/base/tls_files.h"

namespace weir::cli {

// (name, value), in the order of the file.
using NamedValues = std::vector<std::pair<std::string, std::string>>;

struct ClusterEnv {
  std::string nbd_uri;
  std::string volume_addr;
  NamedValues volume_addrs;   // every frontend; "volume" -> "127.0.0.1:7700"
  NamedValues replica_addrs;  // "replica1" -> "127.0.0.1:7701"
  std::string metrics_urls;
  TlsFiles tls;     // an admin's, if the cluster has TLS
  NamedValues pids;
  std::string bin;
};

// Lines NAME='value', in any of the shell's plain quotings; unknown names are
// ignored. INVALID_ARGUMENT names the line: what only a shell could expand
// ($x, `x`), an open quote, a line that is not an assignment.
absl::StatusOr<ClusterEnv> ParseClusterEnv(absl::string_view text);

// Reads DIR/cluster.env. NOT_FOUND says how to make one.
absl::StatusOr<ClusterEnv> ReadClusterEnv(const std::string& dir);

// "replica1=127.0.0.1:7701 replica2=unix:/run/r2", separated by spaces or commas.
absl::StatusOr<NamedValues> ParseNamedValues(absl::string_view text);

// The same, except that an address may stand alone: the first one is then replica1's, and so on.
NamedValues ParseReplicaAddrs(absl::string_view text);

// URLs of /metrics, separated by spaces or commas, each with the name of its process: its own "NAME=" before it, else that
// of `names` if there are as many, else its host and port. INVALID_ARGUMENT: not one of http:// or https://.
absl::StatusOr<NamedValues> ParseMetricsUrls(absl::string_view text, const std::vector<std::string>& names);

}  // namespace weir::cli

#endif  // WEIR_CLIENT_CLI_CLUSTER_ENV_H_
