#include "client/nbd/unanswered.h"

namespace weir::nbd {

void Unanswered::Open(int connection) {
  absl::MutexLock lock(&mutex_);
  count_by_connection_[connection] = 0;
}

bool Unanswered::Take(int connection) {
  absl::MutexLock lock(&mutex_);
  const auto it = count_by_connection_.find(connection);
  if (it == count_by_connection_.end()) return false;
  ++it->second;
  return true;
}

void Unanswered::Answer(int connection) {
  absl::MutexLock lock(&mutex_);
  const auto it = count_by_connection_.find(connection);
  // Opened again in the meantime: not this connection's any more.
  if (it != count_by_connection_.end() && it->second > 0) --it->second;
}

bool Unanswered::AwaitAtMost(int remaining, int connection, absl::Duration wait_max) {
  const auto few_enough = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const auto it = count_by_connection_.find(connection);
    return it == count_by_connection_.end() || it->second <= remaining;
  };
  absl::MutexLock lock(&mutex_);
  return mutex_.AwaitWithTimeout(absl::Condition(&few_enough), wait_max);
}

}  // namespace weir::nbd
