// What a volume may and may not do, decided from outside the engine: from the
// requests, the clones that were sent and what the model replicas truly hold.
// contract.md, C1, C2, C7, C12; design.md, section 3.
#ifndef WEIR_VOLUME_ENGINE_MODEL_JUDGE_H_
#define WEIR_VOLUME_ENGINE_MODEL_JUDGE_H_

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "volume/engine/model_replica.h"
#include "volume/engine/types.h"
#include "volume/engine/view.h"

namespace weir::engine {

// Thread-safety: none. Throws away nothing: one judge a run.
//
// Within a lane the engine's numbers order the writes, so a read is judged by
// the number of the version it saw: at least that of every version that was
// answered, or observed, before the read began.
class Judge {
 public:
  Judge(LaneGeometry geometry, uint64_t size_blocks, const std::vector<ModelReplica>* replicas);

  // The first violation; empty: none yet.
  const std::string& violation() const { return violation_; }
  uint64_t open_requests() const { return open_; }
  const History& history() const { return history_; }

  void Submitted(const Request& request);
  void Sent(const SendClone& send, const EngineView& view);
  void Completed(const CompleteRequest& done, const EngineView& view);
  // The engine was told that the target is at `n`.
  void Reported(uint32_t target, uint32_t lane, uint64_t n);
  void FlushError(uint32_t target) { flush_errors_[target] = true; }
  // After each event.
  void AfterEvent(const EngineView& view);
  void Violated(std::string what);

 private:
  struct Tracked {
    Request request;
    uint64_t turn = 0;  // order of submission
    bool done = false;
    bool failed = false;   // done, with an error
    bool refused = false;  // failed with the promise that nothing was written
    uint64_t numbered_blocks = 0;
    std::vector<std::pair<uint32_t, uint64_t>> numbers;  // lane, n
    std::vector<BlockRange> ranges;                      // of numbers
    std::vector<uint64_t> floor;    // read: by block, the oldest version it may see
    std::vector<uint64_t> covered;  // flush, barrier: by lane, what it must make durable
  };

  void Numbered(const Clone& clone, const EngineView& view);
  uint64_t RequestOf(const Clone& clone);
  void CheckWrite(const Tracked& t, const EngineView& view);
  void CheckRead(const Tracked& t, const CompleteRequest& done, const EngineView& view);
  void CheckBlock(const Tracked& t, uint64_t block, uint64_t value, const EngineView& view);
  void CheckDurable(const Tracked& t, const EngineView& view, const char* who);

  const LaneGeometry geometry_;
  const std::vector<ModelReplica>& replicas_;
  History history_;
  std::string violation_;
  std::map<uint64_t, Tracked> requests_;
  uint64_t turns_ = 0;
  uint64_t open_ = 0;
  std::vector<uint64_t> block_floor_;  // newest version answered or observed
  std::vector<uint64_t> acked_;        // by lane
  std::vector<std::vector<uint64_t>> reported_;  // by target, lane: highest ever
  std::vector<bool> flush_errors_;
  std::vector<bool> was_overdue_;
};

}  // namespace weir::engine

#endif  // WEIR_VOLUME_ENGINE_MODEL_JUDGE_H_
