// What is found out about the disk below each data directory, once, when the process starts.
//
// Thread-safety: safe. Owns one thread, which looks at one directory after the other while the replica serves already: a
// replica that is away for 700 ms leaves its volumes, and load can only make a sync look longer, never too short.
#ifndef WEIR_REPLICA_SERVER_DISK_PROBES_H_
#define WEIR_REPLICA_SERVER_DISK_PROBES_H_

#include <atomic>
#include <cstddef>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "replica/probe/disk_truth.h"
#include "weir/v1/replica.pb.h"

namespace weir::replica {

class DiskProbes {
 public:
  // `replica`: its name, for the log.
  DiskProbes(std::string replica, std::vector<std::string> directories);
  ~DiskProbes() { Stop(); }

  // Of a directory by its index; null: not yet.
  std::shared_ptr<const probe::DiskTruth> Of(size_t index) const;

  // Waits for the sync that is under way. Idempotent, from one thread at a time.
  void Stop();

 private:
  void Run();

  const std::string replica_;
  const std::vector<std::string> directories_;
  std::atomic<bool> stopped_{false};
  mutable absl::Mutex mutex_;
  std::vector<std::shared_ptr<const probe::DiskTruth>> found_ ABSL_GUARDED_BY(mutex_);  // by directory
  std::thread thread_;
};

v1::DiskTruth DiskTruthToProto(const probe::DiskTruth& truth);

}  // namespace weir::replica

#endif  // WEIR_REPLICA_SERVER_DISK_PROBES_H_
