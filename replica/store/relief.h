// Looks for space: when a domain has none left for writes, and when much of a volume is known
// to be needed no more.
//
// What was discarded or overwritten, and what only a snapshot kept, goes when RocksDB compacts, and
// RocksDB compacts because of writes. A full store takes none, so it would stay full.
#ifndef WEIR_REPLICA_STORE_RELIEF_H_
#define WEIR_REPLICA_STORE_RELIEF_H_

#include <atomic>
#include <optional>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "proto/base/steady.h"
#include "replica/store/domain.h"

namespace weir::store {

// Owns one thread, which compacts the domains that asked for it, one after
// the other. Thread-safety: yes.
class Relief {
 public:
  // A domain rests this many times as long as its compaction took, so that a
  // store full of live data, with nothing to win, spends a tenth of its disk on looking.
  static constexpr int kRestFactor = 9;
  static constexpr absl::Duration kRestMin = absl::Seconds(1);

  // `domains` outlive it.
  explicit Relief(std::vector<Domain*> domains);
  // Breaks off the running compaction and joins.
  ~Relief();

  // A write to this domain was refused, or would be. Does not block.
  void Want(uint32_t domain);
  // What only a pin kept, or was discarded, lies in this volume's part of the domain. Does not block.
  void Want(uint32_t domain, VolumeId volume);

 private:
  // Nothing: all of the domain. It sorts first.
  using Part = std::optional<VolumeId>;

  void Run();
  // Syncs, so that reclaim goes by the newest durable point, then compacts.
  void Relieve(Domain* domain, Part part);

  const std::vector<Domain*> domains_;
  std::atomic<bool> break_off_{false};  // RocksDB's word for its running compaction
  absl::Mutex mutex_;
  SteadyCondVar changed_;
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  std::set<std::pair<uint32_t, Part>> wanted_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace weir::store

#endif  // WEIR_REPLICA_STORE_RELIEF_H_
