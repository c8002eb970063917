// What lies between frontends and replicas: streams that keep order and unary calls that do
// not, over links that can be cut in either direction.
//
// A stream is one session's connection. Messages of one direction stay in order, as over TCP;
// a message that meets a cut link is lost and with it all that follows on that stream, which one or both ends
// may hear of late or never (half-open). Messages of an old stream may arrive long after a new one
// has begun.
//
// Thread-safety: none.
#ifndef WEIR_TESTS_SIM_NETWORK_H_
#define WEIR_TESTS_SIM_NETWORK_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "tests/sim/agenda.h"
#include "tests/sim/dice.h"
#include "tests/sim/replica_node.h"
#include "volume/engine/types.h"

namespace weir::sim {

class Network {
 public:
  Network(Agenda* agenda, Dice* dice, std::vector<std::unique_ptr<ReplicaNode>>* replicas)
      : agenda_(agenda), dice_(dice), replicas_(replicas) {}

  // --- faults ---
  // What `frontend` sends to `replica` (or hears of it) is lost until then.
  void CutToReplica(uint32_t frontend, uint32_t replica, Time until);
  void CutToFrontend(uint32_t frontend, uint32_t replica, Time until);
  // Added to what the replica's answers on streams take; those under way are not touched.
  void set_answer_delay(uint32_t frontend, uint32_t replica, absl::Duration delay) {
    LinkOf(frontend, replica).answer_delay = delay;
  }
  void Heal();
  // Beyond the usual delay of 50 us to 2 ms, so often up to a second.
  void set_slow_per_mille(uint64_t per_mille) { slow_per_mille_ = per_mille; }
  // A unary call is carried out twice.
  void set_duplicate_per_mille(uint64_t per_mille) { duplicate_per_mille_ = per_mille; }
  // Added to what `replica` takes for each message.
  // Its process answers nothing until then; or only syncs are not answered, and not done.
  void FreezeReplica(uint32_t replica, Time until);
  void HangSyncs(uint32_t replica, Time until);
  void set_replica_delay(uint32_t replica, absl::Duration delay);

  // --- unary calls ---
  // `call` runs at the replica, possibly twice; then `done` once at the caller, with OK, or
  // UNAVAILABLE (not reached), or DEADLINE_EXCEEDED (no answer). `call` keeps its own result.
  void Call(uint32_t frontend, uint32_t replica, std::function<void(ReplicaNode&)> call,
            std::function<void(absl::Status)> done);

  // --- streams ---
  // Called at the frontend.
  struct StreamEvents {
    std::function<void(const engine::TargetHello&)> connected;
    std::function<void(engine::CloneId, engine::CloneReply)> replied;
    std::function<void(bool)> space_changed;
    std::function<void(uint64_t)> ponged;
    std::function<void(engine::Result, std::string)> ended;  // at most once, last
  };
  class Stream;
  std::shared_ptr<Stream> Open(uint32_t frontend, uint32_t replica, v1::Fence fence,
                               uint64_t session, StreamEvents events);
  void Send(const std::shared_ptr<Stream>& stream, engine::Clone clone);
  void Ping(const std::shared_ptr<Stream>& stream, uint64_t ping);
  void SendDurablePoints(const std::shared_ptr<Stream>& stream,
                         engine::SendDurablePoints news);
  // The frontend has let go: it hears no more; what it has sent may still arrive.
  void LetGo(const std::shared_ptr<Stream>& stream);
  // The replica's process is gone: its streams end, some of them unheard.
  void ReplicaGone(uint32_t replica);
  void TellSpace(uint32_t replica);

 private:
  struct Link {
    Time to_replica_cut_until{};
    Time to_frontend_cut_until{};
    absl::Duration answer_delay;
  };
  // Of a replica.
  struct Halt {
    Time frozen_until{};
    Time syncs_hang_until{};
  };
  Link& LinkOf(uint32_t frontend, uint32_t replica);
  Halt& HaltOf(uint32_t replica);
  // When something that is sent to it now is looked at.
  Time Arrival(uint32_t replica);
  bool ReachesReplica(uint32_t frontend, uint32_t replica);
  bool ReachesFrontend(uint32_t frontend, uint32_t replica);
  absl::Duration Delay(uint32_t replica);
  // `arrive`(Stream&) runs at the other end, if the message gets there.
  template <typename Arrive>
  void Up(const std::shared_ptr<Stream>& stream, Arrive arrive);
  template <typename Arrive>
  void Down(const std::shared_ptr<Stream>& stream, Arrive arrive);
  void ServeHello(const std::shared_ptr<Stream>& stream, const v1::Fence& fence, uint64_t session);
  void Serve(const std::shared_ptr<Stream>& stream, const engine::Clone& clone);
  void EndFromReplica(const std::shared_ptr<Stream>& stream, const absl::Status& why);
  void Break(const std::shared_ptr<Stream>& stream);

  Agenda* const agenda_;
  Dice* const dice_;
  std::vector<std::unique_ptr<ReplicaNode>>* const replicas_;
  std::vector<std::vector<Link>> links_;  // by frontend, by replica
  std::vector<absl::Duration> replica_delay_;
  std::vector<Halt> halts_;  // by replica
  std::vector<std::weak_ptr<Stream>> streams_;
  uint64_t slow_per_mille_ = 0;
  uint64_t duplicate_per_mille_ = 0;
};

}  // namespace weir::sim

#endif  // WEIR_TESTS_SIM_NETWORK_H_
