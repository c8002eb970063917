// A frontend's process: the real takeover and the real engine, with the network and the catalog
// as its hands.
//
// Thread-safety: none.
#ifndef WEIR_TESTS_SIM_FRONTEND_H_
#define WEIR_TESTS_SIM_FRONTEND_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tests/sim/agenda.h"
#include "tests/sim/catalog_model.h"
#include "tests/sim/dice.h"
#include "tests/sim/network.h"
#include "volume/engine/deletion.h"
#include "volume/engine/engine.h"
#include "volume/engine/leftovers.h"
#include "volume/engine/replacement.h"
#include "volume/engine/takeover.h"

namespace weir::sim {

class Frontend {
 public:
  // Called as things happen; none may call back into the frontend at once.
  struct Events {
    std::function<void()> serving;                     // the takeover is done
    std::function<void(const absl::Status&)> refused;  // the attach has failed
    std::function<void(engine::CompleteRequest&)> completed;
    std::function<void(const engine::CompleteControl&)> control;
    std::function<void()> resumes;  // the engine is told to, now
    std::function<void()> deletes_leftover;  // a replica that is no member is asked to delete its copy
    // After each event of the engine.
    std::function<void(const engine::Effects&)> stepped;
  };
  struct Parts {
    Agenda* agenda = nullptr;
    Dice* dice = nullptr;
    Network* network = nullptr;
    CatalogModel* catalog = nullptr;
    std::vector<CatalogRecord>* copies = nullptr;  // of the record, by what replicas keep
    engine::Options engine;        // all but the epoch
    bool forgets = false;          // who has left for good is no member of the record any more, and what it has is deleted
    absl::Duration attach_deadline = absl::Seconds(5);
    absl::Duration give_up_after = absl::Milliseconds(400);
    std::function<void(std::string)> trace;  // empty: none
    std::function<bool()> overlay;           // whether the volume that it serves from now on is a clone; empty: it is none
  };

  Frontend(uint32_t index, Parts parts, Events events);

  // --- what an operator does ---
  // `restores`: a volume that is being restored, and no other one; else one that is not.
  void Attach(bool restores = false);
  bool attaching() const { return takeover_ != nullptr || reading_; }
  // It has an engine: fenced or not, it answers requests.
  bool serving() const { return engine_ != nullptr; }
  bool healthy() const { return engine_ != nullptr && !engine_->fenced(); }
  Epoch epoch() const { return record().volume.epoch; }
  void Submit(engine::Request request);
  void Suspend(engine::ControlId id, bool noflush, absl::Duration deadline);
  void Resume(engine::ControlId id);
  // As host/restore.cc. Between the two what is `in_lock` is to be submitted.
  void StartRestore(engine::ControlId id, absl::Duration deadline);
  void EndRestore(engine::ControlId id, absl::Duration deadline);
  // The record says from which pin it is restored; 0: not any more. ABORTED: another frontend has it.
  void MarkRestoring(uint64_t pin, std::function<void(absl::Status)> done);
  // The same of a volume that nobody has attached, else it is refused.
  void MarkUnattached(uint64_t pin, std::function<void(absl::Status)> done);
  // As host::RecordTeller::TellNow.
  void TellNow(std::function<void(absl::Status)> done);
  // `call` runs at a member; `done` is told what it returns, or that it could not be asked.
  void AskMember(uint32_t member, std::function<absl::Status(ReplicaNode&, const v1::Fence&)> call,
                 std::function<void(absl::Status)> done);
  // As host/attach.cc: suspended, then the record says so, then it is gone; or it goes on, with `resume`.
  // REQUIRES: !detaching().
  void Detach(engine::ControlId suspend, engine::ControlId resume, absl::Duration deadline);
  bool detaching() const { return detaching_.has_value(); }
  // The control is a detach's suspend.
  bool DetachesBy(engine::ControlId control) const { return detaching_ && detaching_->first == control; }
  void LoadTable(engine::ControlId id, engine::Table table);
  // As host/snapshots.cc. The control tells of the pin; then the record takes it.
  void TakeSnapshot(engine::ControlId id, uint64_t pin, absl::Duration deadline);
  void DropSnapshot(uint64_t pin);
  // As host/provision.cc. OK also if it was deleted before; else it may be begun anew. REQUIRES: !deleting().
  void Delete(std::function<void(absl::Status)> done);
  bool deleting() const { return deletion_.has_value(); }
  // As host/replace.cc: replica `node` takes the place of a member. Nothing, while something else is done with the members, or the
  // volume is suspended.
  void Replace(const std::string& member, uint32_t node, bool make_before_break);
  // A table of its own is on its way in: no operator suspends or resumes.
  bool replacing() const { return replacing_.has_value(); }
  // Who has been out for that long; empty: nobody.
  std::string LostMember(absl::Duration replace_after) const {
    return engine::LostMember(engine_->View(), replace_after, Clock());
  }
  // As host/expand.cc.
  void Grow(engine::ControlId id, uint64_t size_blocks);
  void LockRange(engine::ControlId id, BlockRange range);
  void UnlockRange();
  // EIO, to anything, since it was last connected.
  bool HasAnsweredError(uint32_t target) const {
    return target < sessions_.size() && sessions_[target].answered_error;
  }
  // ... and the session in which it did goes on.
  bool GoesOnAfterError(uint32_t target) const {
    return HasAnsweredError(target) && sessions_[target].stream != nullptr;
  }
  size_t targets() const { return sessions_.size(); }
  // Which replica a target's session is with.
  uint32_t node_of(engine::TargetId target) const { return IndexOf(sessions_[static_cast<size_t>(target)].config.replica); }
  // As its record says.
  uint64_t size_blocks() const { return record().volume.size_blocks; }
  const std::vector<Pin>& pins() const { return record().volume.pins; }
  // A change of the record is under way: it may have been read back, and what it shows goes with the change.
  bool commits() const { return !changes_.empty(); }
  uint64_t restoring() const { return record().restoring; }
  const std::vector<engine::TakeoverMember>& members() const { return record().volume.members; }
  const std::vector<FormerMember>& former() const { return record().former; }
  // REQUIRES: serving().
  const engine::Engine& engine() const { return *engine_; }

