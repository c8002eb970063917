// One attached volume: its engine, its mutex, its sessions.
//
// An event (a request, a reply, a timer) takes the mutex, runs the engine and
// appends the effects to one queue. Effects must be carried out in order and
// without the mutex, so whoever finds no dispatcher at work becomes the
// dispatcher: it takes the whole queue, lets go of the mutex, carries the
// effects out, and looks again until the queue is empty. The others return at
// once; their effects go out in the dispatcher's next round, all clones of
// one round and target as one frame. So nothing is handed to another thread
// unless two threads bring events at the same time, and then one works for both.
// A dispatcher that finds no end of it passes the rest to the background
// queue, since it may be a client's own thread.
//
// A session is known by its target and its number. Every effect that ends or
// replaces a session raises the number the moment the engine gave it, so that
// an answer which is still under way from the old session never reaches the
// engine.
//
// Thread-safety: all methods, any thread. Callbacks run without the mutex.
//
// Life: shared by the host, its users and the sessions' events (weakly). After
// Stop it answers every request with ESTALE.
#ifndef WEIR_VOLUME_HOST_VOLUME_RUNNER_H_
#define WEIR_VOLUME_HOST_VOLUME_RUNNER_H_

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "volume/engine/engine.h"
#include "volume/engine/stats.h"
#include "volume/engine/types.h"
#include "volume/engine/view.h"
#include "volume/host/host.h"
#include "volume/host/join_runner.h"
#include "volume/host/metrics.h"
#include "volume/host/parent_reader.h"
#include "volume/host/parent_reads.h"
#include "volume/host/replica_channel.h"
#include "volume/host/slow_log.h"
#include "volume/host/target_session.h"
#include "volume/host/timer.h"
#include "volume/host/tracer.h"
#include "volume/host/work_queue.h"

