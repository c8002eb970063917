// Gives back the space of deleted volumes, in the background.
#ifndef WEIR_REPLICA_STORE_PURGE_H_
#define WEIR_REPLICA_STORE_PURGE_H_

#include <atomic>
#include <deque>
#include <memory>
#include <set>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "proto/base/position.h"
#include "replica/store/domain.h"

namespace weir::store {

// Owns one thread. What it has not finished when it ends begins anew after the
// next start: the volume's deletion record stays until its keys are gone.
// Thread-safety: yes.
class Purge {
 public:
  // `domains` outlive it.
  explicit Purge(std::vector<Domain*> domains);
  // Breaks off the running compaction and joins.
  ~Purge();

  // REQUIRES: every domain that held the volume has its deletion record.
  void Add(VolumeId volume);
  // Until `volume` is no longer being purged. ABORTED if the store closes or
  // fails first.
  absl::Status Wait(VolumeId volume);

 private:
  void Run();
  absl::Status PurgeVolume(VolumeId volume);
  absl::Status PurgeFamily(Domain* domain, Family family, VolumeId volume);
  absl::Status ForgetVolume(Domain* domain, VolumeId volume);

  const std::vector<Domain*> domains_;
  std::atomic<bool> stopping_{false};
  absl::Mutex mutex_;
  std::deque<VolumeId> queue_ ABSL_GUARDED_BY(mutex_);
  // Queued, running, or given up because its domain failed.
  std::set<VolumeId> pending_ ABSL_GUARDED_BY(mutex_);
  bool gave_up_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace weir::store

#endif  // WEIR_REPLICA_STORE_PURGE_H_
