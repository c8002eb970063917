// Becoming the volume's frontend: DESIGN.md, "Takeover".
//
// A deterministic state machine like the engine, used once an attach.
//
//   Start -> COMMITTING_EPOCH -> SEALING -> LEVELLING -> TAKING_BASE
//         -> AWAITING_LEASE -> ACTIVATING -> DONE          (any state -> FAILED)
//
// A member that cannot be reached, or does not have what it must have, is
// given up: out of the volume, to be brought back later. One good member is
// enough, since each has all that was flushed; fewer than min_in_sync are
// taken only at the deadline. One that was given up unsealed may still answer
// the frontend before, so its lease must pass first.
//
// What was interrupted is harmless at every step: the next takeover takes a
// higher epoch and starts over; only what was written under act_epoch counts.
//
// Thread-safety: none.
#ifndef WEIR_VOLUME_ENGINE_TAKEOVER_H_
#define WEIR_VOLUME_ENGINE_TAKEOVER_H_

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "proto/base/position.h"
#include "volume/engine/types.h"

namespace weir::engine {

// Where a lane's part of `epoch` ends. Nothing: it has none.
std::optional<Position> EndIn(Epoch epoch, const SealedState::Lane& lane);

struct TakeoverMember {
  std::string replica;
  std::string store_id;
  std::string boot_id;
  bool in_sync = true;
  bool stays_out = false;          // see TargetConfig
  std::vector<Position> left_at;   // see TargetConfig
  std::string succeeds;            // see TargetConfig; a takeover carries it along

  friend bool operator==(const TakeoverMember&, const TakeoverMember&) = default;
};

// The part of the catalog's volume record that a takeover reads and writes.
struct TakeoverRecord {
  bool recovering = false;  // else ACTIVE
  Epoch epoch = 0;
  Epoch act_epoch = 0;
  std::string owner;
  std::vector<TakeoverMember> members;
  std::vector<Position> floor;  // by lane; empty: none yet
  uint32_t min_in_sync = 1;
  std::vector<Pin> pins;      // at or below the floor
  uint64_t size_blocks = 0;
  // The oldest epoch since whose activation nothing that was acknowledged or read has been lost: a
  // client of it, or of a later one, that lives on may go on. 0: none yet.
  Epoch intact_since = 0;
  bool detached = false;        // no frontend has served since a clean detach
  // Of the frontend of act_epoch: how long after a member was sealed it may still read from
  // others. Infinite: not known, or for ever.
  absl::Duration lease = absl::InfiniteDuration();

  friend bool operator==(const TakeoverRecord&, const TakeoverRecord&) = default;
};

struct TakeoverOptions {
  uint32_t lanes = 1;
  std::string owner;  // a nonce of this attempt
  // For members that cannot be reached while there are min_in_sync without them; else `deadline`.
  absl::Duration give_up_after = absl::Seconds(2);
  absl::Duration deadline = absl::Seconds(30);
  // The clients of earlier epochs are gone, or must not go on: none of them may.
  bool fresh = false;
  // What this frontend's engine will hold to.
  absl::Duration lease = absl::InfiniteDuration();
};

// --- effects. Member indices are those of the record's members ---
struct CommitRecord { TakeoverRecord record; };      // -> RecordCommitted
struct SealMember { uint32_t member = 0; absl::Duration delay; };  // -> MemberSealed
// Copies (from, to] of one lane.
struct CopyLane {                                    // -> LaneCopied
  // One after the other, until one fails. The copy is of the record as it is: the target gives up what an epoch that never
  // served has left there, of which it may have a copy, and would be taken for who has lost something; see rebuild.h.
  enum class Call { kKeepRecord, kCopyTail };
  static constexpr Call kCalls[] = {Call::kKeepRecord, Call::kCopyTail};
  uint32_t source = 0;
  uint32_t target = 0;
  LaneId lane{};
  Position from;
  Position to;
  Position expected;  // where the target is: `from`, or a base that was taken there in vain
  uint64_t source_incarnation = 0;
  uint64_t target_incarnation = 0;
};
struct TakeBaseOn {                                  // -> BaseTaken
  // One after the other, until one fails. First it is told the record's size and pins, and no others: what an attempt that
  // never reached the record has left goes with that. Last it gets a copy of what the record will be; see rebuild.h.
  enum class Call { kUpdateVolume, kTakeBase, kKeepRecord };
  static constexpr Call kCalls[] = {Call::kUpdateVolume, Call::kTakeBase, Call::kKeepRecord};
  uint32_t member = 0;
  uint64_t incarnation = 0;
  std::vector<Pin> pins;
  uint64_t size_blocks = 0;
  std::vector<Position> expected;  // by lane
  Epoch act_epoch = 0;             // ends of later epochs leave the lineage
  TakeoverRecord next;             // if no other member is given up meanwhile
};
// It is out of the volume; for the log.
struct GiveUpMember {
  uint32_t member = 0;
  std::string reason;
};
struct WaitFor { absl::Duration delay; };            // -> Woken
struct TakeoverDone { TakeoverRecord record; };
struct TakeoverFailed { absl::Status status; };

using TakeoverEffect = std::variant<CommitRecord, SealMember, CopyLane,
                                    TakeBaseOn, GiveUpMember, WaitFor, TakeoverDone,
                                    TakeoverFailed>;
using TakeoverEffects = std::vector<TakeoverEffect>;

class Takeover {
 public:
  // `record` as just read from the catalog.
  Takeover(TakeoverRecord record, TakeoverOptions options, Time now);

