// Fault injection: rules that say how the next clones of a kind are answered, and which writes and syncs of the
// store's files fail.
//
// A faulted clone is not carried out; one that is only delayed is carried
// out in its order at once and answered late, as a slow disk would do it. A
// write answered with an error leaves a gap in its lane: the later
// ones are requeued by the store's own rule, so that order is kept. A write or sync of a file that
// fails is not carried out, and final for the store.
//
// Thread-safety: safe. Pure otherwise: no clock, no gRPC.
#ifndef WEIR_REPLICA_SERVER_FAULTS_H_
#define WEIR_REPLICA_SERVER_FAULTS_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "replica/store/store.h"
#include "weir/v1/replica.pb.h"

namespace weir::replica {

// How one clone is to be answered.
struct FaultVerdict {
  int error = 0;          // errno; 0: carried out
  bool drop = false;      // neither carried out nor answered
  absl::Duration delay;   // answered so much later

  bool hits() const { return error != 0 || drop || delay > absl::ZeroDuration(); }
  bool suppresses() const { return error != 0 || drop; }
};

class FaultTable {
 public:
  // A table that can grow has a limit.
  static constexpr size_t kRulesMax = 256;
  static constexpr uint32_t kDelayMsMax = 10 * 60 * 1000;

  // Gives the rule's id. INVALID_ARGUMENT: it makes no sense; the message says why.
  absl::StatusOr<uint64_t> Add(const v1::Fault& fault);
  std::vector<v1::Fault> List() const;
  // 0: all. How many there were.
  uint32_t Clear(uint64_t id);

  // The oldest matching rule decides, and is used up by one.
  FaultVerdict Strike(v1::FaultOp op, uint32_t domain);

  // False while a rule answers every flush EOPNOTSUPP for good: such a replica
  // cannot flush, and says so at Seal and hello.
  bool FlushSupported() const;

 private:
  mutable absl::Mutex mutex_;
  uint64_t last_id_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<v1::Fault> rules_ ABSL_GUARDED_BY(mutex_);
  // Without rules the I/O path takes no lock.
  std::atomic<bool> any_{false};
};

// The operation a clone counts as. FAULT_OP_UNSPECIFIED: none (EXTENTS).
v1::FaultOp FaultOpOf(v1::IoKind kind);
v1::FaultOp FaultOpOf(store::FileAct act);

}  // namespace weir::replica

#endif  // WEIR_REPLICA_SERVER_FAULTS_H_
