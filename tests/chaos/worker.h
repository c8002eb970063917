// A client thread: seeded random requests, one at a time, on a connection that it makes again when it breaks.
#ifndef WEIR_TESTS_CHAOS_WORKER_H_
#define WEIR_TESTS_CHAOS_WORKER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <random>
#include <thread>

#include "absl/status/statusor.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "tests/chaos/block_client.h"
#include "tests/chaos/history.h"

namespace weir::chaos {

using Connect = std::function<absl::StatusOr<std::unique_ptr<BlockClient>>()>;

// Makes one call, recorded and judged. False: the client is broken.
bool DoRecorded(const Request& request, BlockClient& client, History& history);

// Thread-safety: its thread is its own; the destructor ends it, after the request that it waits for.
class Worker {
 public:
  struct Options {
    Connect connect;
    uint64_t seed = 0;
    uint64_t blocks = 0;        // of the volume
    absl::Duration pause;       // between two requests
  };

  // `history` and `stop` outlive it; it works until `stop`.
  Worker(Options options, History& history, const absl::Notification& stop);
  ~Worker() { thread_.join(); }

 private:
  void Run();
  Request Draw(bool barriers);
  BlockRange DrawRange();
  uint64_t Below(uint64_t end) { return random_() % end; }

  const Options options_;
  History& history_;
  const absl::Notification& stop_;
  std::mt19937_64 random_;
  std::thread thread_;  // last: it uses all above
};

}  // namespace weir::chaos

#endif  // WEIR_TESTS_CHAOS_WORKER_H_
