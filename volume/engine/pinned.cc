#include "volume/engine/pinned.h"

#include <cerrno>

#include "proto/base/errno.h"

namespace weir::engine {

AskPinned::AskPinned(What what, const std::vector<bool>& in_sync) : status_(absl::UnavailableError("no replica can be asked")) {
  for (const bool which : {true, false}) {
    if (what == What::kChanges && !which) continue;
    for (size_t member = 0; member < in_sync.size(); ++member) {
      if (in_sync[member] == which) left_.push_back(member);
    }
  }
}

std::optional<size_t> AskPinned::Next() {
  if (left_.empty()) return std::nullopt;
  const size_t member = left_.front();
  left_.pop_front();
  return member;
}

void AskPinned::Failed(const absl::Status& answer) {
  if (StatusToErrno(status_) != EBADMSG) status_ = answer;
}

bool AskPinned::ByBlocks(BlockRange range, const absl::Status& status) {
  return range.count > 1 && StatusToErrno(status) == EBADMSG;
}

}  // namespace weir::engine