namespace weir::host {

class VolumeRunner final : public HostedVolume,
                           public std::enable_shared_from_this<VolumeRunner> {
 public:
  struct Config {
    std::string name;
    uint64_t id = 0;
    std::string cluster_id;
    std::string frontend;  // host:pid, for the replicas' logs
    uint32_t intact_since = 0;  // see v1.VolumeOpened
    engine::Options engine;
    engine::Table table;
    uint64_t unanswered_bytes_max = 32 << 20;  // see AwaitRoom
    absl::Duration connect_deadline = absl::Seconds(5);
    absl::Duration slow_request_log = absl::InfiniteDuration();  // see HostOptions
    // Carries it out, and blocks for that; runs on `catalog`.
    std::function<absl::Status(const engine::CommitMembers&)> commit_members;
    // The same for engine::CheckEpoch.
    std::function<absl::Status()> check_epoch;
    // All outlive the runner's Stop.
    Timer* timer = nullptr;
    WorkQueue* background = nullptr;
    WorkQueue* catalog = nullptr;
    WorkQueue* joins = nullptr;
    WorkQueue* parents = nullptr;  // reads from a clone's parent, which block
    std::shared_ptr<ParentReader> parent;  // of a clone, else null
    ReplicaChannels* channels = nullptr;
    Metrics* metrics = nullptr;
  };

  // Begins to connect at once.
  static std::shared_ptr<VolumeRunner> Start(Config config);
  ~VolumeRunner() override;

  // HostedVolume.
  const std::string& name() const override { return config_.name; }
  uint64_t size_bytes() const override { return size_bytes_; }
  uint32_t epoch() const override { return config_.engine.epoch; }
  uint32_t intact_since() const override { return config_.intact_since; }
  bool flush_supported() const override { return flush_supported_; }
  void Submit(IoRequest request, IoCallback done) override;
  bool AwaitRoom(const std::function<void()>& resume) override;
  std::shared_ptr<Tracer> tracer() override { return tracer_; }

  // All of these block. The errors of engine.h as statuses. All but the detach's are
  // FAILED_PRECONDITION while the volume is being detached: a resume after the
  // detach's flush would let writes be acknowledged that nothing flushes. An operator's are
  // UNAVAILABLE while a member's place is given away: the suspend is not theirs to end, and ends without them.
  enum class Caller { kOperator, kHost, kDetach, kReplace };
  absl::Status Suspend(bool noflush, absl::Duration deadline,
                       Caller caller = Caller::kOperator);
  absl::Status Resume(Caller caller = Caller::kOperator);
  absl::Status LoadTable(engine::Table table, Caller caller = Caller::kOperator);
  // See engine.h. Between the two, requests that are `in_lock` are taken ahead of all that clients have sent.
  absl::Status StartRestore(absl::Duration deadline);
  absl::Status EndRestore(absl::Duration deadline, Caller caller = Caller::kHost);
  // Blocks until no write to the range is under way; then only those that are `in_lock` begin.
  absl::Status LockRange(BlockRange range);
  void UnlockRange();
  // It is a clone no more: it has all that its parent has.
  void DropParent();
  std::shared_ptr<ParentReader> parent() const;
  // OK once every member has room for it. Clients do not see it before set_size_bytes.
  absl::Status Grow(uint64_t size_blocks);
  void set_size_bytes(uint64_t size_bytes) { size_bytes_ = size_bytes; }
  // Sets the pin and answers where it is. DEADLINE_EXCEEDED: not every member could be told, or its turn
  // did not come before `deadline`; nobody keeps it.
  absl::StatusOr<Pin> SetPin(uint64_t pin, absl::Duration deadline);
  // Does not block. What the engine does not know is no pin.
  void DropPin(uint64_t pin);
  void set_detaching(bool detaching);
  // To give a member's place away; EndReplace is called once that is over. FAILED_PRECONDITION unless it is active:
  // what it waits for then is somebody's decision.
  absl::Status BeginReplace();
  void EndReplace();
  // Begins a scrub, or ends the one that runs. FAILED_PRECONDITION: stopped.
  absl::Status Scrub(bool stop);

  void set_flush_supported(bool supported) { flush_supported_ = supported; }
  // As the engine sees itself; fenced and empty after Stop.
  engine::EngineView View() const;
  // What it counts; none after Stop.
  std::optional<engine::Stats> Stats() const;
  bool fenced() const;
  // Whether a request has been unanswered for so long; not a read of a clone whose parent is being asked, since these calls have
  // deadlines of their own.
  bool HasWaited(absl::Duration wait) const;

  // Lets go: the engine is gone, unanswered requests are answered with ESTALE
  // and `reason`. Returns when every session's stream is gone. Idempotent; not to be
  // called from a callback.
  void Stop(const std::string& reason);

 private:
  struct PendingRequest {
    IoCallback done;
    engine::RequestKind kind = engine::RequestKind::kRead;
    uint64_t bytes = 0;
    engine::Time submitted{};
    uint64_t first_block = 0;
    std::shared_ptr<ParentReader> parent;  // whom it falls through to; null: nobody
    engine::Time admitted{};  // the engine took it
    uint64_t sample = 0;    // see Tracer::Submitted
  };
  struct PendingControl {
    bool done = false;
    absl::Status status;
    std::vector<Position> pinned;
  };
  // Which session of a target the engine may hear of.
  struct TargetSlot {
    uint64_t session = 0;  // raised by each ConnectTarget and DisconnectTarget
    bool lost = false;     // the engine knows that it has ended
  };
  // What the dispatcher takes in one round: the effects, and in their order
  // the requests that they complete.
  struct Round {
    engine::Effects effects;
    std::vector<PendingRequest> completed;
    size_t next_completed = 0;
    std::vector<std::function<void()>> resumed;  // there is room for them
  };

  explicit VolumeRunner(Config config);

  // Runs `event(engine, now, effects)`, then dispatches unless somebody does.
  // Without an engine (stopped) nothing runs: false.
  template <typename Event>
  bool Run(Event event) ABSL_LOCKS_EXCLUDED(mu_);
  // The same for an event of a session, unless that is no longer current.
  template <typename Event>
  void RunForSession(engine::TargetId target, uint64_t session, Event event)
      ABSL_LOCKS_EXCLUDED(mu_);
  absl::Status WhyNotNow(Caller caller) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // `pinned`, if given: where a pin was set.
  absl::Status RunControl(
      Caller caller,
      const std::function<void(engine::Engine&, engine::ControlId,
                               engine::Time, engine::Effects&)>& start,
      std::vector<Position>* pinned = nullptr);

  void SubmitLocked(engine::Request request, PendingRequest pending,
                    engine::Time now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // After each event: notes ended sessions, arms the timer, admits held
  // requests. `before`: how many effects there were.
  void AfterEventLocked(size_t before, engine::Time now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void NoteEffectsLocked(size_t before) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void AdmitHeldLocked(engine::Time now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void ArmTimerLocked(engine::Time now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void ArmLocked(engine::Time when) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  bool BecomeDispatcherLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void TimerFired(engine::Time armed);

  // Ends what clients, callers and replicas still wait for.
  void AppendLastEffectsLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void StartSession(TargetSession& session) ABSL_LOCKS_EXCLUDED(mu_);
  void SessionGone() ABSL_LOCKS_EXCLUDED(mu_);

  // Of the dispatcher.
  void Dispatch() ABSL_LOCKS_EXCLUDED(mu_);
  bool TakeRound(Round* round) ABSL_LOCKS_EXCLUDED(mu_);
  void CarryOut(Round& round, engine::Effect& effect);
  // While there are requests, what they are held for is looked at now and then.
  void ArmLookLocked(engine::Time now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void LookForSlowLog() ABSL_LOCKS_EXCLUDED(mu_);
  // Tells whoever watches.
  void Observe(const PendingRequest& request, const engine::Result& result, engine::Time now);
  void Complete(engine::CompleteRequest& done, PendingRequest request);
  // As of when it is submitted: a read that is overtaken by the end of a flattening may have found nothing before the copy came.
  std::shared_ptr<ParentReader> FallsThroughTo(const IoRequest& request) const;
  // What a clone has nothing of, from its parent, which takes a while. False: nothing is to be done.
  bool CompleteFromParent(IoOutcome& outcome, PendingRequest& request);
  void HoldBytes(uint64_t bytes) ABSL_LOCKS_EXCLUDED(mu_);
  void ReleaseBytes(uint64_t bytes) ABSL_LOCKS_EXCLUDED(mu_);
  void LogScrub(const engine::ReportScrub& report) const;
  void Connect(const engine::ConnectTarget& connect);
  TargetSession::Config SessionConfig(const engine::TargetConfig& target) const;
  TargetSession::Events SessionEvents(engine::TargetId id, uint64_t session);
  void Disconnect(const engine::DisconnectTarget& disconnect);
  using CatalogAnswer = void (engine::Engine::*)(absl::Status, engine::Time, engine::Effects&);
  void AskCatalog(std::function<absl::Status()> ask, CatalogAnswer answer);
  void FinishControl(const engine::CompleteControl& done);
  // Starts or continues the frames of the targets that this round touched.
  void KickSessions();

  const Config config_;
  const Metrics::Volume volume_metrics_;
  const std::shared_ptr<JoinRunner> joins_;
  const std::shared_ptr<Tracer> tracer_ = std::make_shared<Tracer>();
  const std::shared_ptr<SlowLog> slow_log_;
  std::atomic<bool> flush_supported_{true};
  std::atomic<uint64_t> size_bytes_;
  mutable absl::Mutex parent_mu_;
  std::shared_ptr<ParentReader> parent_ ABSL_GUARDED_BY(parent_mu_);
  const std::shared_ptr<ParentReads> parent_reads_;

  mutable absl::Mutex mu_;
  std::unique_ptr<engine::Engine> engine_ ABSL_GUARDED_BY(mu_);  // null: stopped
  std::string stop_reason_ ABSL_GUARDED_BY(mu_);
  engine::Effects effects_ ABSL_GUARDED_BY(mu_);  // not yet taken by a dispatcher
  bool dispatching_ ABSL_GUARDED_BY(mu_) = false;
  bool looking_ ABSL_GUARDED_BY(mu_) = false;  // LookForSlowLog will be called
  engine::Time armed_ ABSL_GUARDED_BY(mu_) = absl::InfiniteDuration();
  absl::flat_hash_map<engine::TargetId, TargetSlot> slots_ ABSL_GUARDED_BY(mu_);
  // Requests by id; free entries are reused, so that none is allocated.
  std::vector<PendingRequest> requests_ ABSL_GUARDED_BY(mu_);
  std::vector<uint32_t> free_requests_ ABSL_GUARDED_BY(mu_);
  // Beyond what the engine takes; see Engine::full().
  std::deque<std::pair<engine::Request, PendingRequest>> held_
      ABSL_GUARDED_BY(mu_);
  // Data of all requests above; changed under mu_.
  std::atomic<uint64_t> unanswered_bytes_{0};
  std::vector<std::function<void()>> awaiting_room_ ABSL_GUARDED_BY(mu_);
  std::map<uint64_t, std::shared_ptr<PendingControl>> controls_
      ABSL_GUARDED_BY(mu_);
  bool detaching_ ABSL_GUARDED_BY(mu_) = false;
  bool replacing_ ABSL_GUARDED_BY(mu_) = false;
  uint64_t next_control_ ABSL_GUARDED_BY(mu_) = 1;
  uint64_t live_sessions_ ABSL_GUARDED_BY(mu_) = 0;  // `ended` still to come

  // Only the dispatcher touches these; dispatchers follow each other under mu_.
  struct DispatchedTarget {
    uint64_t session = 0;  // as TargetSlot::session, by the same effects
    std::shared_ptr<TargetSession> stream;
    bool kick = false;
  };
  std::map<engine::TargetId, DispatchedTarget> dispatched_;
};

}  // namespace weir::host

#endif  // WEIR_VOLUME_HOST_VOLUME_RUNNER_H_
