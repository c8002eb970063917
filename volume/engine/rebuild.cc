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

// Where the writes of `epoch` end there; nothing of that epoch: 0.
uint64_t EndIn(Epoch epoch, Position position) { return position.epoch() == epoch ? position.n() : 0; }

absl::Status Unaccounted(const RebuildSource& source) {
  return absl::DataLossError(absl::StrCat(
      "replica ", source.replica, " has writes that no copy of the record accounts for; start the other replicas that had "
      "the volume last, or do without it (--without=", source.replica, "), which loses them"));
}

// Whether it has writes that none of `others` has.
bool IsAhead(const RebuildSource& source, const Sources& others, Epoch epoch) {
  for (size_t lane = 0; lane < source.positions.size(); ++lane) {
    uint64_t furthest = 0;
    for (const RebuildSource* other : others) {
      if (lane < other->positions.size()) furthest = std::max(furthest, EndIn(epoch, other->positions[lane]));
    }
    if (EndIn(epoch, source.positions[lane]) > furthest) return true;
  }
  return false;
}

// Every member in sync has come to the floor, which only rises.
bool IsBelowFloor(const RebuildSource& source, const TakeoverRecord& record) {
  for (size_t lane = 0; lane < record.floor.size(); ++lane) {
    if (lane >= source.positions.size() || source.positions[lane] < record.floor[lane]) return true;
  }
  return false;
}

// Members are told of a copy before anybody writes in its epoch, so only changes of members since can be missing. Whoever
// is ahead of all that the record has in sync has been in sync, or was being brought to it: the takeover finds out which.
absl::Status TakeInWhoIsAhead(const Sources& sources, TakeoverRecord* record) {
  for (const RebuildSource* source : sources) {
    for (const Position& position : source->positions) {
      if (position.epoch() > record->act_epoch && position.n() > 0) return Unaccounted(*source);
    }
  }
  Sources in_sync;
  for (const TakeoverMember& member : record->members) {
    if (member.in_sync) in_sync.push_back(SourceOf(sources, member));
  }
  if (in_sync.empty()) return absl::DataLossError("none of its members that were in sync is left");
  for (const RebuildSource* source : sources) {
    const auto member = absl::c_find_if(record->members, [&](const TakeoverMember& known) {
      return known.replica == source->replica && known.store_id == source->store_id;
    });
    const bool known = member != record->members.end();
    if ((known && member->in_sync) || IsBelowFloor(*source, *record)) continue;
    if (!IsAhead(*source, in_sync, record->act_epoch)) continue;
    if (!known) return Unaccounted(*source);
    member->in_sync = true;
    member->left_at.clear();
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
    if (member.in_sync) member.left_at.clear();
    member.in_sync = false;
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
  RETURN_IF_ERROR(CheckAllHaveAnswered(sources, without, &record));
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
