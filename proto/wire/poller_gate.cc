#include "proto/wire/poller_gate.h"

#include <grpc/grpc.h>
#include <grpc/support/cpu.h>
#include <grpc/support/time.h>
#include <sys/prctl.h>

#include <cstring>

#include "proto/base/call_redirect.h"
#include "proto/base/log.h"

namespace weir::wire {
namespace {

constexpr int kTicksUntilDoze = 3;
constexpr unsigned kCoresMax = 3;
// As gRPC's own, which then lets its other threads poll for a moment.
constexpr int kIdleMs = 1000;

constexpr uint64_t kWaits = 1;
constexpr int kOwnerShift = 1;
constexpr int kStepShift = 32;

uint32_t OwnerOf(uint64_t state) { return static_cast<uint32_t>(state) >> kOwnerShift; }
uint64_t Next(uint64_t state, uint32_t owner, uint64_t waits) {
  return (((state >> kStepShift) + 1) << kStepShift) | (uint64_t{owner} << kOwnerShift) | waits;
}

std::atomic<uint64_t> turns{0};

bool IsCallbackThread() {
  static thread_local const bool is = [] {
    char name[16] = {};
    return prctl(PR_GET_NAME, name) == 0 && std::strcmp(name, "nexting_thread") == 0;
  }();
  return is;
}

// In the place of grpc_completion_queue_next.
grpc_event NextByTurns(grpc_completion_queue* queue, gpr_timespec deadline, void* reserved) {
  static auto* const gate = new PollerGate;
  if (!IsCallbackThread()) return grpc_completion_queue_next(queue, deadline, reserved);
  gate->Enter();
  turns.store(turns.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);  // nobody else has the turn
  // The deadline was counted from before the turn came.
  const grpc_event event = grpc_completion_queue_next(
      queue, gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), gpr_time_from_millis(kIdleMs, GPR_TIMESPAN)), reserved);
  gate->Leave(event.type == GRPC_OP_COMPLETE);
  return event;
}

}  // namespace

uint32_t PollerGate::Me() {
  static std::atomic<uint32_t> threads{0};
  static thread_local const uint32_t me = (threads.fetch_add(1) + 1) & 0x7fffffff;
  return me;
}

void PollerGate::Enter() {
  const uint32_t me = Me();
  State state = state_.load(std::memory_order_acquire);
  if (OwnerOf(state) == me && state_.compare_exchange_strong(state, Next(state, me, kWaits))) return;
  Await(me);
}

void PollerGate::Await(uint32_t me) {
  absl::MutexLock lock(&mutex_);
  State seen = state_.load();
  absl::Duration seen_at = SteadyNow();
  int ticks = 0;
  for (;;) {
    State state = state_.load();
    const bool held_up = state == seen && (state & kWaits) == 0 && SteadyNow() - seen_at >= kHeldUp;
    if (OwnerOf(state) == 0 || held_up) {
      if (state_.compare_exchange_strong(state, Next(state, me, kWaits))) return;
      continue;
    }
    if (state != seen) {
      seen = state;
      seen_at = SteadyNow();
      ticks = 0;
    }
    if ((seen & kWaits) == 0 || ++ticks <= kTicksUntilDoze) {
      changed_.WaitFor(&mutex_, kHeldUp);
      continue;
    }
    // Its owner waits, as this process is idle: it says when it has something to do again.
    dozing_.fetch_add(1);
    if (state_.load() == seen) changed_.Wait(&mutex_);
    dozing_.fetch_sub(1);
    ticks = 0;
  }
}

void PollerGate::Leave(bool got_event) {
  const State state = state_.load(std::memory_order_relaxed);  // nobody else changes it while its owner waits
  state_.store(Next(state, got_event ? Me() : 0, 0));
  if (got_event && dozing_.load() == 0) return;
  absl::MutexLock lock(&mutex_);
  changed_.SignalAll();
}

bool LetOnePollerWait() {
  static const bool done = [] {
    // gRPC's threads may run already. One that waits just now does so beside the others until it has an event or a second has passed.
    if (gpr_cpu_num_cores() > kCoresMax) return false;
    if (RedirectCall("libgrpc++.so", "grpc_completion_queue_next", reinterpret_cast<void*>(&NextByTurns))) return true;
    LOG(INFO) << "this gRPC does not wait for events as 1.51 does; small requests may be slower";
    return false;
  }();
  return done;
}

uint64_t PollerTurns() { return turns.load(); }

}  // namespace weir::wire
