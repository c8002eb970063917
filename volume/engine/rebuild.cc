#include "volume/engine/rebuild.h"

#include <algorithm>
#include <utility>

#include "absl/algorithm/container.h"
#include "absl/strings/str_cat.h"
#include "proto/base/status_macros.h"

namespace weir::engine {
namespace {

using Sources = std::vector<const RebuildSource*>;

// Null: it has not answered, or with another store.
const RebuildSource* SourceOf(const Sources& sources, const TakeoverMember& member) {
  const auto found = absl::c_find_if(sources, [&](const RebuildSource* source) {
    return source->replica == member.replica && source->store_id == member.store_id;
  });
  return found == sources.end() ? nullptr : *found;
}

// Null: nobody has one.
const RebuildSource* NewestCopy(const Sources& sources) {
  const RebuildSource* newest = nullptr;
  const auto age = [](const RebuildSource* source) {
    return std::pair(source->copy->epoch, source->copy->revision);
  };
  for (const RebuildSource* source : sources) {
    if (source->copy && (newest == nullptr || age(source) > age(newest))) newest = source;
  }
  return newest;
}

absl::Status Unaccounted(const RebuildSource& source) {
  return absl::DataLossError(absl::StrCat(
      "replica ", source.replica, " has writes that no copy of the record accounts for; start the other replicas that had "
      "the volume last, or do without it (--without=", source.replica, "), which loses them"));
}

// Whether it has something that none of `others` has.
bool IsAhead(const RebuildSource& source, const Sources& others) {
  for (size_t lane = 0; lane < source.positions.size(); ++lane) {
    Position furthest;
    for (const RebuildSource* other : others) {
      if (lane < other->positions.size()) furthest = std::max(furthest, other->positions[lane]);
    }
    if (source.positions[lane] > furthest) return true;
  }
  return false;
}

// Who is in sync has all blocks, a part in the epoch in every lane, and has come to the floor, which only rises.
bool MayBeInSync(const RebuildSource& source, const TakeoverRecord& record) {
  if (source.invalid_blocks > 0 || source.positions.empty() || source.positions.size() < record.floor.size()) return false;
  for (size_t lane = 0; lane < source.positions.size(); ++lane) {
    if (source.positions[lane].epoch() < record.act_epoch) return false;
    if (lane < record.floor.size() && source.positions[lane] < record.floor[lane]) return false;
  }
  return true;
}

void SetInSync(bool in_sync, TakeoverMember* member) {
  member->in_sync = in_sync;
  member->left_at.clear();
}

// Who lacks blocks has left, and was being brought back.
void PutOutWhoHasLeft(const Sources& sources, TakeoverRecord* record) {
  for (TakeoverMember& member : record->members) {
    const RebuildSource* source = SourceOf(sources, member);
    if (member.in_sync && source != nullptr && source->invalid_blocks > 0) SetInSync(false, &member);
  }
}

bool AnyInSync(const TakeoverRecord& record) {
  return absl::c_any_of(record.members, [](const TakeoverMember& member) { return member.in_sync; });
}

// All that the record had in sync have left since, so another one of its members has stayed. Which one shows only if all
// are there: the furthest in the first lane where they differ; who is ahead of it in others is taken in after it.
absl::Status TakeInWhoStayed(const Sources& sources, const std::set<std::string>& without, TakeoverRecord* record) {
  TakeoverMember* furthest = nullptr;
  for (TakeoverMember& member : record->members) {
    if (without.contains(member.replica)) {
      return absl::DataLossError(absl::StrCat(
          "all of its members that were in sync have left since; replica ", member.replica,
          " may be the one that stayed, and cannot be done without"));
    }
    const RebuildSource* source = SourceOf(sources, member);
    if (!MayBeInSync(*source, *record)) continue;
    if (furthest == nullptr || source->positions > SourceOf(sources, *furthest)->positions) furthest = &member;
  }
  if (furthest != nullptr) SetInSync(true, furthest);
  return absl::OkStatus();
}

// Members are told of a copy before anybody writes in its epoch, so only changes of members since can be missing. Whoever
// is ahead of all that the record has in sync has been in sync, or was being brought to it: the takeover finds out which.
absl::Status TakeInWhoIsAhead(const Sources& sources, TakeoverRecord* record) {
  Sources in_sync;
  for (const TakeoverMember& member : record->members) {
    if (member.in_sync) in_sync.push_back(SourceOf(sources, member));
  }
  for (const RebuildSource* source : sources) {
    const auto member = absl::c_find_if(record->members, [&](const TakeoverMember& known) {
      return known.replica == source->replica && known.store_id == source->store_id;
    });
    const bool known = member != record->members.end();
    if ((known && member->in_sync) || !MayBeInSync(*source, *record)) continue;
    if (!IsAhead(*source, in_sync)) continue;
    if (!known) return Unaccounted(*source);
    SetInSync(true, &*member);
  }
  return absl::OkStatus();
}

absl::Status CheckNoEpochIsPassedOver(const Sources& sources, const TakeoverRecord& record) {
  for (const RebuildSource* source : sources) {
    for (const Position& position : source->positions) {
      if (position.epoch() > record.act_epoch && position.n() > 0) return Unaccounted(*source);
    }
  }
  return absl::OkStatus();
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
    if (member.in_sync) SetInSync(false, &member);
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Rebuilt> Rebuild(const std::vector<RebuildSource>& answers,
                                const std::set<std::string>& without) {
  Sources sources;
  Epoch promised = 0;
  for (const RebuildSource& answer : answers) {
    promised = std::max(promised, answer.promised);
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
  record.epoch = std::max(record.epoch, promised) + kEpochsSkipped;
  record.owner.clear();
  record.recovering = true;
  // Perhaps it was a clean detach, and perhaps not. No member in sync is given up unsealed: it may be the one that has all.
  record.detached = false;
  record.lease = absl::InfiniteDuration();
  record.intact_since = 0;
  for (TakeoverMember& member : record.members) member.boot_id.clear();
  PutOutWhoHasLeft(sources, &record);
  const bool all_have_left = !AnyInSync(record);
  RETURN_IF_ERROR(CheckAllHaveAnswered(sources, without, &record));
  RETURN_IF_ERROR(CheckNoEpochIsPassedOver(sources, record));
  if (all_have_left) RETURN_IF_ERROR(TakeInWhoStayed(sources, without, &record));
  if (!AnyInSync(record)) return absl::DataLossError("none of its members that were in sync is left");
  RETURN_IF_ERROR(TakeInWhoIsAhead(sources, &record));

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
