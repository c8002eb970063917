#include "volume/engine/deletion.h"

#include <utility>

namespace weir::engine {

Deletion::Step Deletion::Next() {
  if (!std::exchange(marked_, true)) return {.act = Act::kMark};
  if (deleted_ < members_) return {.act = Act::kDeleteCopy, .member = deleted_++};
  if (!std::exchange(removed_, true)) return {.act = Act::kRemove};
  return {.act = Act::kDone};
}

Deletion::Left Deletion::LeftAt(const Replica& replica, const std::string& store_id) {
  if (replica.silent) return replica.forgotten ? Left::kNothing : Left::kUnknown;
  return replica.store_id == store_id ? Left::kCopy : Left::kNothing;
}

}  // namespace weir::engine