  void Start(TakeoverEffects& effects);
  // OK: committed. ABORTED: somebody else changed the record: this takeover
  // has lost. Else: could not be known even by reading back.
  void RecordCommitted(const absl::Status& status, Time now, TakeoverEffects& effects);
  // Also of a member that was given up meanwhile: it may know that the record is an old one.
  void MemberSealed(uint32_t member, const absl::StatusOr<SealedState>& state,
                    Time now, TakeoverEffects& effects);
  void LaneCopied(const CopyLane& copy, const absl::Status& status, Time now,
                  TakeoverEffects& effects);
  void BaseTaken(uint32_t member, const absl::Status& status, Time now,
                 TakeoverEffects& effects);
  void Woken(Time now, TakeoverEffects& effects);

 private:
  enum class State {
    kCommittingEpoch,  // until the catalog has the new epoch
    kSealing,          // until every in_sync member has promised it, or was given up
    kLevelling,        // until every lane is equal on all members
    kTakingBase,       // until every member has taken and synced (epoch, 0)
    kAwaitingLease,    // until the frontend before cannot read any more
    kActivating,       // until the catalog says ACTIVE
    kDone,
    kFailed,
  };
  struct Member {
    enum class State {
      kOut,      // by the record, or given up
      kAwaited,  // its seal is
      kGood,     // sealed, and has all that it must have
    } state = State::kOut;
    SealedState sealed;          // kGood; a lane's position follows its copies
    std::vector<Position> ends;  // kGood: by lane, within act_epoch
    absl::Status last_error;     // kAwaited
  };

  bool Good(uint32_t member) const { return members_[member].state == Member::State::kGood; }
  uint32_t Count(Member::State state) const;
  uint32_t enough() const { return record_.min_in_sync > 1 ? record_.min_in_sync : 1; }
  bool MayGiveUpUnsealed() const;
  // All that was acknowledged under act_epoch is there, flushed or not.
  bool NothingLost() const;
  void GiveUp(uint32_t member, absl::Status why, TakeoverEffects& effects);
  // Fails if too few would be left; `what` has gone wrong.
  void GiveUpOrFail(uint32_t member, const absl::Status& status, const std::string& what,
                    TakeoverEffects& effects);
  void EndSealing(Time now, TakeoverEffects& effects);
  void Level(Time now, TakeoverEffects& effects);
  void TakeBases(Time now, TakeoverEffects& effects);
  TakeoverRecord WhenActive() const;
  void Activate(Time now, TakeoverEffects& effects);
  void Fail(absl::Status status, TakeoverEffects& effects);
  // ESTALE: the member has writes of an epoch in which nobody served by the record.
  absl::Status CheckRecordIsNotOlder(const TakeoverMember& member, const SealedState& state) const;
  // Notes where its lanes ended. Not OK: it must not be a member any more.
  absl::Status Examine(const TakeoverMember& known, Member& member) const;
  // Where `lane` ended within act_epoch, and whether it has such an end at all.
  absl::StatusOr<Position> EndWithinActEpoch(const SealedState::Lane& lane) const;

  TakeoverRecord record_;
  const TakeoverOptions options_;
  const bool nobody_serves_;
  const Time begun_;
  State state_ = State::kCommittingEpoch;
  Time sealing_since_{};
  std::vector<Member> members_;
  absl::Status first_refusal_;        // why a member was given up
  bool may_be_served_ = false;        // by a member that was given up unsealed
  Time first_sealed_ = absl::InfiniteDuration();
  uint32_t pending_ = 0;              // answers awaited in this state
};

}  // namespace weir::engine

#endif  // WEIR_VOLUME_ENGINE_TAKEOVER_H_
