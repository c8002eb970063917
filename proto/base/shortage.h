// A process or a machine that is short of descriptors or memory for a moment
// (EMFILE, ENFILE, ENOMEM). A file that could not be opened for that has changed
// nothing on the disk, so opening it is tried again instead of taken for an
// error of the disk, which is final for a store.
#ifndef WEIR_PROTO_BASE_SHORTAGE_H_
#define WEIR_PROTO_BASE_SHORTAGE_H_

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace weir {

// For how long. Then the error stands. Longer than the deadlines after which a
// volume goes on without a replica, which then need not fail.
inline constexpr absl::Duration kShortageMax = absl::Minutes(2);

bool IsShortage(int error);

// From now on nobody waits for a shortage to end, since this process is to.
void EndPatience();

// As seen by those who open files at one place: it begins with the first opening
// that fails for it, and ends with the first one that does not. Thread-safety: safe.
class Shortage {
 public:
  explicit Shortage(absl::Duration longest) : longest_(longest) {}

  // After an opening of `path` that failed for it: whether to try again. Waits a moment.
  bool MayEnd(const std::string& path, absl::string_view why);
  // After any other opening.
  void Ended() { since_us_.store(0, std::memory_order_relaxed); }

 private:
  const absl::Duration longest_;
  std::atomic<int64_t> since_us_{0};  // 0: there is none
};

// open(2), patiently: a descriptor, or -1 and errno.
int OpenPatiently(const std::string& path, int flags, mode_t mode,
                  absl::Duration longest = kShortageMax);

}  // namespace weir

#endif  // WEIR_PROTO_BASE_SHORTAGE_H_
