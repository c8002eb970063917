#include "volume/engine/takeover.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "proto/base/check.h"
#include "proto/base/errno.h"

namespace weir::engine {
namespace {

// Between two attempts to seal a member that cannot be reached.
constexpr absl::Duration kSealRetryDelay = absl::Milliseconds(200);
// A lease is the other frontend's clock against ours.
constexpr double kClockDrift = 1.25;

bool MayPass(const absl::Status& status) {
  return absl::IsUnavailable(status) || absl::IsDeadlineExceeded(status) ||
         absl::IsResourceExhausted(status);
}

// It says nothing of the member: a newer epoch, or the attach itself was given up.
bool EndsTheTakeover(const absl::Status& status) {
  return absl::IsCancelled(status) || StatusToErrno(status) == ESTALE;
}

// The last epoch of which the lane has a write; 0: it has none.
Epoch LastWrittenIn(const SealedState::Lane& lane) {
  if (lane.position.n() > 0) return lane.position.epoch();
  for (auto entry = lane.lineage.rbegin(); entry != lane.lineage.rend(); ++entry) {
    if (entry->n > 0) return entry->epoch;
  }
  return 0;
}

}  // namespace

std::optional<Position> EndIn(Epoch epoch, const SealedState::Lane& lane) {
  if (lane.position.epoch() == epoch) return lane.position;
  for (const LineageEntry& entry : lane.lineage) {
    if (entry.epoch == epoch) return Position(epoch, entry.n);
  }
  return std::nullopt;
}

Takeover::Takeover(TakeoverRecord record, TakeoverOptions options, Time now)
    : record_(std::move(record)),
      options_(std::move(options)),
      nobody_serves_(record_.detached || record_.act_epoch == 0),
      begun_(now),
      members_(record_.members.size()) {
  record_.owner = options_.owner;
}

uint32_t Takeover::Count(Member::State state) const {
  return static_cast<uint32_t>(std::count_if(
      members_.begin(), members_.end(), [state](const Member& m) { return m.state == state; }));
}

void Takeover::Start(TakeoverEffects& effects) {
  if (record_.epoch >= Position::kEpochMax) {
    return Fail(absl::ResourceExhaustedError("the volume has used up its epochs"),
                effects);
  }
  record_.epoch += 1;
  record_.recovering = true;
  record_.detached = false;
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
  sealing_since_ = now;
  for (uint32_t i = 0; i < members_.size(); ++i) {
    if (!record_.members[i].in_sync) continue;
    members_[i].state = Member::State::kAwaited;
    effects.push_back(SealMember{i, absl::ZeroDuration()});
  }
  if (Count(Member::State::kAwaited) == 0) {
    return Fail(absl::FailedPreconditionError("the volume has no member in sync"), effects);
  }
  effects.push_back(WaitFor{options_.give_up_after});
}

void Takeover::MemberSealed(uint32_t member,
                            const absl::StatusOr<SealedState>& state, Time now,
                            TakeoverEffects& effects) {
  if (state_ < State::kSealing || state_ > State::kActivating) return;
  const TakeoverMember& known = record_.members[member];
  // Of the record, not of the member, which would be good by it; so also of one that was given up, as long as
  // nobody serves by this record. That it may be ACTIVE by then changes nothing: nobody has written.
  const absl::Status of_record = state.ok() ? CheckRecordIsNotOlder(known, *state) : state.status();
  if (StatusToErrno(of_record) == ESTALE) return Fail(of_record, effects);
  Member& sealed = members_[member];
  if (state_ != State::kSealing || sealed.state != Member::State::kAwaited) return;
  if (state.ok()) {
    sealed.sealed = *state;
    const absl::Status wrong = Examine(known, sealed);
    if (wrong.ok()) {
      sealed.state = Member::State::kGood;
      first_sealed_ = std::min(first_sealed_, now);
    } else {
      GiveUp(member, wrong, effects);
    }
  } else if (EndsTheTakeover(state.status())) {
    return Fail(state.status(), effects);
  } else if (MayPass(state.status()) || !MayGiveUpUnsealed()) {
    sealed.last_error = state.status();
    effects.push_back(SealMember{member, kSealRetryDelay});
  } else {
    may_be_served_ = true;
    GiveUp(member, state.status(), effects);
  }
  EndSealing(now, effects);
}

void Takeover::EndSealing(Time now, TakeoverEffects& effects) {
  const uint32_t awaited = Count(Member::State::kAwaited);
  const uint32_t good = Count(Member::State::kGood);
  const bool late = now - begun_ >= options_.deadline;
  if (awaited == 0 && good == 0) return Fail(first_refusal_, effects);
  const bool give_up = MayGiveUpUnsealed() && good > 0 &&
                       (late || (good >= enough() && now - sealing_since_ >= options_.give_up_after));
  if (awaited > 0 && !give_up && !late) return;
  for (uint32_t i = 0; i < members_.size(); ++i) {
    Member& member = members_[i];
    if (member.state != Member::State::kAwaited) continue;
    const absl::Status why = member.last_error.ok()
                                 ? absl::DeadlineExceededError("it has not answered")
                                 : member.last_error;
    if (!give_up) {
      return Fail(absl::Status(why.code(),
                               absl::StrCat("replica ", record_.members[i].replica,
                                            " could not be sealed: ", why.message(),
                                            "; no other replica in sync can stand in, start it")),
                  effects);
    }
    may_be_served_ = true;
    GiveUp(i, why, effects);
  }
  Level(now, effects);
}

// It may still serve the frontend before: for how long, only a lease tells.
bool Takeover::MayGiveUpUnsealed() const {
  return nobody_serves_ || record_.lease < absl::InfiniteDuration();
}

void Takeover::GiveUp(uint32_t member, absl::Status why, TakeoverEffects& effects) {
  TakeoverMember& known = record_.members[member];
  if (first_refusal_.ok()) {
    // What a call answered names it already.
    const std::string name = absl::StrCat("replica ", known.replica, " ");
    const bool named = absl::StartsWith(why.message(), name);
    first_refusal_ = absl::Status(why.code(), absl::StrCat(named ? "" : name, why.message()));
  }
  members_[member].state = Member::State::kOut;
  known.in_sync = false;
  known.stays_out = false;
  known.left_at = record_.floor;  // the old one: all that is known of it
  effects.push_back(GiveUpMember{member, std::string(why.message())});
}

void Takeover::GiveUpOrFail(uint32_t member, const absl::Status& status, const std::string& what,
                            TakeoverEffects& effects) {
  const bool fails = EndsTheTakeover(status) || Count(Member::State::kGood) <= enough();
  const absl::Status why(status.code(), what);
  fails ? Fail(why, effects) : GiveUp(member, why, effects);
}

// Whoever writes is ACTIVE in the catalog first.
absl::Status Takeover::CheckRecordIsNotOlder(const TakeoverMember& member, const SealedState& state) const {
  for (const SealedState::Lane& lane : state.lanes) {
    const Epoch written_in = LastWrittenIn(lane);
    if (written_in <= record_.act_epoch) continue;
    return ErrnoToStatus(ESTALE, absl::StrCat(
        "replica ", member.replica, " has been written to in epoch ", written_in,
        ", and by the catalog nobody has served since epoch ", record_.act_epoch));
  }
  return absl::OkStatus();
}

absl::Status Takeover::Examine(const TakeoverMember& known, Member& member) const {
  const SealedState& state = member.sealed;
  if (state.store_id != known.store_id) {
    return absl::FailedPreconditionError(
        absl::StrCat("answers with store ", state.store_id, " but the volume is on store ",
                     known.store_id, "; give it its own data directories back"));
  }
  if (state.lanes.size() != options_.lanes) {
    return absl::DataLossError(
        absl::StrCat("has ", state.lanes.size(), " lanes of ", options_.lanes));
  }
  member.ends.clear();
  for (uint32_t i = 0; i < options_.lanes; ++i) {
    const SealedState::Lane& lane = state.lanes[i];
    absl::StatusOr<Position> end = EndWithinActEpoch(lane);
    // Not its position: that of a recovery that never served is above every floor.
    if (end.ok() && !record_.floor.empty() && *end < record_.floor[i]) {
      end = absl::DataLossError(absl::StrCat("ends at ", end->ToString(), ", below the floor ",
                                             record_.floor[i].ToString(),
                                             ": its store lost what it had synced"));
    }
    if (end.ok() && lane.invalid_blocks > 0) {
      end = absl::DataLossError(absl::StrCat("lacks ", lane.invalid_blocks, " blocks"));
    }
    if (!end.ok()) {
      return absl::DataLossError(absl::StrCat("lane ", i, ": ", end.status().message()));
    }
    member.ends.push_back(*end);
  }
  return absl::OkStatus();
}

absl::StatusOr<Position> Takeover::EndWithinActEpoch(
    const SealedState::Lane& lane) const {
  const Epoch act = record_.act_epoch;
  if (const std::optional<Position> end = EndIn(act, lane)) return *end;
  // A volume that never was ACTIVE holds nothing that counts.
  if (act == 0) return Position();
  return absl::DataLossError(absl::StrCat(
      "is at ", lane.position.ToString(), " and has no part in epoch ", act,
      ", the last one that served: its store was replaced by an older copy"));
}

void Takeover::Level(Time now, TakeoverEffects& effects) {
  state_ = State::kLevelling;
  std::vector<CopyLane> copies;
  for (uint32_t lane = 0; lane < options_.lanes; ++lane) {
    uint32_t winner = static_cast<uint32_t>(members_.size());
    for (uint32_t i = 0; i < members_.size(); ++i) {
      if (!Good(i)) continue;
      const bool longer =
          winner == members_.size() || members_[i].ends[lane] > members_[winner].ends[lane];
      if (longer) winner = i;
    }
    const Member& source = members_[winner];
    for (uint32_t i = 0; i < members_.size(); ++i) {
      const Member& target = members_[i];
      if (!Good(i) || target.ends[lane] == source.ends[lane]) continue;
      CopyLane copy;
      copy.source = winner;
      copy.target = i;
      copy.lane = LaneId{lane};
      copy.from = target.ends[lane];
      copy.to = source.sealed.lanes[lane].position;
      copy.expected = target.sealed.lanes[lane].position;
      copy.source_incarnation = source.sealed.incarnation;
      copy.target_incarnation = target.sealed.incarnation;
      copies.push_back(copy);
    }
  }
  pending_ = static_cast<uint32_t>(copies.size());
  if (pending_ == 0) return TakeBases(now, effects);
  for (CopyLane& copy : copies) effects.push_back(std::move(copy));
}

void Takeover::LaneCopied(const CopyLane& copy, const absl::Status& status, Time now,
                          TakeoverEffects& effects) {
  if (state_ != State::kLevelling) return;
  --pending_;
  Member& target = members_[copy.target];
  if (status.ok()) {
    target.sealed.lanes[Index(copy.lane)].position = copy.to;
  } else if (Good(copy.target)) {
    GiveUpOrFail(copy.target, status,
                 absl::StrCat("lane ", Index(copy.lane), " could not be copied from ",
                              record_.members[copy.source].replica, " to ",
                              record_.members[copy.target].replica, ": ", status.message()),
                 effects);
  }
  if (state_ == State::kLevelling && pending_ == 0) TakeBases(now, effects);
}

void Takeover::TakeBases(Time now, TakeoverEffects& effects) {
  state_ = State::kTakingBase;
  for (uint32_t i = 0; i < members_.size(); ++i) {
    if (!Good(i)) continue;
    ++pending_;
    TakeBaseOn base{i, members_[i].sealed.incarnation, record_.pins, record_.size_blocks, {},
                    record_.act_epoch, WhenActive()};
    for (const SealedState::Lane& lane : members_[i].sealed.lanes) {
      base.expected.push_back(lane.position);
    }
    effects.push_back(std::move(base));
  }
}

void Takeover::BaseTaken(uint32_t member, const absl::Status& status, Time now,
                         TakeoverEffects& effects) {
  if (state_ != State::kTakingBase) return;
  --pending_;
  if (!status.ok()) {
    GiveUpOrFail(member, status,
                 absl::StrCat("replica ", record_.members[member].replica,
                              " could not take the new epoch: ", status.message()),
                 effects);
  }
  if (state_ == State::kTakingBase && pending_ == 0) Activate(now, effects);
}

void Takeover::Woken(Time now, TakeoverEffects& effects) {
  if (state_ == State::kAwaitingLease) return Activate(now, effects);
  if (state_ != State::kSealing) return;
  EndSealing(now, effects);
  if (state_ != State::kSealing) return;
  const Time give_up_at = sealing_since_ + options_.give_up_after;
  const Time until = now < give_up_at ? give_up_at : begun_ + options_.deadline;
  effects.push_back(WaitFor{std::max(until - now, kSealRetryDelay / 10)});
}

// One member is enough whose host has not restarted since it was in step: each has all that was
// acknowledged, and what a process had written outlives that process.
bool Takeover::NothingLost() const {
  if (nobody_serves_) return true;
  for (uint32_t i = 0; i < members_.size(); ++i) {
    const std::string& known = record_.members[i].boot_id;
    if (Good(i) && !known.empty() && known == members_[i].sealed.boot_id) return true;
  }
  return false;
}

// Every member has synced (epoch, 0): the takeover is itself a barrier.
void Takeover::Activate(Time now, TakeoverEffects& effects) {
  if (may_be_served_ && !nobody_serves_) {
    // The frontend before needs the leases of all its members for each read.
    const Time free = first_sealed_ + record_.lease * kClockDrift;
    if (now < free) {
      state_ = State::kAwaitingLease;
      effects.push_back(WaitFor{free - now});
      return;
    }
  }
  state_ = State::kActivating;
  // In the same change as the activation: a recovery that did not get here has decided nothing.
  if (options_.fresh || record_.intact_since == 0 || !NothingLost()) {
    record_.intact_since = record_.epoch;
  }
  record_ = WhenActive();
  for (uint32_t i = 0; i < members_.size(); ++i) {
    if (Good(i)) record_.members[i].boot_id = members_[i].sealed.boot_id;
  }
  effects.push_back(CommitRecord{record_});
}

TakeoverRecord Takeover::WhenActive() const {
  TakeoverRecord next = record_;
  next.recovering = false;
  next.act_epoch = next.epoch;
  next.lease = options_.lease;
  next.floor.assign(options_.lanes, Position(next.epoch, 0));
  return next;
}

void Takeover::Fail(absl::Status status, TakeoverEffects& effects) {
  CHECK(state_ != State::kDone && state_ != State::kFailed);
  state_ = State::kFailed;
  effects.push_back(TakeoverFailed{std::move(status)});
}

}  // namespace weir::engine
