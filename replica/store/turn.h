// An exclusive turn that may be held while RocksDB works, which a mutex may not
// (style: no RocksDB call with a lock held). Who wants it waits.
//
// Thread-safety: yes. Not reentrant.
#ifndef WEIR_REPLICA_STORE_TURN_H_
#define WEIR_REPLICA_STORE_TURN_H_

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace weir::store {

class Turn {
 public:
  Turn() = default;
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;

  void Take() {
    absl::MutexLock lock(&mutex_);
    mutex_.Await(absl::Condition(+[](bool* taken) { return !*taken; }, &taken_));
    taken_ = true;
  }
  void GiveBack() {
    absl::MutexLock lock(&mutex_);
    taken_ = false;
  }

 private:
  absl::Mutex mutex_;
  bool taken_ ABSL_GUARDED_BY(mutex_) = false;
};

// Holds a turn for a scope.
class InTurn {
 public:
  explicit InTurn(Turn* turn) : turn_(turn) { turn_->Take(); }
  ~InTurn() { turn_->GiveBack(); }
  InTurn(const InTurn&) = delete;
  InTurn& operator=(const InTurn&) = delete;

 private:
  Turn* const turn_;
};

}  // namespace weir::store

#endif  // WEIR_REPLICA_STORE_TURN_H_
