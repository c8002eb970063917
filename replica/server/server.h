// One replica: a store served over gRPC, with health, reflection and metrics.
//
// weir-replica is a thin main() around this class; tests and the in-process
// cluster start several in one process.
//
// Thread-safety: all methods may be called from any thread. Owns the store, the
// gRPC server, its threads and the metrics endpoint; the destructor shuts
// down: it ends the streams, waits for running calls, syncs and closes the store.
#ifndef WEIR_REPLICA_SERVER_SERVER_H_
#define WEIR_REPLICA_SERVER_SERVER_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "proto/base/tls_files.h"
#include "replica/store/store.h"

namespace weir::replica {

struct ServerOptions {
  std::string name = "replica";          // for logs and GetReplica
  std::string listen = "127.0.0.1:0";    // host:port (port 0: any free one) or unix:PATH
  std::string metrics_listen;            // host:port for /metrics, /healthz and /readyz over HTTP; empty: none
  TlsFiles tls;                // the process's identity; empty: plain text
  // `metrics_listen` may be for other machines; with tls.insecure also `listen` and `frontends` in plain text.
  bool insecure_metrics = false;
  // With what it fails together, such as zone=a and rack=7: copies are spread over different values.
  std::map<std::string, std::string> labels;
  // Frontends to make itself known to, one of which is enough; empty: it is named in their --replicas.
  std::vector<std::string> frontends;
  std::string advertise;                 // where they find it; empty: where it listens
  // It is gone for them if it has said nothing for so long.
  absl::Duration registration_lease = absl::Seconds(15);
  store::Options store;
  bool enable_fault_injection = false;

  // A received message may have this many bytes.
  uint64_t frame_bytes_max = 8 << 20;
  // Credit announced to a frontend: payload bytes it may have unanswered on one stream.
  uint32_t inflight_bytes_max = 16 << 20;
  // The next frame of a stream is not read while more than this waits to be sent or answered on it.
  uint64_t unanswered_bytes_max = 16 << 20;
  uint32_t unanswered_ios_max = 4096;
  // Frontends are told that space is exhausted while writes of this many bytes would
  // no longer be admitted: what they have under way must still find room.
  uint64_t space_margin_bytes = 64 << 20;
  absl::Duration space_check_interval = absl::Milliseconds(250);
  // One lane's tail, held in memory by AdoptTail.
  uint64_t tail_bytes_max = 128 << 20;
  // Streams and calls at once on one connection.
  uint32_t calls_per_connection_max = 256;
  // A peer that answers no ping within `keepalive_timeout` is gone.
  absl::Duration keepalive_interval = absl::Seconds(10);
  absl::Duration keepalive_timeout = absl::Seconds(10);
  // A stream whose first frame has not come by then is ended.
  absl::Duration hello_deadline = absl::Seconds(10);
  // Shutdown waits so long for running calls before it cancels them.
  absl::Duration shutdown_grace = absl::Seconds(2);

  // Says which option is wrong, and why. Does not look at `store`.
  absl::Status Validate() const;
};

class Server {
 public:
  // Opens the store (see store::Store::Open for its errors) and serves it.
  // UNAVAILABLE: the address is in use or cannot be bound. INVALID_ARGUMENT: options.
  static absl::StatusOr<std::unique_ptr<Server>> Start(ServerOptions options);
  // Serves a store that is open already; `options.store` is not looked at.
  static absl::StatusOr<std::unique_ptr<Server>> StartWithStore(
      ServerOptions options, std::unique_ptr<store::Store> store);

  virtual ~Server() = default;

  // Where a frontend finds it: "127.0.0.1:41234" or "unix:PATH", the port resolved.
  virtual const std::string& address() const = 0;
  // "127.0.0.1:41235", or empty.
  virtual const std::string& metrics_address() const = 0;
  // Ends streams and calls, then closes the store. Idempotent; the destructor does it too.
  virtual void Shutdown() = 0;
};

}  // namespace weir::replica

#endif  // WEIR_REPLICA_SERVER_SERVER_H_
