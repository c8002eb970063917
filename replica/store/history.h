// Which positions lie on a lane's history.
//
// A position is given out once, by the one owner of its epoch. So a version at
// a position of the history is right wherever it lies, and one that is not on
// it belongs to a history that was cut off.
#ifndef WEIR_REPLICA_STORE_HISTORY_H_
#define WEIR_REPLICA_STORE_HISTORY_H_

#include <algorithm>
#include <vector>

#include "proto/base/position.h"

namespace weir::store {

// Ends of earlier epochs that a lane remembers. Older ones are forgotten; a member
// that was away for longer finds no common point and is copied whole.
inline constexpr size_t kLineageMax = 1024;

// Whether `position` is on the history that ends at `end` and whose earlier
// epochs, oldest first, ended as `lineage` says. Of an epoch that the lineage
// has forgotten nobody knows: not.
inline bool OnHistory(const std::vector<LineageEntry>& lineage, Position end,
                      Position position) {
  if (position.epoch() == end.epoch()) return position <= end;
  const auto entry = std::lower_bound(
      lineage.begin(), lineage.end(), position.epoch(),
      [](const LineageEntry& a, Epoch epoch) { return a.epoch < epoch; });
  return entry != lineage.end() && entry->epoch == position.epoch() &&
         position.n() <= entry->n;
}

// Whether `position` is of an epoch that such a lineage has forgotten.
inline bool IsForgotten(const std::vector<LineageEntry>& lineage, Position end,
                        Position position) {
  return position.epoch() < (lineage.empty() ? end.epoch() : lineage.front().epoch);
}

// Whether `lineage` can be the past of a lane in `epoch`.
inline bool IsLineage(const std::vector<LineageEntry>& lineage, Epoch epoch) {
  if (lineage.size() > kLineageMax) return false;
  if (!lineage.empty() && lineage.back().epoch >= epoch) return false;
  return std::adjacent_find(lineage.begin(), lineage.end(),
                            [](const LineageEntry& a, const LineageEntry& b) {
                              return a.epoch >= b.epoch;
                            }) == lineage.end();
}

}  // namespace weir::store

#endif  // WEIR_REPLICA_STORE_HISTORY_H_
