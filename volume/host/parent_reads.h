// Reads of one clone that fall through to its parent. They block, so they are carried out on a queue's threads, which all clones share; those whose
// parent cannot be asked are held, without a thread, as engine::HoldsForParent decides.
//
// Each is asked for at once; after one has found nobody one at a time, since the parent's replicas may hang. Of those that are held one at a time is
// asked for again, in turn; once that finds somebody the others are too. So a parent that hangs takes two threads.
//
// Thread-safety: safe. Life: shared by the runner and the work under way; `done` may be called after Stop.
#ifndef WEIR_VOLUME_HOST_PARENT_READS_H_
#define WEIR_VOLUME_HOST_PARENT_READS_H_

#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "volume/engine/types.h"
#include "volume/host/timer.h"
#include "volume/host/work_queue.h"

namespace weir::host {

class ParentReads : public std::enable_shared_from_this<ParentReads> {
 public:
  struct Read {
    engine::Time submitted{};
    std::function<absl::Status()> ask;        // blocks; once more after UNAVAILABLE
    std::function<void(absl::Status)> done;   // once; without a lock
  };

  // `volume`: the clone, for the log. `queue` and `timer` outlive Stop.
  ParentReads(std::string volume, WorkQueue* queue, Timer* timer, absl::Duration hold_deadline)
      : volume_(std::move(volume)), queue_(queue), timer_(timer), hold_deadline_(hold_deadline) {}

  // False: as many wait as may; `read` is as it was.
  [[nodiscard]] bool Run(Read& read);
  // What waits is answered with `status`, and so is what finds nobody from now on.
  void Stop(const absl::Status& status);
  // Reads whose parent could not be asked.
  size_t held() const;
  // Whether one of these was submitted by then.
  bool HasHeldSince(engine::Time submitted) const;

 private:
  struct Asking {
    Read read;
    bool again = false;
  };
  void PumpLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  bool AskLocked(std::deque<Read>* from, bool again) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Ask(Asking asking);
  void ArmLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Tick();

  const std::string volume_;
  WorkQueue* const queue_;
  Timer* const timer_;
  const absl::Duration hold_deadline_;
  mutable absl::Mutex mu_;
  std::deque<Read> fresh_ ABSL_GUARDED_BY(mu_);  // not asked for yet
  std::deque<Read> held_ ABSL_GUARDED_BY(mu_);
  size_t asking_ ABSL_GUARDED_BY(mu_) = 0;       // of the fresh ones
  std::optional<engine::Time> asking_again_ ABSL_GUARDED_BY(mu_);  // of one that was held: submitted then
  bool away_ ABSL_GUARDED_BY(mu_) = false;       // the last one has found nobody
  absl::Status why_ ABSL_GUARDED_BY(mu_);        // the last one that has found nobody
  bool armed_ ABSL_GUARDED_BY(mu_) = false;
  std::optional<absl::Status> stopped_ ABSL_GUARDED_BY(mu_);
};

}  // namespace weir::host

#endif  // WEIR_VOLUME_HOST_PARENT_READS_H_
