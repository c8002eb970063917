#include "proto/base/protocol.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace weir {

absl::Status CheckProtocol(uint32_t peers, absl::string_view peer) { return CheckProtocol(kProtocol, peers, peer); }

absl::Status CheckProtocol(uint32_t ours, uint32_t peers, absl::string_view peer) {
  const uint32_t theirs = std::max(peers, 1u);
  if (std::max(ours, theirs) - std::min(ours, theirs) <= 1) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat(peer, " speaks version ", theirs, " of the protocol, this process version ", ours,
                   "; they may be one apart: upgrade ", theirs < ours ? peer : "this one", ", one version at a time"));
}

}  // namespace weir