  // --- what happens to it ---
  // Everything of it is gone; it can attach anew at once.
  void Crash();
  // Nothing runs until then, and all that came in meanwhile comes then.
  void PauseUntil(Time until) { paused_until_ = until; }
  bool paused() const { return parts_.agenda->now() < paused_until_; }
  // Its clock runs at this rate of the true one.
  void set_clock_rate(double rate) { clock_rate_ = rate; }

 private:
  struct Session {
    uint64_t number = 0;  // raised by each connect and disconnect
    std::shared_ptr<Network::Stream> stream;
    engine::TargetConfig config;  // as it was told to connect
    bool connected = false;
    bool answered_error = false;
  };

  // Runs `what`() in this life, once it is not paused.
  template <typename What>
  void Later(absl::Duration delay, What what);
  template <typename What>
  void Enter(uint64_t life, What&& what);
  void Wait(Agenda::What what);
  void WakeUp();
  Time Clock() const;
  // Of strings and numbers.
  template <typename... Parts>
  void Trace(const Parts&... parts) const;

  // --- the takeover ---
  void TakeOver(CatalogRecord read);
  void CarryOutTakeover(const engine::TakeoverEffects& effects);
  void Seal(const engine::SealMember& seal);
  void Copy(const engine::CopyLane& copy, size_t nth);
  void Copied(const engine::CopyLane& copy, const absl::Status& status);
  void Wake(const std::string& attempt);
  bool IsAttempt(const std::string& attempt) const;
  void TakeBase(const engine::TakeBaseOn& take, size_t nth);
  void BaseTaken(uint32_t member, absl::Status status);
  // A copy of the record, as replicas keep it.
  store::RecordCopy CopyOf(const engine::TakeoverRecord& volume);
  void TellCopies();
  // Compare-and-swap; what cannot be known is read back.
  void Commit(HeldRecord* held, CatalogRecord next, std::function<void(absl::Status)> done);
  void Put(HeldRecord* held, std::function<void(absl::Status)> done);
  void ReadBack(HeldRecord* held, std::function<void(absl::Status)> done);
  const CatalogRecord& record() const { return held_.record(); }
  static v1::Fence FenceOf(const std::string& store_id, uint64_t incarnation, Epoch epoch);
  // Of a member of the record, by its place there.
  v1::Fence FenceOf(uint32_t member, uint64_t incarnation) const {
    return FenceOf(record().volume.members[member].store_id, incarnation, epoch());
  }
  uint32_t NodeOf(uint32_t member) const { return IndexOf(record().volume.members[member].replica); }
  v1::Fence FenceOf(const engine::TargetConfig& target, uint64_t incarnation) const {
    return FenceOf(target.store_id, incarnation, epoch());
  }
  // `node`: the replica's index.
  template <typename Result>
  void Call(uint32_t node, std::function<Result(ReplicaNode&)> call,
            std::function<void(Result)> done);

  // As host/frontend.h.
  bool IsElsewhere(const CatalogRecord& record) const;
  // --- deleting: frontend_delete.cc ---
  void DeleteNext();
  void MarkDeleting();
  void DeleteCopy(uint32_t member);
  void DeleteCopyThere(uint32_t member, const ReplicaNode::Told& told);
  void RemoveRecord();
  void EndDeletion(const absl::Status& status);

