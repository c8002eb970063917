#include "volume/engine/takeover.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/base/check.h"

namespace weir::engine {
namespace {

// Between two attempts to seal a member that cannot be reached.
constexpr absl::Duration kSealRetryDelay = absl::Milliseconds(200);

bool MayPass(const absl::Status& status) {
  return absl::IsUnavailable(status) || absl::IsDeadlineExceeded(status);
}

}  // namespace

Takeover::Takeover(TakeoverRecord record, uint32_t lanes, std::string owner,
                   absl::Duration deadline, Time now)
    : record_(std::move(record)),
      lanes_(lanes),
      deadline_(now + deadline),
      sealed_(record_.members.size()),
      sealed_ok_(record_.members.size(), false) {
  record_.owner = std::move(owner);
}

void Takeover::Start(TakeoverEffects& effects) {
  if (record_.epoch >= Position::kEpochMax) {
    return Fail(absl::ResourceExhaustedError("the volume has used up its epochs"),
                effects);
  }
  record_.epoch += 1;
  record_.recovering = true;
  effects.push_back(CommitRecord{record_});
}

void Takeover::RecordCommitted(const absl::Status& status, Time now,
                               TakeoverEffects& effects) {
  if (state_ != State::kCommittingEpoch && state_ != State::kActivating) return;
  if (!status.ok()) return Fail(status, effects);
  if (state_ == State::kActivating) {
    state_ = State::kDone;
    effects.push_back(TakeoverDone{record_});
    return;
  }
  state_ = State::kSealing;
  for (uint32_t i = 0; i < record_.members.size(); ++i) {
    if (!record_.members[i].in_sync) continue;
    ++pending_;
    effects.push_back(SealMember{i, absl::ZeroDuration()});
  }
  if (pending_ == 0) {
    Fail(absl::FailedPreconditionError("the volume has no member in sync"),
         effects);
  }
}

void Takeover::MemberSealed(uint32_t member,
                            const absl::StatusOr<SealedState>& state, Time now,
                            TakeoverEffects& effects) {
  if (state_ != State::kSealing || sealed_ok_[member]) return;
  const TakeoverMember& known = record_.members[member];
  if (!state.ok()) {
    if (MayPass(state.status()) && now + kSealRetryDelay < deadline_) {
      effects.push_back(SealMember{member, kSealRetryDelay});
      return;
    }
    absl::Status status(
        state.status().code(),
        absl::StrCat("replica ", known.replica, " could not be sealed: ",
                     state.status().message(),
                     MayPass(state.status())
                         ? "; every replica in sync is needed to attach, start it"
                         : ""));
    return Fail(std::move(status), effects);
  }
  if (state->store_id != known.store_id) {
    return Fail(absl::FailedPreconditionError(absl::StrCat(
                    "replica ", known.replica, " answers with store ",
                    state->store_id, " but the volume is on store ",
                    known.store_id, "; give it its own data directories back")),
                effects);
  }
  if (state->lanes.size() != lanes_) {
    return Fail(absl::DataLossError(absl::StrCat(
                    "replica ", known.replica, " has ", state->lanes.size(),
                    " lanes of ", lanes_)),
                effects);
  }
  sealed_[member] = *state;
  sealed_ok_[member] = true;
  if (--pending_ == 0) Level(effects);
}

absl::StatusOr<Position> Takeover::EndWithinActEpoch(
    const SealedState::Lane& lane) const {
  const Epoch act = record_.act_epoch;
  if (lane.position.epoch() == act) return lane.position;
  for (const LineageEntry& entry : lane.lineage) {
    if (entry.epoch == act) return Position(act, entry.n);
  }
  // A volume that never was ACTIVE holds nothing that counts.
  if (act == 0) return Position();
  return absl::DataLossError(absl::StrCat(
      "is at ", lane.position.ToString(), " and has no part in epoch ", act,
      ", the last one that served: its store was replaced by an older copy"));
}

void Takeover::Level(TakeoverEffects& effects) {
  state_ = State::kLevelling;
  const size_t members = record_.members.size();
  std::vector<CopyLane> copies;
  for (uint32_t lane = 0; lane < lanes_; ++lane) {
    std::vector<Position> ends(members);
    uint32_t winner = members;
    for (uint32_t i = 0; i < members; ++i) {
      if (!sealed_ok_[i]) continue;
      absl::StatusOr<Position> end = EndWithinActEpoch(sealed_[i].lanes[lane]);
      // Not its position: that of a recovery that never served is above every floor.
      if (end.ok() && !record_.floor.empty() && *end < record_.floor[lane]) {
        end = absl::DataLossError(absl::StrCat("ends at ", end->ToString(), ", below the floor ",
                                               record_.floor[lane].ToString(),
                                               ": its store lost what it had synced"));
      }
      if (!end.ok()) {
        return Fail(absl::DataLossError(absl::StrCat(
                        "replica ", record_.members[i].replica, ", lane ", lane,
                        ": ", end.status().message())),
                    effects);
      }
      ends[i] = *end;
      if (winner == members || ends[i] > ends[winner]) winner = i;
    }
    for (uint32_t i = 0; i < members; ++i) {
      if (!sealed_ok_[i] || ends[i] == ends[winner]) continue;
      Position to = sealed_[winner].lanes[lane].position;
      copies.push_back(CopyLane{winner, i, LaneId{lane},
                                sealed_[i].lanes[lane].position, to,
                                sealed_[winner].incarnation,
                                sealed_[i].incarnation});
    }
  }
  pending_ = copies.size();
  if (pending_ == 0) return TakeBases(effects);
  for (CopyLane& copy : copies) effects.push_back(std::move(copy));
}

void Takeover::LaneCopied(const CopyLane& copy, const absl::Status& status,
                          TakeoverEffects& effects) {
  if (state_ != State::kLevelling) return;
  if (!status.ok()) {
    return Fail(absl::Status(
                    status.code(),
                    absl::StrCat("lane ", Index(copy.lane), " could not be copied from ",
                                 record_.members[copy.source].replica, " to ",
                                 record_.members[copy.target].replica, ": ",
                                 status.message())),
                effects);
  }
  sealed_[copy.target].lanes[Index(copy.lane)].position = copy.to;
  if (--pending_ == 0) TakeBases(effects);
}

void Takeover::TakeBases(TakeoverEffects& effects) {
  state_ = State::kTakingBase;
  for (uint32_t i = 0; i < record_.members.size(); ++i) {
    if (!sealed_ok_[i]) continue;
    ++pending_;
    TakeBaseOn base{i, sealed_[i].incarnation, {}, record_.act_epoch};
    for (const SealedState::Lane& lane : sealed_[i].lanes) {
      base.expected.push_back(lane.position);
    }
    effects.push_back(std::move(base));
  }
}

void Takeover::BaseTaken(uint32_t member, const absl::Status& status,
                         TakeoverEffects& effects) {
  if (state_ != State::kTakingBase) return;
  if (!status.ok()) {
    return Fail(absl::Status(status.code(),
                             absl::StrCat("replica ", record_.members[member].replica,
                                          " could not take the new epoch: ",
                                          status.message())),
                effects);
  }
  if (--pending_ > 0) return;
  // Every member has synced (epoch, 0): the takeover is itself a barrier.
  state_ = State::kActivating;
  record_.recovering = false;
  record_.act_epoch = record_.epoch;
  record_.floor.assign(lanes_, Position(record_.epoch, 0));
  for (uint32_t i = 0; i < record_.members.size(); ++i) {
    if (sealed_ok_[i]) record_.members[i].boot_id = sealed_[i].boot_id;
  }
  effects.push_back(CommitRecord{record_});
}

void Takeover::Fail(absl::Status status, TakeoverEffects& effects) {
  CHECK(state_ != State::kDone && state_ != State::kFailed);
  state_ = State::kFailed;
  effects.push_back(TakeoverFailed{std::move(status)});
}

}  // namespace weir::engine
