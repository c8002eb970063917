#include "proto/monitor/shared_check.h"

#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"

namespace weir::monitor {
namespace {

// Monotonic: the wall clock may jump.
absl::Time Now() { return absl::UnixEpoch() + absl::FromChrono(std::chrono::steady_clock::now().time_since_epoch()); }

}  // namespace

SharedCheck::SharedCheck(Options options, std::function<absl::Status()> ask)
    : options_(std::move(options)), ask_(std::move(ask)) {}

absl::Status SharedCheck::LastLocked(absl::Time now) {
  if (now - asked_ <= options_.patience) return last_;
  return absl::UnavailableError(
      absl::StrCat(options_.whom, " has not answered for ", absl::FormatDuration(absl::Trunc(now - asked_, absl::Milliseconds(1)))));
}

absl::Status SharedCheck::Last() {
  absl::MutexLock lock(&mutex_);
  return LastLocked(Now());
}

absl::Status SharedCheck::Get() {
  {
    absl::MutexLock lock(&mutex_);
    const absl::Time now = Now();
    if (asked_ != absl::InfiniteFuture() || now - answered_ < options_.fresh) return LastLocked(now);
    asked_ = now;
  }
  absl::Status answer = ask_();
  absl::MutexLock lock(&mutex_);
  asked_ = absl::InfiniteFuture();
  answered_ = Now();
  last_ = answer;
  return answer;
}

}  // namespace weir::monitor
