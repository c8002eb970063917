#include "volume/engine/pinned.h"

#include <cerrno>

#include "proto/base/errno.h"

namespace weir::engine {

AskPinned::AskPinned(What what, const std::vector<bool>& in_sync) {
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
  const bool may_tell_later = absl::IsUnavailable(answer) || absl::IsDeadlineExceeded(answer) || absl::IsAborted(answer) ||
                              absl::IsResourceExhausted(answer) || absl::IsCancelled(answer);
  absl::Status& of_its_kind = StatusToErrno(answer) == EBADMSG ? damaged_ : may_tell_later ? away_ : other_;
  of_its_kind = answer;
}

absl::Status AskPinned::status(uint64_t blocks) const {
  if (!damaged_.ok() && (blocks > 1 || away_.ok())) return damaged_;
  if (!away_.ok()) return absl::UnavailableError(away_.message());
  return other_.ok() ? absl::UnavailableError("no replica can be asked") : other_;
}

bool AskPinned::ByBlocks(BlockRange range, const absl::Status& status) {
  return range.count > 1 && StatusToErrno(status) == EBADMSG;
}

}  // namespace weir::engine
