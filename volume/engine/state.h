// The engine's state, and the rules over it by subject:
//   dispatch.cc    the queue; writes, zeroes and discards; reads
//   barrier.cc     flushes, barriers, the engine's own flushing
//   suspend.cc     suspend, resume, table load and swap
//   restore.cc     what goes on while a suspended volume is restored
//   membership.cc  targets that connect, are lost, requeue, fail; fencing
//   leave.cc       members that leave by a catalog change; leases
//   join.cc        members that are brought back
//   slow.cc        members that are slow for long
//   pins.cc        pins and the size: what members are told of the volume
//   repair.cc      blocks that a member has damaged; scrub.cc finds them
//   stats.cc       what is counted, what is held and why
//   engine.cc      the events, time, the view
//
// Each event changes what it is about and then calls Settle(), which carries
// on whatever has become possible, until nothing more is.
#ifndef WEIR_VOLUME_ENGINE_STATE_H_
#define WEIR_VOLUME_ENGINE_STATE_H_

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "volume/engine/engine.h"
#include "volume/engine/flush_run.h"
#include "volume/engine/join.h"
#include "volume/engine/lane.h"
#include "volume/engine/op.h"
#include "volume/engine/scrub.h"
#include "volume/engine/state_data.h"
#include "volume/engine/stats.h"
#include "volume/engine/target.h"
#include "volume/engine/types.h"

namespace weir::engine {

class Engine::State : private StateData {
 public:
  State(Options options, Table table);

  // Sets the time and the place for effects of the event that follows.
  void Begin(Time now, Effects& effects);

  // engine.cc
  void ConnectAll();
  void Submit(Request request);
  void CloneCompleted(TargetId target, CloneId clone, CloneReply reply);
  void CheckAllDeadlines();
  Time NextTimer() const;
  EngineView View() const;
  Stats GetStats() const;  // stats.cc
  bool full() const;
  bool fenced() const { return fenced_; }
  void Settle();

  // membership.cc
  void TargetConnected(Target& target, const TargetHello& hello);
  void TargetLost(Target& target, Result result, std::string reason);
  void TargetSpaceChanged(Target& target, bool exhausted);
  void TargetPonged(Target& target, uint64_t ping);
  void EpochChecked(const absl::Status& status);
  void MembersCommitted(const absl::Status& status);

  // join.cc
  void JoinStepDone(uint64_t step, JoinStepResult result);

  // scrub.cc
  void StartScrub();
  // `why`: for people; empty: it has come to its end.
  void StopScrub(std::string why);

  // suspend.cc
  void Suspend(ControlId id, bool noflush, absl::Duration deadline);
  void Resume(ControlId id);
  void LoadTable(ControlId id, Table table);
  // restore.cc
  void StartRestore(ControlId id, absl::Duration deadline);
  void EndRestore(ControlId id, absl::Duration deadline);

  // pins.cc
  void SetPin(ControlId id, uint64_t pin, absl::Duration deadline);
  void DropPin(uint64_t pin);
  void Grow(ControlId id, uint64_t size_blocks);

  // dispatch.cc
  void LockRange(ControlId id, BlockRange range);
  void UnlockRange() { locked_.reset(); }

  Target* Find(TargetId id) {
    size_t slot = static_cast<size_t>(id);
    return slot < targets_.size() ? &targets_[slot] : nullptr;
  }

 private:
  // --- dispatch.cc ---
  // The queue is stopped: by a suspend (any but kActive) or by a barrier.
  bool stopped() const;
  bool Restores(const Request& request) const;  // so it may go all the same
  bool Dispatch();
  bool CanStartWrite() const;
  // It would write where somebody has locked.
  bool LockedOut(const Request& request) const;
  bool AdvanceLock();
  void StartOp(Request request);
  void StartWrite(Op& op);
  void StartRead(Op& op);
  bool PumpWrites(Target& target);
  void SendWrite(Target& target, Lane& lane, const WriteEntry& entry);
  void WriteCompleted(Target& target, const InflightClone& clone, CloneReply& reply);
  void AdvanceLane(LaneId id);
  void AdvanceAllLanes();
  void AdvanceCommitWaits(LaneId id, bool anybody);
  bool SendReads();
  Target* ChooseReader(const ReadFragment& fragment);
  bool SendRead(Op& op, uint32_t fragment);
  void ReadCompleted(Target& target, const InflightClone& clone, CloneReply& reply);
  void ReadFailed(Op& op, uint32_t fragment, Target& target, const CloneReply& reply);
  bool IsCommitted(const ReadFragment& fragment) const;
  void FinishRead(Op& op, uint32_t fragment);
  void FinishFragment(Op& op, uint32_t fragment);
  void Send(Target& target, Clone clone, InflightClone inflight);
  void EntryDone(WriteEntry& entry, Result result, const std::string& message);
  void FinishOp(Op& op);
  void Complete(Request& request, Result result, std::string message,
                std::vector<TargetError> errors);

