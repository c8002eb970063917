#include "client/csi/operations.h"

#include "absl/strings/str_cat.h"

namespace weir::csi {

Operations::Held::~Held() {
  if (operations_ == nullptr) return;
  absl::MutexLock lock(&operations_->mutex_);
  operations_->under_way_.erase(id_);
}

absl::StatusOr<Operations::Held> Operations::Begin(const std::string& id) {
  absl::MutexLock lock(&mutex_);
  if (!under_way_.insert(id).second) {
    return absl::AbortedError(
        absl::StrCat("another call for ", id, " is under way; try again when it has ended"));
  }
  return Held(this, id);
}

}  // namespace weir::csi
