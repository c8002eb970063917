// A client thread: seeded random requests, one at a time, on a connection that it makes again when it breaks.
#ifndef WEIR_TESTS_CHAOS_WORKER_H_
#define WEIR_TESTS_CHAOS_WORKER_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "tests/chaos/block_client.h"
#include "tests/chaos/history.h"

namespace weir::chaos {

using Connect = std::function<absl::StatusOr<std::unique_ptr<BlockClient>>(const Frontend&)>;

// Which frontend clients are to connect to. Thread-safety: safe.
class Directory {
 public:
  explicit Directory(std::vector<Frontend> all) : all_(std::move(all)) {}

  const std::vector<Frontend>& all() const { return all_; }
  const Frontend& current() const { return all_[current_.load()]; }
  bool IsCurrent(const Frontend& frontend) const { return current().name == frontend.name; }
  // False: nobody has that name.
  bool Use(const std::string& name);

 private:
  const std::vector<Frontend> all_;  // at least one
  std::atomic<size_t> current_{0};
};

// Makes one call, recorded and judged. False: the client is broken.
bool DoRecorded(const Request& request, BlockClient& client, History& history);

// Thread-safety: its thread is its own; the destructor ends it, after the request that it waits for.
class Worker {
 public:
  struct Options {
    Frontend frontend;          // works only while that is the current one
    Connect connect;
    uint64_t seed = 0;
    uint64_t blocks = 0;        // of the volume
    absl::Duration pause;       // between two requests
  };

  // What it refers to outlives it; it works until `stop`.
  Worker(Options options, const Directory& directory, History& history,
         const absl::Notification& stop);
  ~Worker() { thread_.join(); }

 private:
  void Run();
  std::unique_ptr<BlockClient> TryConnect();
  Request Draw(bool barriers);
  BlockRange DrawRange();
  uint64_t Below(uint64_t end) { return random_() % end; }

  const Options options_;
  const Directory& directory_;
  History& history_;
  const absl::Notification& stop_;
  std::mt19937_64 random_;
  std::thread thread_;  // last: it uses all above
};

}  // namespace weir::chaos

#endif  // WEIR_TESTS_CHAOS_WORKER_H_
