#include "volume/engine/rebuild.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/algorithm/container.h"
#include "absl/strings/str_cat.h"
#include "proto/base/status_macros.h"

namespace weir::engine {
namespace {

const RebuildSource* SourceOf(const std::vector<RebuildSource>& sources, const TakeoverMember& member) {
  const auto found = absl::c_find_if(sources, [&](const RebuildSource& source) {
    return source.replica == member.replica && source.store_id == member.store_id;
  });
  return found == sources.end() ? nullptr : &*found;
}

// Nobody writes before the members have copies of the record that says ACTIVE, so that cannot be; unless members are missing.
absl::Status CheckNothingIsNewer(const std::vector<RebuildSource>& sources, Epoch act_epoch) {
  for (const RebuildSource& source : sources) {
    for (const Position& position : source.positions) {
      if (position.epoch() <= act_epoch || position.n() == 0) continue;
      return absl::DataLossError(absl::StrCat(
          "replica ", source.replica, " has writes of epoch ", position.epoch(),
          ", and the newest copy of the record is of epoch ", act_epoch,
          "; start the other replicas of that epoch"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Rebuilt> Rebuild(const std::vector<RebuildSource>& sources,
                                const std::set<std::string>& without) {
  std::optional<size_t> newest;
  Epoch promised = 0;
  for (size_t i = 0; i < sources.size(); ++i) {
    promised = std::max(promised, sources[i].promised);
    if (!sources[i].copy) continue;
    const auto age = [&](size_t at) {
      return std::pair(sources[at].copy->epoch, sources[at].copy->revision);
    };
    if (!newest || age(i) > age(*newest)) newest = i;
  }
  if (!newest) {
    return absl::FailedPreconditionError("no replica that has answered keeps a copy of its record");
  }
  Rebuilt rebuilt;
  rebuilt.source = *newest;
  TakeoverRecord& record = rebuilt.record;
  record = sources[*newest].copy->record;
  RETURN_IF_ERROR(CheckNothingIsNewer(sources, record.act_epoch));
  record.epoch = std::max(record.epoch, promised);
  record.owner.clear();
  record.recovering = true;
  // Perhaps it was a clean detach, and perhaps not.
  record.detached = false;
  record.intact_since = 0;

  std::set<uint64_t> pins;
  for (const Pin& pin : record.pins) pins.insert(pin.id);
  bool any = false;
  uint64_t room = std::numeric_limits<uint64_t>::max();
  for (TakeoverMember& member : record.members) {
    member.boot_id.clear();
    const RebuildSource* source = SourceOf(sources, member);
    if (source == nullptr && without.contains(member.replica)) {
      if (member.in_sync) member.left_at.clear();
      member.in_sync = false;
      continue;
    }
    // Whether it was in sync or not: it may have been the only one since.
    if (source == nullptr) {
      return absl::FailedPreconditionError(absl::StrCat(
          "replica ", member.replica, " has not answered with this volume in store ", member.store_id,
          "; start it with its own data directories, or do without it (--without=", member.replica,
          "), which loses what only it had"));
    }
    if (!member.in_sync) continue;
    any = true;
    room = std::min(room, source->size_blocks);
    std::erase_if(pins, [source](uint64_t pin) { return !absl::c_linear_search(source->pins, pin); });
  }
  if (!any) return absl::DataLossError("none of its members that were in sync is left");
  // Every member has room before the record says that it has grown; so perhaps it did.
  record.size_blocks = std::max(record.size_blocks, room);
  for (const Pin& pin : record.pins) {
    if (!pins.contains(pin.id)) rebuilt.lost_pins.push_back(pin.id);
  }
  std::erase_if(record.pins, [&pins](const Pin& pin) { return !pins.contains(pin.id); });
  return rebuilt;
}

}  // namespace weir::engine
