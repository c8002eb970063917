// The replica's own threads. What blocks for long runs here and never on the
// gRPC threads that carry I/O.
#ifndef WEIR_REPLICA_SERVER_WORKERS_H_
#define WEIR_REPLICA_SERVER_WORKERS_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "proto/base/position.h"
#include "proto/base/steady.h"
#include "replica/server/convert.h"

namespace weir::replica {

// Runs administrative calls and hellos, which sync and wait, on a few threads.
//
// Thread-safety: safe. Stop, and the destructor, drop what has not begun.
class TaskQueue {
 public:
  TaskQueue(const std::string& name, int threads, size_t queued_max);
  ~TaskQueue() { Stop(); }

  // False: too much is waiting, or it is stopped; the task is not taken.
  [[nodiscard]] bool Run(std::function<void()> task);
  void Stop();

 private:
  void Loop();

  const size_t queued_max_;
  absl::Mutex mutex_;
  std::deque<std::function<void()>> tasks_ ABSL_GUARDED_BY(mutex_);
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

// Syncs one flush domain. All that waits for a volume when a sync begins shares
// that sync, so many flush clones and FUA writes cost one.
//
// Thread-safety: safe. Owns one thread. Stop, and the destructor, finish what was taken.
class SyncWorker {
 public:
  // What the sync made durable; or why it did not.
  using Synced = absl::StatusOr<LanePositions>;
  using Done = std::function<void(const Synced&)>;  // on the worker's thread; must not block
  using Sync = std::function<Synced(VolumeId)>;

  // `after` is called when all that shared a round of syncs have been told.
  SyncWorker(uint32_t domain, Sync sync, std::function<void()> after, size_t waiting_max);
  ~SyncWorker() { Stop(); }

  // `done` is called after a sync that began after this call. False: too many wait.
  [[nodiscard]] bool Wait(VolumeId volume, Done done);
  void Stop();

 private:
  using Waiting = std::map<VolumeId, std::vector<Done>>;
  void Loop();

  const Sync sync_;
  const std::function<void()> after_;
  const size_t waiting_max_;
  absl::Mutex mutex_;
  Waiting waiting_ ABSL_GUARDED_BY(mutex_);
  size_t waiting_count_ ABSL_GUARDED_BY(mutex_) = 0;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

// Calls back after a while: injected delays, and the deadline of a hello.
//
// Thread-safety: safe. Owns one thread. Stop, and the destructor, drop what is not yet due.
class DelayLine {
 public:
  DelayLine();
  ~DelayLine() { Stop(); }

  // `then` runs on the delay line's thread and must not block.
  void After(absl::Duration delay, std::function<void()> then);
  void Stop();

 private:
  void Loop();

  absl::Mutex mutex_;
  // By time since a fixed origin that the wall clock does not move.
  std::multimap<absl::Duration, std::function<void()>> waiting_ ABSL_GUARDED_BY(mutex_);
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  // Rung when an earlier entry than the first is added.
  SteadyCondVar changed_;
  std::thread thread_;
};

// At most 15 characters show up in ps and gdb.
void NameThisThread(const std::string& name);

}  // namespace weir::replica

#endif  // WEIR_REPLICA_SERVER_WORKERS_H_
