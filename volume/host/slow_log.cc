#include "volume/host/slow_log.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "volume/host/engine_families.h"
#include "volume/host/metrics.h"

namespace weir::host {
namespace {

using engine::RequestKind;

// A line shall not be longer than can be read.
constexpr int kClonesALine = 8;

std::string Took(absl::Duration duration) {
  return absl::FormatDuration(absl::Trunc(duration, absl::Microseconds(1)));
}

bool Overlap(BlockRange a, BlockRange b) { return a.first < b.end() && b.first < a.end(); }

// Whether the request may have waited for it.
bool Concerns(const SlowLog::Clone& clone, const SlowLog::Request& request) {
  if (clone.ended < request.submitted || clone.queued > request.completed) return false;
  if (clone.kind == RequestKind::kFlush) {
    return request.kind == RequestKind::kFlush || request.kind == RequestKind::kBarrier;
  }
  const bool of_barrier = clone.kind == RequestKind::kWrite && request.kind == RequestKind::kBarrier;
  return (clone.kind == request.kind || of_barrier) && Overlap(clone.range, request.range);
}

std::string RequestText(const SlowLog::Request& request) {
  if (request.range.count == 0) return KindName(request.kind);
  return absl::StrCat(KindName(request.kind), " of ", request.range.count * kBlockBytes, " bytes at ",
                      request.range.first * kBlockBytes);
}

std::string CloneText(const SlowLog::Clone& clone) {
  if (!clone.answered) {
    return absl::StrCat(clone.replica, " did not answer within ", Took(clone.ended - clone.queued));
  }
  const std::string send = absl::StrCat(clone.replica, " send ", Took(clone.times[CloneStage::kSend]));
  if (!clone.times.told) return absl::StrCat(send, ", the rest of ", Took(clone.ended - clone.queued), " not known");
  return absl::StrCat(send, ", store ", Took(clone.times[CloneStage::kStore]), ", wire ",
                      Took(clone.times[CloneStage::kWire]));
}

}  // namespace

absl::Duration SlowLog::look_every() const { return std::max(slower_than_ / 2, absl::Milliseconds(100)); }

void SlowLog::NoteClone(Clone clone) {
  absl::MutexLock lock(&mu_);
  clones_.push_back(std::move(clone));
  if (clones_.size() > kClonesMax) clones_.pop_front();
}

void SlowLog::Look(const Held& held, engine::Time now) {
  std::string left_out;
  {
    absl::MutexLock lock(&mu_);
    looks_.push_back({now, held});
    if (looks_.size() > kLooksMax) looks_.pop_front();
    BeginSecondLocked(now);
    if (lines_ == 0 && left_out_ > 0) left_out = absl::StrCat("slow requests", TakeLeftOutLocked());
  }
  if (!left_out.empty()) write_(left_out);
}

void SlowLog::BeginSecondLocked(engine::Time now) {
  if (now - second_begun_ < absl::Seconds(1)) return;
  second_begun_ = now;
  lines_ = 0;
}

void SlowLog::Log(const Request& request) {
  std::string line;
  {
    absl::MutexLock lock(&mu_);
    BeginSecondLocked(request.completed);
    if (lines_ >= kLinesASecond) {
      ++left_out_;
      return;
    }
    ++lines_;
    line = absl::StrCat("slow request: ", RequestText(request), " took ",
                        Took(request.completed - request.submitted),
                        request.error == 0 ? "" : absl::StrCat(" and failed with errno ", request.error),
                        WhereLocked(request), HeldLocked(request), TakeLeftOutLocked());
  }
  write_(line);
}

std::string SlowLog::WhereLocked(const Request& request) const {
  std::string where;
  if (request.admitted > request.submitted) {
    absl::StrAppend(&where, "; waited ", Took(request.admitted - request.submitted), " until the engine took it");
  }
  int named = 0;
  for (const Clone& clone : clones_) {
    if (!Concerns(clone, request)) continue;
    if (++named > kClonesALine) return absl::StrCat(where, "; and more");
    absl::StrAppend(&where, "; ", CloneText(clone));
  }
  return where;
}

std::string SlowLog::HeldLocked(const Request& request) const {
  Held seen{};
  int looks = 0;
  for (const Seen& look : looks_) {
    if (look.when < request.submitted || look.when > request.completed) continue;
    ++looks;
    for (size_t i = 0; i < seen.size(); ++i) {
      if (look.held[i] > 0) ++seen[i];
    }
  }
  std::string held;
  for (size_t i = 0; i < seen.size(); ++i) {
    if (seen[i] == 0) continue;
    absl::StrAppend(&held, held.empty() ? "; requests were held meanwhile: " : ", ",
                    HoldReasonName(static_cast<engine::HoldReason>(i)), " at ", seen[i], " of ", looks, " looks");
  }
  return held;
}

std::string SlowLog::TakeLeftOutLocked() {
  if (left_out_ == 0) return "";
  return absl::StrCat("; ", std::exchange(left_out_, 0), " others before were left out");
}

}  // namespace weir::host
