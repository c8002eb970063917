// Which stream may do I/O on which volume: at most one, that of the newest
// session of the newest epoch.
//
//   Open(5, session 1)  Open(5, session 2)        Raise(6)
//   NONE ------> CURRENT ------------> (1 ENDED, 2 CURRENT) -----> NONE, epoch >= 6 only
//
// A frame runs between Enter and Leave. Who ends a session waits until the
// frames (and fenced steps) that had entered have left, so that two streams never write to one lane at once and
// Seal answers with a state that nobody changes any more.
//
// Thread-safety: safe. No gRPC in here.
#ifndef WEIR_REPLICA_SERVER_SESSIONS_H_
#define WEIR_REPLICA_SERVER_SESSIONS_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "proto/base/position.h"

namespace weir::replica {

class Sessions;

// The stream that a session belongs to. Calls come from any thread, without a
// lock, and must not block.
class SessionOwner {
 public:
  virtual ~SessionOwner() = default;
  // At most once: the session has been ended.
  virtual void End(const absl::Status& why) = 0;
  // Whether new writes should be refused for lack of space has changed.
  virtual void SpaceChanged() = 0;
};

// One stream's right to do I/O. Ends when a newer one is opened.
class Session {
 public:
  // False: ended; whoever ended it has told the stream why.
  [[nodiscard]] bool Enter();
  void Leave();

 private:
  friend class Sessions;
  // What all sessions of one volume share.
  struct Slot {
    absl::Mutex mutex;
    Epoch epoch ABSL_GUARDED_BY(mutex) = 0;               // lower ones are refused
    uint64_t last_number ABSL_GUARDED_BY(mutex) = 0;      // within `epoch`
    std::shared_ptr<Session> current ABSL_GUARDED_BY(mutex);
    int running ABSL_GUARDED_BY(mutex) = 0;               // frames and fenced steps
  };

  Session(std::shared_ptr<Slot> slot, std::weak_ptr<SessionOwner> owner)
      : slot_(std::move(slot)), owner_(std::move(owner)) {}
  void End(const absl::Status& why);

  const std::shared_ptr<Slot> slot_;
  const std::weak_ptr<SessionOwner> owner_;
};

class Sessions {
 public:
  Sessions() = default;
  // Sessions that are still held end quietly: nobody can enter any more.
  ~Sessions();

  // Makes session `number` the current one and ends an older one; waits for the
  // frames of that. FAILED_PRECONDITION (ESTALE): the epoch has been left behind.
  // ABORTED: a newer session is there.
  absl::StatusOr<std::shared_ptr<Session>> Open(VolumeId volume, Epoch epoch, uint64_t number,
                                                std::weak_ptr<SessionOwner> owner);
  // The stream is gone.
  void Close(const std::shared_ptr<Session>& session);

  // Lets a step of a takeover or a join (AdoptTail, CopyIn) run: who raises the epoch waits for it.
  // The step lasts until the result is dropped. FAILED_PRECONDITION (ESTALE): the epoch has been left behind.
  absl::StatusOr<std::shared_ptr<const void>> Hold(VolumeId volume, Epoch epoch);

  // Refuses lower epochs from now on; ends a session of one, and waits for its frames.
  void Raise(VolumeId volume, Epoch epoch);
  // The volume goes away: ends its session, waits for its frames, forgets it.
  void EndVolume(VolumeId volume, const absl::Status& why);
  // Ends all; does not wait.
  void EndAll(const absl::Status& why);

  void TellSpaceChanged();

  // Streams that have said hello.
  size_t count() const;

 private:
  using Slot = Session::Slot;
  std::shared_ptr<Slot> SlotOf(VolumeId volume);
  std::vector<std::shared_ptr<Slot>> AllSlots() const;

  mutable absl::Mutex mutex_;  // not held together with a slot's
  std::map<VolumeId, std::shared_ptr<Slot>> slots_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace weir::replica

#endif  // WEIR_REPLICA_SERVER_SESSIONS_H_
