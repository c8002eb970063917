// A replica's rules in the order that makes them hold: what is checked before what, and when a promise, a session and a
// deletion count. The server's calls go through here, and those of the simulator's replicas.
//
// Thread-safety: safe.
#ifndef WEIR_REPLICA_SERVER_GATE_H_
#define WEIR_REPLICA_SERVER_GATE_H_

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <set>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "proto/base/position.h"
#include "replica/server/admission.h"
#include "replica/server/sessions.h"
#include "replica/store/store.h"
#include "weir/v1/replica.pb.h"

namespace weir::replica {

class Gate {
 public:
  // `serving`(): what each call is answered once the store has failed; OK before. Both others outlive the gate.
  Gate(store::Store* store, Sessions* sessions, std::function<absl::Status()> serving)
      : store_(store), sessions_(sessions), serving_(std::move(serving)) {}

  struct Sealed {
    store::VolumeState volume;  // nobody changes its lanes any more, but who holds this epoch
    bool raised = false;        // the promise was lower
  };
  // Promises the fence's epoch and ends what is of older ones. FAILED_PRECONDITION (ESTALE): a newer one is promised.
  absl::StatusOr<Sealed> Seal(const v1::Fence& fence);

  // Runs `step`, of a takeover or a join, for a fence that names this process and the promised epoch. Until it
  // returns no newer epoch's Seal is answered, so a step never changes what a Seal has reported.
  // `who`: kStore, where the process does not matter.
  absl::Status Step(const v1::Fence& fence, const std::function<absl::Status(VolumeId)>& step,
                    Acquaintance who = Acquaintance::kProcess);

  // Makes session `number` of the fence's epoch the one that may do I/O. `opened`(session) runs once it may and ends
  // it by an error. Returns the volume as the session finds it.
  absl::StatusOr<store::VolumeState> Open(const v1::Fence& fence, uint64_t number, std::weak_ptr<SessionOwner> owner,
                                          const std::function<absl::Status(std::shared_ptr<Session>)>& opened);

  // How often the volume was made and deleted, or found to be there, or not; with some others, so that this takes no more room the more
  // there are. ABORTED of the two below: it is not `changes` any more, if that is given. However late such a call comes, it undoes
  // nothing that was done since its caller asked. UNAVAILABLE: the volume is just being made or deleted.
  uint64_t volume_changes(VolumeId id) const;
  using Changes = std::optional<uint64_t>;
  // Makes the volume, unless it is there; the first one decides which cluster the store belongs to.
  absl::Status CreateVolume(const v1::Fence& fence, const store::VolumeGeometry& geometry, Changes changes = std::nullopt);
  // True: it had the volume, and has nothing of it any more. False: it had none.
  absl::StatusOr<bool> DeleteVolume(const v1::Fence& fence, Changes changes = std::nullopt);

  // Whether the caller may read what a pin has: that never changes, so whoever knows the store may, whatever the epoch.
  absl::Status CheckReader(const v1::Fence& fence) const;

 private:
  // One change of a volume at a time, so that who is told that it is there is not told so of one that is going.
  absl::Status Change(VolumeId id, Changes changes, const std::function<absl::Status()>& change);
  absl::StatusOr<store::VolumeState> MayOpen(const v1::Fence& fence) const;

  store::Store* const store_;
  Sessions* const sessions_;
  const std::function<absl::Status()> serving_;
  mutable absl::Mutex volumes_mutex_;  // not held while the store is at work
  std::array<uint64_t, 1024> volume_changes_ ABSL_GUARDED_BY(volumes_mutex_) = {};  // by id, modulo that
  std::set<VolumeId> changing_ ABSL_GUARDED_BY(volumes_mutex_);
};

}  // namespace weir::replica

#endif  // WEIR_REPLICA_SERVER_GATE_H_