  // --- barrier.cc ---
  bool AdvanceFlush();
  bool AdvanceBarrier();
  bool FailHeldFlushes();
  void StartRun(FlushRun::Purpose purpose);
  bool SendFlushClones(Target& target);
  void SendFlush(Target& target, uint32_t flush_nr, uint64_t run);
  void FlushCompleted(Target& target, const InflightClone& clone, CloneReply& reply);
  void NoteDurable(Target& target, const CloneReply& reply);
  bool CoversFlush(const Target& target, uint32_t flush_nr) const;
  void FinishRun();
  void RunEnded(Result result, std::vector<TargetError> errors);
  void RequeueRun(std::vector<FlushWaiter> waiters);
  void BarrierFlushed(Result result, std::vector<TargetError> errors);
  void EndBarrier(Result result, std::string message);
  bool HasTail() const;  // in the replay buffer, which a flush could let go
  bool AutoFlushDue() const;
  void TrimReplay();
  uint64_t SyncedByMembers(const Lane& lane) const;  // failed ones too
  void TellDurablePoints(const Target& target);

  // --- membership.cc ---
  void TakeHello(Target& target, const TargetHello& hello);
  void ApplyHello(Target& target, const TargetHello& hello);
  bool AwaitsEpochCheck() const;
  bool AdvanceEpochCheck();
  // `kind`: what the target would not do now.
  void Requeued(Target& target, RequestKind kind);
  void SetCannotFlush(Target& target, const std::string& reason);
  void StepFailed(Target& target, const absl::Status& status);
  void FailTarget(Target& target, Result result, std::string reason);
  void Condemn(Target& target);
  void Reconnect(Target& target, std::string reason, absl::Duration delay);
  void NoteUnanswered(Target& target);
  absl::Duration SilentFor(const Target& target) const;
  absl::Duration HeldFor(Target& target);
  Time OthersReadableUntil(const Target& target);
  void FailSilent(Target& target, std::string reason);
  bool OthersAnswer(const Target& target) const;
  // Trouble longer ago than that was another's.
  absl::Duration TroubleGap() const { return options_.requeue_deadline + 2 * options_.clone_deadline; }
  void DropSession(Target& target);
  void Fence(std::string reason);
  const Target* FirstCondemned() const;
  // Too few members: nothing is acknowledged until there are more.
  bool Held() const;
  bool HeldTooLong() const { return Held() && now_ - held_since_ >= options_.hold_deadline; }
  void CheckDeadlines(Target& target);
  void SetOverdue(Target& target);
  // Fails open writes on account of `target`: those that it lacks, of them only those with
  // FUA, or all.
  enum class Which { kLacking, kLackingFua, kAll };
  void FailOpenWrites(const Target& target, Which which, Result result, const std::string& reason);
  // Numbered, and not acknowledged for want of members.
  void FailHeldWrites();
  // With the last member that could complete them, open writes fail too.
  void FailWritesOfNobody();

  // --- leave.cc ---
  bool MayLeave(const Target& target) const;
  bool OthersAreAllThere(const Target& target) const;
  // Not while the volume is suspended, nor from when a noflush suspend begins.
  bool LeavesAreDecided() const {
    return IsRunning() || (phase_ == Phase::kSuspending && !noflush_);
  }
  void StayAfterAll(Target& target);
  bool IsSucceeded(const Target& target) const;  // by somebody who is a member
  void BreakOffJoinOfSucceeded();
  bool HasHope() const;
  void DecideWhoLeaves();
  bool AdvanceMembership();
  std::vector<Position> SyncedOn(const Target& target) const;
  void Commit(Table table);
  Table TableNow() const;
  void TakeOut(Target& target, std::string reason);
  // Who serves this epoch, and until when that is known.
  bool HasLeases() const;
  void NoteLease(Target& target, Time asked);
  bool AdvanceLeases();

  // --- slow.cc ---
  void NoteAnswer(Target& target, const InflightClone& clone);
  bool WindowIsOver() const { return now_ - window_begun_ >= options_.slow_window; }
  void EndWindow();
  void JudgeWindow(Target& target);
  void TakeOutSlow(Target& target);

