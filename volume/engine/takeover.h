// Becoming the volume's frontend: DESIGN.md, "Takeover".
//
// A deterministic state machine like the engine, used once an attach. The
// membership is static: every in_sync member must be sealed.
//
//   Start -> COMMITTING_EPOCH -> SEALING -> LEVELLING -> TAKING_BASE
//         -> ACTIVATING -> DONE          (any state -> FAILED)
//
// What was interrupted is harmless at every step: the next takeover takes a
// higher epoch and starts over; only what was written under act_epoch counts.
//
// Thread-safety: none.
#ifndef WEIR_VOLUME_ENGINE_TAKEOVER_H_
#define WEIR_VOLUME_ENGINE_TAKEOVER_H_

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "proto/base/position.h"
#include "volume/engine/types.h"

namespace weir::engine {

struct TakeoverMember {
  std::string replica;
  std::string store_id;
  std::string boot_id;
  bool in_sync = true;
  bool stays_out = false;          // see TargetConfig
  std::vector<Position> left_at;   // see TargetConfig
};

// The part of the catalog's volume record that a takeover reads and writes.
struct TakeoverRecord {
  bool recovering = false;  // else ACTIVE
  Epoch epoch = 0;
  Epoch act_epoch = 0;
  std::string owner;
  std::vector<TakeoverMember> members;
  std::vector<Position> floor;  // by lane; empty: none yet
};

// --- effects. Member indices are those of the record's members ---
struct CommitRecord { TakeoverRecord record; };      // -> RecordCommitted
struct SealMember { uint32_t member = 0; absl::Duration delay; };  // -> MemberSealed
// Copy (from, to] of one lane.                      // -> LaneCopied
struct CopyLane {
  uint32_t source = 0;
  uint32_t target = 0;
  LaneId lane{};
  Position from;
  Position to;
  uint64_t source_incarnation = 0;
  uint64_t target_incarnation = 0;
};
struct TakeBaseOn {                                  // -> BaseTaken
  uint32_t member = 0;
  uint64_t incarnation = 0;
  std::vector<Position> expected;  // by lane
  Epoch act_epoch = 0;             // ends of later epochs leave the lineage
};
struct TakeoverDone { TakeoverRecord record; };
struct TakeoverFailed { absl::Status status; };

using TakeoverEffect = std::variant<CommitRecord, SealMember, CopyLane,
                                    TakeBaseOn, TakeoverDone, TakeoverFailed>;
using TakeoverEffects = std::vector<TakeoverEffect>;

class Takeover {
 public:
  // `record` as just read from the catalog; `owner` a nonce of this attempt.
  // After `deadline` members that still cannot be reached fail the takeover.
  Takeover(TakeoverRecord record, uint32_t lanes, std::string owner,
           absl::Duration deadline, Time now);

  void Start(TakeoverEffects& effects);
  // OK: committed. ABORTED: somebody else changed the record: this takeover
  // has lost. Else: could not be known even by reading back.
  void RecordCommitted(const absl::Status& status, Time now, TakeoverEffects& effects);
  void MemberSealed(uint32_t member, const absl::StatusOr<SealedState>& state,
                    Time now, TakeoverEffects& effects);
  void LaneCopied(const CopyLane& copy, const absl::Status& status, TakeoverEffects& effects);
  void BaseTaken(uint32_t member, const absl::Status& status, TakeoverEffects& effects);

 private:
  enum class State {
    kCommittingEpoch,  // until the catalog has the new epoch
    kSealing,          // until every in_sync member has promised it
    kLevelling,        // until every lane is equal on all members
    kTakingBase,       // until every member has taken and synced (epoch, 0)
    kActivating,       // until the catalog says ACTIVE
    kDone,
    kFailed,
  };
  void Fail(absl::Status status, TakeoverEffects& effects);
  void Level(TakeoverEffects& effects);
  void TakeBases(TakeoverEffects& effects);
  // Where `lane` ended within act_epoch, and whether it has such an end at all.
  absl::StatusOr<Position> EndWithinActEpoch(const SealedState::Lane& lane) const;

  TakeoverRecord record_;
  const uint32_t lanes_;
  const Time deadline_;
  State state_ = State::kCommittingEpoch;
  // By member, valid where sealed_ok_; a lane's position follows its copies.
  std::vector<SealedState> sealed_;
  std::vector<bool> sealed_ok_;
  uint32_t pending_ = 0;              // answers awaited in this state
};

}  // namespace weir::engine

#endif  // WEIR_VOLUME_ENGINE_TAKEOVER_H_
