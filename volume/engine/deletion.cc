#include "volume/engine/deletion.h"

namespace weir::engine {

Deletion::Step Deletion::Next() {
  if (done_ == Act::kBegin) return {.act = done_ = Act::kMark};
  if (done_ == Act::kRemove || done_ == Act::kDone) return {.act = done_ = Act::kDone};
  if (asked_ == members_) return {.act = done_ = Act::kRemove};
  return {.act = done_ = Act::kDeleteCopy, .member = asked_++};
}

}  // namespace weir::engine
