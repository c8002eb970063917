// What all calls to one replica share: its store, sessions, faults, metrics
// and threads.
//
// Thread-safety: safe. Owns the store and the threads. Stop ends the threads; after it
// the store is closed by the destructor. gRPC calls must be over by then.
#ifndef WEIR_REPLICA_SERVER_REPLICA_H_
#define WEIR_REPLICA_SERVER_REPLICA_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "replica/server/disk_probes.h"
#include "replica/server/faults.h"
#include "replica/server/gate.h"
#include "replica/server/metrics.h"
#include "replica/server/server.h"
#include "replica/server/sessions.h"
#include "replica/server/workers.h"
#include "replica/store/store.h"

namespace weir::replica {

class Replica {
 public:
  // `on_failed` is called once, from any thread, when the store turns FAILED. The store may know `faults` and `metrics`.
  Replica(ServerOptions options, std::unique_ptr<store::Store> store, std::shared_ptr<FaultTable> faults,
          std::shared_ptr<Metrics> metrics, std::function<void()> on_failed);
  ~Replica();

  const ServerOptions& options() const { return options_; }
  const std::string& boot_id() const { return boot_id_; }
  store::Store& store() { return *store_; }
  Sessions& sessions() { return sessions_; }
  Gate& gate() { return gate_; }
  FaultTable& faults() { return *faults_; }
  Metrics& metrics() { return *metrics_; }
  DelayLine& delays() { return delays_; }
  const DiskProbes& disks() const { return disks_; }
  // For what syncs or waits: hellos and unary calls.
  TaskQueue& control() { return control_; }
  SyncWorker& sync_worker(uint32_t domain) { return *sync_workers_[domain]; }

  bool FlushSupported() const { return faults_->FlushSupported(); }
  // New writes should be refused before they are numbered; as of the last check.
  bool space_exhausted() const { return space_exhausted_.load(std::memory_order_acquire); }

  // Whether it makes itself known, for people; see registration.h.
  std::string registration() const {
    absl::MutexLock lock(&registration_mutex_);
    return registration_;
  }
  void set_registration(std::string said) {
    absl::MutexLock lock(&registration_mutex_);
    registration_ = std::move(said);
  }

  // To be called after the store answered an error that may be final: if it is,
  // ends all streams and reports it, once.
  void CheckHealth();
  // What a call is answered once the store has failed; OK before.
  absl::Status Serving() const;

  // Ends all streams, finishes the running syncs and drops what waits. Idempotent.
  void Stop();

 private:
  // Looks at the space now, tells the streams if it has changed, and comes again.
  void WatchSpace();

  const ServerOptions options_;
  const std::string boot_id_;
  const std::unique_ptr<store::Store> store_;
  const std::function<void()> on_failed_;
  std::atomic<bool> failed_{false};
  std::atomic<bool> stopped_{false};
  std::atomic<bool> space_exhausted_{false};
  mutable absl::Mutex registration_mutex_;
  std::string registration_ ABSL_GUARDED_BY(registration_mutex_);
  Sessions sessions_;
  Gate gate_;
  const std::shared_ptr<FaultTable> faults_;
  const std::shared_ptr<Metrics> metrics_;
  DelayLine delays_;
  TaskQueue control_;
  std::vector<std::unique_ptr<SyncWorker>> sync_workers_;  // by domain
  DiskProbes disks_;
};

}  // namespace weir::replica

#endif  // WEIR_REPLICA_SERVER_REPLICA_H_