  // --- who is a member, for good: frontend_members.cc ---
  static CatalogRecord WithFormer(CatalogRecord record, const FormerMember& store);
  static CatalogRecord WithoutFormer(CatalogRecord record, const std::string& store_id);
  CatalogRecord WithMembers(CatalogRecord record, const engine::CommitMembers& commit) const;
  void ReplaceNext();
  void ReplaceNextOrEnd(const absl::Status& status);
  void AskToReplace();
  void EndReplacing(const std::string& why);
  void SwapIn();
  // Whether the control is one of SwapIn's.
  bool SwapStepDone(const engine::CompleteControl& control);
  void LookForLeftovers();
  void LeftoversNext();
  void LeftoversNextOrFailed(const absl::Status& status);
  void AskForCopy(const FormerMember& store);
  void ConfirmRecord();
  void DeleteLeftover(const FormerMember& store);

  // --- the engine ---
  void Serve();
  // `event`(engine, effects), then what the engine wants done.
  template <typename Event>
  void Feed(const char* name, const Event& event);
  template <typename Event>
  void FeedSession(uint32_t target, uint64_t number, const char* name, const Event& event);
  void CarryOut(engine::Effect& effect);
  void Connect(const engine::ConnectTarget& connect);
  void GiveUpConnecting(uint32_t target, uint64_t number);
  Network::StreamEvents EventsOf(uint32_t target, uint64_t number);
  void Disconnect(engine::TargetId target);
  void CommitMembers(const engine::CommitMembers& commit);
  void CheckEpoch();
  // One after the other, each on top of what the one before has left.
  using Change = std::function<CatalogRecord(CatalogRecord)>;
  void CommitChange(Change change, std::function<void(absl::Status)> done);
  void CommitNext();
  void PinIsSet(const engine::CompleteControl& control);
  void SuspendedToDetach(const engine::CompleteControl& control);
  void StayAttached(engine::ControlId resume);
  void HasRoom(const engine::CompleteControl& control);
  void DropPin(uint64_t pin);
  void JoinStep(const engine::RunJoinStep& step);
  void UpdateToBegin(const engine::RunJoinStep& step);
  void JoinCall(const engine::RunJoinStep& step);
  void CopyStep(const engine::RunJoinStep& step);
  void CopyFrom(const engine::RunJoinStep& step, const std::vector<BlockRange>& ranges);
  void CopyInto(const engine::RunJoinStep& step, store::VersionsPart part);
  void JoinStepDone(uint64_t step, engine::JoinStepResult result);
  void ArmTimer();

  const uint32_t index_;
  Parts parts_;
  Events events_;
  uint64_t life_ = 1;
  uint64_t attempts_ = 0;
  Time paused_until_{};
  std::deque<Agenda::What> waiting_;  // for its end
  double clock_rate_ = 1;

  bool reading_ = false;
  HeldRecord held_{{}};
  std::unique_ptr<engine::Takeover> takeover_;
  std::string attempt_;  // the owner that it writes into the record
  std::vector<engine::SealedState> sealed_;

  struct Deleting {
    HeldRecord held;                                           // as it was read, and changed since
    engine::Deletion decides{/*marked=*/false, /*members=*/0};  // of that
    std::function<void(absl::Status)> done;
  };
  std::optional<Deleting> deletion_;

  // One thing at a time is done with the members: a store is given a place, or what former ones have is deleted.
  struct Replacing {
    std::string member;
    engine::TargetConfig with;
    ReplicaNode::Told told;  // by its replica
    bool make_before_break = false;
    size_t nth = 0;                 // of engine::kReplaceSteps: is next
    int attempts = 0;
    engine::ControlId control{};    // of SwapIn's, that is awaited
    enum class Swap { kSuspends, kLoads, kResumes, kResumesAnyway } swap = Swap::kSuspends;
  };
  std::optional<Replacing> replacing_;
  struct LookingAtLeftovers {
    std::vector<FormerMember> stores;
    engine::Leftovers decides;
    ReplicaNode::Told told;  // by the replica of the one that is looked at
  };
  std::optional<LookingAtLeftovers> leftovers_;
  uint64_t own_controls_ = 0;

  std::unique_ptr<engine::Engine> engine_;
  engine::Effects spare_effects_;  // empty: their memory
  std::vector<Session> sessions_;  // by target
  std::deque<std::pair<Change, std::function<void(absl::Status)>>> changes_;  // the first one runs
  std::optional<std::pair<engine::ControlId, engine::ControlId>> detaching_;
  std::map<uint64_t, uint64_t> asked_pins_;   // by control
  std::map<uint64_t, uint64_t> asked_sizes_;  // by control
  std::vector<uint64_t> doubtful_pins_;      // the catalog may have them
  uint64_t next_session_ = 1;
  Time armed_ = absl::InfiniteDuration();
};

}  // namespace weir::sim

#endif  // WEIR_TESTS_SIM_FRONTEND_H_
