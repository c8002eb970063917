#include "volume/engine/deletion.h"

#include <utility>

namespace weir::engine {

Deletion::Step Deletion::Next() {
  if (!std::exchange(marked_, true)) return {.act = Act::kMark};
  if (deleted_ < members_) return {.act = Act::kDeleteCopy, .member = deleted_++};
  if (!std::exchange(removed_, true)) return {.act = Act::kRemove};
  return {.act = Act::kDone};
}

}  // namespace weir::engine
