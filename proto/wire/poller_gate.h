// One of gRPC's threads that run callbacks waits for events at a time, where the machine has few cores.
//
// gRPC 1.51 has two such threads at least ("nexting threads"). They share one epoll set, and whichever gets an event has the kernel
// wake the other one to wait on: where the processes of a volume share two cores, that is most of a small write's context switches.
#ifndef WEIR_PROTO_WIRE_POLLER_GATE_H_
#define WEIR_PROTO_WIRE_POLLER_GATE_H_

#include <atomic>
#include <cstdint>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "proto/base/steady.h"

namespace weir::wire {

// A turn that threads take to wait for events. Who got one keeps the turn while it works on it, since it will most likely be back
// before the next event; but a thread that is held up by it, as by a disk, loses the turn after kHeldUp to twice that.
// Thread-safety: safe.
class PollerGate {
 public:
  static constexpr absl::Duration kHeldUp = absl::Milliseconds(2);

  // Returns once this thread has the turn, and only then may it wait for events.
  void Enter();
  // It does not wait any more. `got_event`: it will work on one, then Enter again. Else the turn is another's.
  // REQUIRES: Enter has returned on this thread.
  void Leave(bool got_event);

 private:
  // Who has the turn, whether it waits for events, and how often that has changed.
  using State = uint64_t;

  void Await(uint32_t me);
  // A thread's own number, not 0.
  static uint32_t Me();

  std::atomic<State> state_{0};
  std::atomic<int> dozing_{0};  // who wait for the turn, and look no more whether its owner is held up
  absl::Mutex mutex_;
  SteadyCondVar changed_;
};

// From the first call on the callback threads of gRPC in this process wait by a PollerGate, if the machine has fewer than
// four cores: with more, two threads at work are worth more. Returns whether they do. Thread-safety: safe.
bool LetOnePollerWait();

// Exposed for the test: how often a thread of gRPC's has had its turn in this process.
uint64_t PollerTurns();

}  // namespace weir::wire

#endif  // WEIR_PROTO_WIRE_POLLER_GATE_H_
