// Which volumes have a call under way: a second one is told to come again.
#ifndef WEIR_CLIENT_CSI_OPERATIONS_H_
#define WEIR_CLIENT_CSI_OPERATIONS_H_

#include <set>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"

namespace weir::csi {

// Thread-safety: safe. Outlives what it has given out.
class Operations {
 public:
  // The volume is this call's while it lives.
  class Held {
   public:
    Held(Operations* operations, std::string id) : operations_(operations), id_(std::move(id)) {}
    Held(Held&& other) noexcept
        : operations_(std::exchange(other.operations_, nullptr)), id_(std::move(other.id_)) {}
    ~Held();

   private:
    Operations* operations_;
    std::string id_;
  };

  // ABORTED: another call has it.
  absl::StatusOr<Held> Begin(const std::string& id);

 private:
  absl::Mutex mutex_;
  std::set<std::string> under_way_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace weir::csi

#endif  // WEIR_CLIENT_CSI_OPERATIONS_H_