  // --- join.cc ---
  bool AdvanceJoin();
  bool StartJoin();
  void RunStep(RunJoinStep step);
  // `but`: not these, a bit for each target.
  const Target* ChooseSource(uint64_t but) const;
  void JoinSealed(TargetId who, JoinStepResult& result);
  void CompareLanes();
  void LaneCompared(uint32_t lane, JoinStepResult& result);
  void BeginLanes();
  void BeginLane(uint32_t lane);
  void LaneBegun(uint32_t lane, const absl::Status& status);
  void ConnectJoiner();
  void JoinerConnected(const TargetHello& hello);
  void Copied(const Join::Awaited& of, const JoinStepResult& result);
  void CopyNext(absl::Duration delay);
  bool FlushJoiner();
  bool JoinerFlushed(Target& joiner, uint32_t flush_nr, CloneReply& reply);  // false: the join has failed
  bool HoldsUpClients(const Target& joiner) const;
  bool ClientsAreThere() const;
  bool NobodyElseHasIt(uint64_t damaged_on) const;
  absl::Duration RestBesideClients(uint64_t bytes_copied) const;
  void NoteCopied(Join::LanePlan& plan, const JoinStepResult& result);
  uint64_t BlocksOf(uint32_t lane) const { return BlocksBelow(lane, size_blocks_); }
  uint64_t BlocksBelow(uint32_t lane, uint64_t block) const;  // of the lane's, those before `block`
  bool Promote();
  // It is out again, as it was; tried again after a while.
  void FailJoin(std::string reason);
  std::vector<std::pair<LaneId, Position>> KeepAfter() const;

  // --- repair.cc ---
  // A read was answered by a member after others had it damaged.
  void NoteDamage(const ReadFragment& fragment);
  bool AdvanceRepair();
  void RepairDone(const JoinStepResult& result);

  // --- pins.cc ---
  // A barrier's pre-flush has made everything up to `positions` durable on every member.
  void StartPin(const std::vector<uint64_t>& positions);
  bool AdvancePin();
  // Ends those whose turn has not come in time.
  void FailLatePins();
  // What members are told has changed.
  void Changed(const char* what);
  bool AdvanceUpdates();
  void UpdateDone(Target& target, const JoinStepResult& result);
  void FillUpdate(RunJoinStep& step) const;
  // Who has not been told yet; null: nobody is waited for.
  const Target* FirstNotUpdated() const;
  bool AdvanceGrow();

  // --- scrub.cc ---
  bool AdvanceScrub();
  void ScrubFrom(uint64_t block);
  bool ClientsUseIt() const;
  bool ScrubStepDone(uint64_t step, JoinStepResult& result);  // false: it is no step of it
  void ScrubAnswered(const Scrub::Answers& answers);
  void ScrubFailed(const Scrub::Answer& answer);
  void CompareAnswers(const Scrub::Answers& answers);
  void CompareNext(uint64_t end, std::vector<uint64_t> newer);
  void BlockIsBad(uint64_t block, const BlockVerdict& verdict, const Scrub::Answers& answers,
                  const std::vector<const BlockDigest*>& digests);
  void AddDamage(Damage damage);
  void NoteFinding(std::string what);
  void ScrubRepaired(const Damage& damage, const absl::Status& status);

  // --- suspend.cc ---
  using Phase = EngineView::State;
  bool IsRunning() const { return phase_ == Phase::kActive || phase_ == Phase::kRestoring; }
  void BeginSuspend(ControlId id, bool noflush, absl::Duration deadline);
  bool AdvanceSuspend();
  void UndoSuspend(Result result, std::string message);
  void RefuseNow(ControlId id);  // says what is under way instead
  void SuspendFlushed(Result result, std::string why);
  void FinishResume();
  std::string WhyNotAdd(const TargetConfig& config) const;  // empty: it can be
  std::string WhyTooFew(const Table& table) const;          // empty: its members do without those that leave
  void Reactivate();
  void GoOn(Phase phase);  // from where nothing is sent
  void AnswerControl(Result result, std::string message);
  bool MayGoOnSending() const;

  // --- restore.cc ---
  bool AdvanceRestore();
  void GiveUpRestore(Result result, std::string message);

  // --- stats.cc ---
  void CountRun(const FlushRun& run, Result told);  // which has ended; `told`: what those who awaited it get
  // The barrier's; LeaveStage when it ends.
  void EnterStage(BarrierStage stage);
  void LeaveStage();
  void NoteDurablePoint(const FlushRun* run);
  std::optional<HoldReason> WhyAnswersWait() const;
  HoldReason WhyQueueWaits() const;
  void CountHeld(Stats* stats) const;

  uint64_t inflight_clones() const;
  void Emit(Effect effect) { effects_->push_back(std::move(effect)); }
};

}  // namespace weir::engine

#endif  // WEIR_VOLUME_ENGINE_STATE_H_
