// Gives the members in sync of an attached volume copies of its record (engine/rebuild.h says what for): the newest one,
// again and again until each of them has it.
//
// Thread-safety: safe. Nothing blocks but what runs on the queue. Its attempts end with it.
#ifndef WEIR_VOLUME_HOST_RECORD_TELLER_H_
#define WEIR_VOLUME_HOST_RECORD_TELLER_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "volume/host/timer.h"
#include "volume/host/work_queue.h"
#include "weir/v1/catalog.pb.h"

namespace weir::host {

class RecordTeller : public std::enable_shared_from_this<RecordTeller> {
 public:
  // `timer` outlives the queue's work.
  RecordTeller(std::string cluster_id, const std::shared_ptr<WorkQueue>& queue, Timer* timer)
      : cluster_id_(std::move(cluster_id)), queue_(queue), timer_(timer) {}

  void Tell(const v1::VolumeRecord& record, uint64_t revision);
  // Once, and blocks for that. OK: some member in sync has it, or keeps no copies. ABORTED: the volume was taken over.
  absl::Status TellNow(const v1::VolumeRecord& record, uint64_t revision) const;

 private:
  struct Copy {
    v1::VolumeRecord record;
    uint64_t revision = 0;
  };
  void Enqueue();
  void Run();
  struct Told {
    bool some = false;  // has it
    bool later = false;  // a member that may have it later has not got it
    absl::Status error;  // the last one's that has not
  };
  Told TellAll(const v1::VolumeRecord& record, uint64_t revision) const;

  const std::string cluster_id_;
  const std::weak_ptr<WorkQueue> queue_;
  Timer* const timer_;

  absl::Mutex mu_;
  std::optional<Copy> next_ ABSL_GUARDED_BY(mu_);
  bool running_ ABSL_GUARDED_BY(mu_) = false;  // or to run, now or after a while
};

}  // namespace weir::host

#endif  // WEIR_VOLUME_HOST_RECORD_TELLER_H_
