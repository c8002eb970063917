// One client's connection to a volume, over NBD or over gRPC: blocking calls, one at a time.
#ifndef WEIR_TESTS_CHAOS_BLOCK_CLIENT_H_
#define WEIR_TESTS_CHAOS_BLOCK_CLIENT_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "proto/base/position.h"
#include "proto/base/tls_files.h"
#include "tests/chaos/history.h"

namespace weir::chaos {

// Where one frontend serves the volume, if it has it.
struct Frontend {
  std::string name;
  std::string grpc_address;  // host:port
  std::string nbd_uri;
  std::string volume;
  TlsFiles tls;  // of the clients
};

// Thread-safety: none, one thread uses it. Owns its connection, which ends with it.
class BlockClient {
 public:
  struct Answer {
    absl::Status status;
    std::string data;
    // The connection or the session is over, and so is this object's use. Whether the request took
    // effect is not known.
    bool broken = false;
    // The session that has answered, or that the client was in when it broke.
    Epoch epoch = 0;
  };

  virtual ~BlockClient() = default;

  // Blocks until there is an answer or the connection breaks. `data`: of a write or barrier.
  virtual Answer Do(const Request& request, std::string data) = 0;
  // The session's, or a later one if the connection is broken already.
  virtual Epoch epoch() const = 0;
  // In a later session, by itself, with what is unanswered.
  virtual bool goes_on() const = 0;
  virtual const char* name() const = 0;
  virtual bool has_barriers() const = 0;
};

// Attach the volume where no other frontend has it; fail where one has. May block while the frontend does.
absl::StatusOr<std::unique_ptr<BlockClient>> ConnectNbd(const Frontend& frontend);
absl::StatusOr<std::unique_ptr<BlockClient>> ConnectGrpc(const Frontend& frontend);

}  // namespace weir::chaos

#endif  // WEIR_TESTS_CHAOS_BLOCK_CLIENT_H_
