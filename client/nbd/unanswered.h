// The requests of each NBD connection that nbdkit has read and not answered yet.
#ifndef WEIR_CLIENT_NBD_UNANSWERED_H_
#define WEIR_CLIENT_NBD_UNANSWERED_H_

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace weir::nbd {

// Connections are named by their file descriptor. Thread-safe.
class Unanswered {
 public:
  // A new connection has this number; what an earlier one left is forgotten.
  void Open(int connection);

  // A request was read. Returns false, and counts nothing, on what was never opened.
  bool Take(int connection);

  // The reply to one that Take() counted has been sent.
  void Answer(int connection);

  // Waits until `connection` has at most `remaining` unanswered requests, or `wait_max` is
  // over. Returns false in the latter case.
  bool AwaitAtMost(int remaining, int connection, absl::Duration wait_max);

 private:
  absl::Mutex mutex_;
  absl::flat_hash_map<int, int> count_by_connection_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace weir::nbd

#endif  // WEIR_CLIENT_NBD_UNANSWERED_H_
