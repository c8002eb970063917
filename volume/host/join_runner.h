// Carries the steps of joins, repairs and scrubs (engine::RunJoinStep) out with real calls.
//
// Thread-safety: all methods, any thread. Answers come on the threads of `queue`, or on the
// caller's if that is full.
//
// Life: one a volume runner. Answers hold what they need, so they may come after the runner is gone.
#ifndef WEIR_VOLUME_HOST_JOIN_RUNNER_H_
#define WEIR_VOLUME_HOST_JOIN_RUNNER_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "volume/engine/types.h"
#include "volume/host/replica_client.h"
#include "volume/host/timer.h"
#include "volume/host/work_queue.h"

namespace weir::host {

class JoinRunner : public std::enable_shared_from_this<JoinRunner> {
 public:
  struct Config {
    std::string cluster_id;
    uint64_t volume_id = 0;
    Epoch epoch = 0;
    LaneGeometry lanes;
    absl::Duration call_deadline = absl::Seconds(5);
    absl::Duration copy_deadline = absl::Seconds(30);
    // Both outlive Cancel and whatever runs then.
    Timer* timer = nullptr;
    WorkQueue* queue = nullptr;  // its work blocks
  };
  using Done = std::function<void(uint64_t step, engine::JoinStepResult)>;

  explicit JoinRunner(Config config) : config_(std::move(config)) {}

  // Answers exactly once.
  void Run(const engine::RunJoinStep& step, Done done);
  // What runs ends at once, with an error, and what is asked for later too.
  void Cancel() { cancellation_.Cancel(); }

 private:
  using Client = std::shared_ptr<ReplicaClient>;

  void Start(engine::RunJoinStep step, Done done);
  engine::JoinStepResult Carry(const engine::RunJoinStep& step);
  absl::Status Seal(const engine::RunJoinStep& step, engine::JoinStepResult* result);
  absl::Status Changes(const engine::RunJoinStep& step, engine::JoinStepResult* result);
  absl::Status Update(const engine::RunJoinStep& step);
  absl::Status Begin(const engine::RunJoinStep& step);
  absl::Status Copy(const engine::RunJoinStep& step, engine::JoinStepResult* result);
  absl::Status Finish(const engine::RunJoinStep& step);
  absl::Status Repair(const engine::RunJoinStep& step, engine::JoinStepResult* result);
  absl::Status Digest(const engine::RunJoinStep& step, engine::JoinStepResult* result);
  absl::StatusOr<v1::GetJoinResponse> GetJoin(const engine::RunJoinStep& step);
  // The first ranges, up to about `bytes_max` of the lane's blocks.
  std::vector<BlockRange> Limit(const engine::RunJoinStep& step,
                                const std::vector<BlockRange>& invalid) const;

  v1::Fence FenceOf(const engine::TargetConfig& target, uint64_t incarnation) const;
  Client ClientOf(const engine::TargetConfig& target) ABSL_LOCKS_EXCLUDED(mu_);

  const Config config_;
  Cancellation cancellation_;
  absl::Mutex mu_;
  // By replica: its address, and the client for it.
  std::map<std::string, std::pair<std::string, Client>> clients_ ABSL_GUARDED_BY(mu_);
};

}  // namespace weir::host

#endif  // WEIR_VOLUME_HOST_JOIN_RUNNER_H_
