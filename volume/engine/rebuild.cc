#include "volume/engine/rebuild.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "absl/algorithm/container.h"
#include "absl/strings/str_cat.h"
#include "proto/base/status_macros.h"

namespace weir::engine {
namespace {

using Sources = std::vector<const RebuildSource*>;

bool IsOf(const RebuildSource& source, const TakeoverMember& member) {
  return source.replica == member.replica && source.store_id == member.store_id;
}

// Null: it has not answered, or with another store.
const RebuildSource* SourceOf(const Sources& sources, const TakeoverMember& member) {
  const auto found = absl::c_find_if(sources, [&](const RebuildSource* source) { return IsOf(*source, member); });
  return found == sources.end() ? nullptr : *found;
}

// Null: nobody has one. A takeover tells the record as it is, and later, under the same revision, as it will be.
const RebuildSource* NewestCopy(const Sources& sources) {
  const RebuildSource* newest = nullptr;
  const auto age = [](const RebuildSource* source) {
    return std::tuple(source->copy->epoch, source->copy->revision, source->copy->record.act_epoch);
  };
  for (const RebuildSource* source : sources) {
    if (source->copy && (newest == nullptr || age(source) > age(newest))) newest = source;
  }
  return newest;
}

// Members are told of an epoch before it serves, so it may never have: whoever has taken the base of a later one has cut its
// history back to what had served by then. Whom such a takeover gave up has left in no record but its own; that those who
// stayed have all is true all the same.
void UndoWhatNeverServed(const Sources& sources, Epoch told_in, TakeoverRecord* record) {
  Epoch latest = told_in;
  Epoch served = record->act_epoch;
  for (const RebuildSource* source : sources) {
    for (const SealedState::Lane& lane : source->lanes) {
      if (lane.position.epoch() <= latest || lane.lineage.empty()) continue;
      latest = lane.position.epoch();
      served = lane.lineage.back().epoch;
    }
  }
  if (served >= record->act_epoch) return;
  record->act_epoch = served;
  for (Position& floor : record->floor) floor = Position(served, 0);
  for (const RebuildSource* source : sources) {
    if (!source->copy || source->copy->record.act_epoch != served) continue;
    const std::vector<Position>& floor = source->copy->record.floor;
    for (size_t lane = 0; lane < std::min(floor.size(), record->floor.size()); ++lane) {
      record->floor[lane] = std::max(record->floor[lane], floor[lane]);
    }
  }
}

absl::Status Unaccounted(const RebuildSource& source) {
  return absl::DataLossError(absl::StrCat(
      "replica ", source.replica, " has writes that no copy of the record accounts for; start the other replicas that had "
      "the volume last, or do without it (--without=", source.replica, "), which loses them"));
}

absl::Status CheckNoEpochIsPassedOver(const Sources& sources, const TakeoverRecord& record) {
  for (const RebuildSource* source : sources) {
    for (const SealedState::Lane& lane : source->lanes) {
      if (lane.position.epoch() > record.act_epoch && lane.position.n() > 0) return Unaccounted(*source);
    }
  }
  return absl::OkStatus();
}

// What a replica has of the epoch that served last, by lane: written, and on stable storage, which is all that a power cut
// before the takeover leaves.
struct Ends {
  std::vector<Position> written;
  std::vector<Position> durable;
};

bool IsBeingBroughtBack(const RebuildSource& source) {
  return absl::c_any_of(source.lanes, [](const SealedState::Lane& lane) {
    return lane.invalid_blocks > 0 || lane.join_to != Position();
  });
}

// Nothing: it cannot have been in sync. Who was has all blocks, a part in the epoch in every lane, and has come to the floor,
// which only rises.
std::optional<Ends> EndsOf(const RebuildSource& source, const TakeoverRecord& record) {
  if (IsBeingBroughtBack(source) || source.lanes.size() < record.floor.size()) return std::nullopt;
  Ends ends;
  for (size_t i = 0; i < source.lanes.size(); ++i) {
    const SealedState::Lane& lane = source.lanes[i];
    const std::optional<Position> end = EndIn(record.act_epoch, lane);
    if (!end || (i < record.floor.size() && *end < record.floor[i])) return std::nullopt;
    ends.written.push_back(*end);
    ends.durable.push_back(std::min(lane.durable, *end));
  }
  return ends;
}

bool HasAll(const std::vector<Position>& what, const std::vector<Position>& of) {
  for (size_t lane = 0; lane < of.size(); ++lane) {
    if ((lane < what.size() ? what[lane] : Position()) < of[lane]) return false;
  }
  return true;
}

bool HasAll(const Ends& what, const Ends& of) { return HasAll(what.written, of.written) && HasAll(what.durable, of.durable); }

void TakeInto(Ends& all, const Ends& one) {
  for (auto [to, from] : {std::pair(&all.written, &one.written), std::pair(&all.durable, &one.durable)}) {
    to->resize(std::max(to->size(), from->size()));
    for (size_t lane = 0; lane < from->size(); ++lane) (*to)[lane] = std::max((*to)[lane], (*from)[lane]);
  }
}

void PutIn(TakeoverMember& member) {
  member.in_sync = true;
  member.stays_out = false;
  member.left_at.clear();
}

void PutOut(const TakeoverRecord& record, TakeoverMember& member) {
  member.in_sync = false;
  member.left_at = record.floor;
}

bool AnyInSync(const TakeoverRecord& record) {
  return absl::c_any_of(record.members, [](const TakeoverMember& member) { return member.in_sync; });
}

// Whoever is being brought back has left. Whether there was one.
bool PutOutWhoHasLeft(const Sources& answers, TakeoverRecord* record) {
  bool any = false;
  for (TakeoverMember& member : record->members) {
    const RebuildSource* source = SourceOf(answers, member);
    if (!member.in_sync || source == nullptr || !IsBeingBroughtBack(*source)) continue;
    PutOut(*record, member);
    any = true;
  }
  return any;
}

// Puts out who is done without; says who else is missing.
absl::Status CheckAllHaveAnswered(const Sources& sources, const std::set<std::string>& without,
                                  TakeoverRecord* record) {
  for (TakeoverMember& member : record->members) {
    if (SourceOf(sources, member) != nullptr) continue;
    // Whether it was in sync or not: it may have been the only one since.
    if (!without.contains(member.replica)) {
      return absl::FailedPreconditionError(absl::StrCat(
          "replica ", member.replica, " has not answered with this volume in store ", member.store_id,
          "; start it with its own data directories, or do without it (--without=", member.replica,
          "), which loses what only it had"));
    }
    if (member.in_sync) PutOut(*record, member);
  }
  return absl::OkStatus();
}

// Of those in sync that the record names one has left since, and none is left: so somebody else has stayed. Whoever has less
// than another one has not.
void TakeInWhoMayHaveStayed(const Sources& sources, TakeoverRecord* record) {
  std::vector<std::pair<TakeoverMember*, Ends>> candidates;
  for (TakeoverMember& member : record->members) {
    const RebuildSource* source = SourceOf(sources, member);
    if (source == nullptr) continue;
    if (std::optional<Ends> ends = EndsOf(*source, *record)) candidates.emplace_back(&member, *std::move(ends));
  }
  for (const auto& [member, ends] : candidates) {
    const bool has_less = absl::c_any_of(candidates, [&ends = ends](const auto& other) {
      return HasAll(other.second, ends) && !HasAll(ends, other.second);
    });
    if (!has_less) PutIn(*member);
  }
}

// What those in sync have together.
Ends EndsInSync(const Sources& sources, const TakeoverRecord& record) {
  Ends all;
  for (const TakeoverMember& member : record.members) {
    if (!member.in_sync) continue;
    if (const std::optional<Ends> ends = EndsOf(*SourceOf(sources, member), record)) TakeInto(all, *ends);
  }
  return all;
}

// Else those that are out would be taken in for want of anybody to compare them with.
absl::Status CheckSomebodyHasWhatWasSynced(const Sources& sources, const TakeoverRecord& record) {
  const TakeoverMember* lost = nullptr;
  for (const TakeoverMember& member : record.members) {
    if (!member.in_sync) continue;
    if (EndsOf(*SourceOf(sources, member), record)) return absl::OkStatus();
    lost = &member;
  }
  return absl::DataLossError(absl::StrCat(
      "replica ", lost->replica, " lacks something that it had synced, as with an older copy of its disk, and no other member "
      "that was in sync is left; give it its own data directories back"));
}

// Members are told of a copy before anybody writes in its epoch, so only changes of members since can be missing. Whoever
// is ahead of all that the record has in sync has been in sync, or was being brought to it: the takeover finds out which.
absl::Status TakeInWhoIsAhead(const Sources& sources, TakeoverRecord* record) {
  const Ends in_sync = EndsInSync(sources, *record);
  for (const RebuildSource* source : sources) {
    const auto member = absl::c_find_if(record->members, [&](const TakeoverMember& m) { return IsOf(*source, m); });
    const bool known = member != record->members.end();
    if (known && member->in_sync) continue;
    const std::optional<Ends> ends = EndsOf(*source, *record);
    if (!ends || HasAll(in_sync, *ends)) continue;
    if (!known) return Unaccounted(*source);
    PutIn(*member);
  }
  return absl::OkStatus();
}

// Whom somebody was being brought back from has come to where that join was to end, unless a power cut has taken it back.
absl::Status CheckSourcesOfJoins(const Sources& sources, const TakeoverRecord& record) {
  const Ends in_sync = EndsInSync(sources, record);
  for (const RebuildSource* source : sources) {
    std::vector<Position> to;
    for (const SealedState::Lane& lane : source->lanes) to.push_back(lane.join_to);
    if (HasAll(in_sync.written, to)) continue;
    return absl::DataLossError(absl::StrCat(
        "replica ", source->replica, " was being brought back from one that had more than all that have answered; start the "
        "other replicas that had the volume last, or do without it (--without=", source->replica, "), which loses that"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Rebuilt> Rebuild(const std::vector<RebuildSource>& answers,
                                const std::set<std::string>& without) {
  Sources all, sources;
  Epoch promised = 0;
  for (const RebuildSource& answer : answers) {
    promised = std::max(promised, answer.promised);
    all.push_back(&answer);
    if (!without.contains(answer.replica)) sources.push_back(&answer);
  }
  const RebuildSource* newest = NewestCopy(sources);
  if (newest == nullptr) {
    return absl::FailedPreconditionError("no replica that has answered keeps a copy of its record");
  }
  Rebuilt rebuilt;
  rebuilt.source = static_cast<size_t>(newest - answers.data());
  TakeoverRecord& record = rebuilt.record;
  record = newest->copy->record;
  UndoWhatNeverServed(sources, newest->copy->epoch, &record);
  record.epoch = std::max(record.epoch, promised) + kEpochsSkipped;
  record.owner.clear();
  record.recovering = true;
  // Perhaps it was a clean detach, and perhaps not. No member in sync is given up unsealed: it may be the one that has all.
  record.detached = false;
  record.lease = absl::InfiniteDuration();
  record.intact_since = 0;
  for (TakeoverMember& member : record.members) member.boot_id.clear();
  const bool somebody_has_left = PutOutWhoHasLeft(all, &record);
  RETURN_IF_ERROR(CheckAllHaveAnswered(sources, without, &record));
  RETURN_IF_ERROR(CheckNoEpochIsPassedOver(sources, record));
  if (somebody_has_left && !AnyInSync(record)) TakeInWhoMayHaveStayed(sources, &record);
  if (!AnyInSync(record)) return absl::DataLossError("none of its members that were in sync is left");
  RETURN_IF_ERROR(CheckSomebodyHasWhatWasSynced(sources, record));
  RETURN_IF_ERROR(TakeInWhoIsAhead(sources, &record));
  RETURN_IF_ERROR(CheckSourcesOfJoins(sources, record));

  std::set<uint64_t> pins;
  for (const Pin& pin : record.pins) pins.insert(pin.id);
  for (const TakeoverMember& member : record.members) {
    if (!member.in_sync) continue;
    const RebuildSource& source = *SourceOf(sources, member);
    // Members are told to have room before the record says that it has grown, so perhaps it did. One that has less than
    // others cannot be levelled with what lies beyond, and is given up.
    record.size_blocks = std::max(record.size_blocks, source.size_blocks);
    std::erase_if(pins, [&source](uint64_t pin) { return !absl::c_linear_search(source.pins, pin); });
  }
  for (const Pin& pin : record.pins) {
    if (!pins.contains(pin.id)) rebuilt.lost_pins.push_back(pin.id);
  }
  std::erase_if(record.pins, [&pins](const Pin& pin) { return !pins.contains(pin.id); });
  return rebuilt;
}

}  // namespace weir::engine
