// Carries a takeover (volume/engine/takeover.h) out with real calls.
//
// The attaching thread runs the state machine; calls to members run in
// parallel on threads of their own, which end before Run returns.
//
// Thread-safety: none; one Run.
#ifndef WEIR_VOLUME_HOST_TAKEOVER_RUNNER_H_
#define WEIR_VOLUME_HOST_TAKEOVER_RUNNER_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "volume/engine/takeover.h"
#include "volume/host/attach_progress.h"
#include "volume/host/frontend.h"
#include "volume/host/replica_client.h"
#include "volume/host/volume_record.h"

namespace weir::host {

class TakeoverRunner {
 public:
  struct Config {
    std::string cluster_id;
    Frontend frontend;  // who takes over
    // See engine::TakeoverOptions.
    absl::Duration deadline;
    absl::Duration give_up_after;
    bool fresh = false;  // see engine::TakeoverOptions
    absl::Duration lease;
    absl::Duration call_deadline = absl::Seconds(10);  // of a seal or a base
    absl::Duration copy_deadline = absl::Minutes(2);   // of a lane's tail
  };

  // `holder` has the record as just read; it, `cancellation` and `progress` outlive this.
  TakeoverRunner(Config config, VolumeRecordHolder* holder, Cancellation* cancellation, AttachProgress* progress);
  ~TakeoverRunner();

  // Blocks. OK: the record is ACTIVE under a new epoch and in the holder.
  absl::Status Run();

 private:
  using Event = std::function<void(engine::Takeover&, engine::TakeoverEffects&)>;
  struct Queued {
    uint64_t thread = 0;  // whose last act this was, to be joined; 0: none
    Event event;
  };

  void CarryOut(const engine::TakeoverEffect& effect);
  void Commit(const engine::CommitRecord& commit);
  void Seal(const engine::SealMember& seal);
  void Copy(const engine::CopyLane& copy);
  void TakeBase(const engine::TakeBaseOn& take);
  // Gives it a copy of the record to keep.
  absl::Status Keep(uint32_t member, const v1::KeepRecordRequest& copy);
  void Wait(absl::Duration delay);
  // Runs `call` on a thread; the event it answers goes to the machine.
  void InBackground(std::function<Event()> call);
  void Push(uint64_t thread, Event event);
  Event NextEvent();
  v1::Fence FenceOf(uint32_t member, uint64_t incarnation) const;

  const Config config_;
  VolumeRecordHolder* const holder_;
  Cancellation* const cancellation_;
  AttachProgress* const progress_;
  std::vector<std::unique_ptr<ReplicaClient>> clients_;  // by member
  engine::Takeover takeover_;

  // Of the attaching thread.
  bool finished_ = false;
  absl::Status result_;
  uint64_t next_thread_ = 1;
  std::map<uint64_t, std::thread> threads_;
  std::vector<engine::SealedState> sealed_;  // by member

  absl::Mutex mu_;
  std::deque<Queued> events_ ABSL_GUARDED_BY(mu_);
};

}  // namespace weir::host

#endif  // WEIR_VOLUME_HOST_TAKEOVER_RUNNER_H_
