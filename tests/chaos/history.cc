#include "tests/chaos/history.h"

#include <algorithm>
#include <cerrno>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "proto/base/errno.h"
#include "tests/chaos/block_contents.h"

namespace weir::chaos {
namespace {

constexpr uint64_t kErrorsShownMax = 20;
constexpr size_t kTrailMax = 10000;
constexpr size_t kTrailShownMax = 200;

const char* NameOf(Kind kind) {
  switch (kind) {
    case Kind::kRead:
      return "read";
    case Kind::kWrite:
      return "write";
    case Kind::kZero:
      return "zero";
    case Kind::kDiscard:
      return "discard";
    case Kind::kFlush:
      return "flush";
    case Kind::kBarrier:
      return "barrier";
  }
  return "?";
}

std::string Age(History::Clock::time_point at) {
  const auto ago = std::chrono::duration_cast<std::chrono::milliseconds>(History::Clock::now() - at);
  return absl::StrCat(ago.count(), " ms ago");
}

}  // namespace

std::string ToString(const Request& request) {
  if (request.kind == Kind::kFlush) return "flush";
  return absl::StrCat(NameOf(request.kind), request.fua ? " with FUA" : "", " of blocks ",
                      request.range.first, "+", request.range.count);
}

void History::Activated(Epoch epoch) {
  absl::MutexLock lock(&mutex_);
  Activate(epoch);
}

void History::Activate(Epoch epoch) {
  if (epoch <= counts_.epoch) return;
  counts_.epoch = epoch;
  counts_.first = {};
  for (auto& [id, call] : waiting_) {
    if (!call.goes_on) continue;
    call.epoch = epoch;
    judge_.GoesOn(sim::OpId{id}, sim::SessionId{epoch});
  }
  judge_.Activated(sim::SessionId{epoch}, /*resumed=*/true);
}

History::Call History::Begin(const Request& request, Epoch epoch, absl::string_view who,
                             bool goes_on) {
  absl::MutexLock lock(&mutex_);
  if (goes_on) {
    Activate(epoch);
    epoch = counts_.epoch;
  }
  Call call{++last_id_, request, epoch, goes_on, std::string(who), Clock::now()};
  const sim::OpId op{call.id};
  const sim::SessionId session{epoch};
  switch (request.kind) {
    case Kind::kRead:
      judge_.ReadInvoked(op, session, request.range);
      break;
    case Kind::kWrite:
      judge_.WriteInvoked(op, session, request.range, call.id, request.fua);
      break;
    case Kind::kZero:
    case Kind::kDiscard:
      judge_.WriteInvoked(op, session, request.range, 0, request.fua);
      break;
    case Kind::kFlush:
      judge_.FlushInvoked(op, session);
      break;
    case Kind::kBarrier:
      judge_.BarrierInvoked(op, session, request.range, call.id);
      break;
  }
  waiting_[call.id] = {epoch, call.begun, goes_on};
  Note("begun", call, epoch);
  return call;
}

void History::Answered(const Call& call, Epoch epoch, const absl::Status& status,
                       absl::string_view data) {
  std::vector<uint64_t> values;
  absl::Status contents;
  if (call.request.kind == Kind::kRead && status.ok()) {
    for (uint64_t i = 0; i < call.request.range.count; ++i) {
      const size_t at = std::min(i * kBlockBytes, data.size());
      const absl::StatusOr<uint64_t> value =
          ValueOf(data.substr(at, kBlockBytes), call.request.range.first + i);
      contents.Update(value.status());
      values.push_back(value.value_or(0));
    }
  }
  absl::MutexLock lock(&mutex_);
  // Before it is erased: it goes over to the session that has answered it.
  if (call.goes_on) Activate(epoch);
  waiting_.erase(call.id);
  Note("answered", call, epoch, status);
  if (!contents.ok()) return NoteViolation(call, epoch, absl::StrCat("C10: ", contents.message()));
  if (!status.ok()) {
    Fail(call, epoch);
    return NoteError(call, epoch, status);
  }
  // Of a client that does not go on the judge sees it.
  if (epoch < call.epoch && call.request.kind != Kind::kRead) {
    NoteViolation(call, epoch, absl::StrCat("C5: begun when epoch ", call.epoch,
                                            " was active, and OK in epoch ", epoch));
  }
  judge_.Returned(sim::OpId{call.id}, {.ok = true}, values);
  if (!judge_.violation().empty()) NoteViolation(call, epoch, judge_.violation());
  Count(call, epoch);
}

// Of an epoch that had ended when it was begun: nothing may come of it, then or later.
void History::Fail(const Call& call, Epoch epoch) {
  judge_.Returned(sim::OpId{call.id}, {.ok = false, .nothing_written = epoch < call.epoch}, {});
  if (!judge_.violation().empty()) NoteViolation(call, epoch, judge_.violation());
}

void History::Count(const Call& call, Epoch epoch) {
  ++counts_.answered;
  if (epoch == counts_.epoch && counts_.first == Clock::time_point()) counts_.first = Clock::now();
  switch (call.request.kind) {
    case Kind::kRead:
      ++counts_.reads;
      break;
    case Kind::kFlush:
      ++counts_.flushes;
      break;
    default:
      ++counts_.writes;
  }
  counts_.longest = std::max(counts_.longest, Clock::now() - call.begun);
}

void History::NoteError(const Call& call, Epoch epoch, const absl::Status& status) {
  if (epoch < counts_.epoch) {
    ++counts_.refused;
    return;
  }
  if (LacksSpace(call, status)) {
    ++counts_.no_space;
    return;
  }
  if (++counts_.errors > kErrorsShownMax) return;
  news_.push_back(absl::StrCat("error ", ToString(call.request), " by ", call.who, " in epoch ",
                               epoch, ": ", status.ToString()));
}

void History::LackOfSpace(bool may_be) {
  absl::MutexLock lock(&mutex_);
  may_lack_space_ = may_be;
}

// Discards, which make room, are always admitted; flushes and reads need none.
bool History::LacksSpace(const Call& call, const absl::Status& status) const {
  const Kind kind = call.request.kind;
  return may_lack_space_ && StatusToErrno(status) == ENOSPC &&
         (kind == Kind::kWrite || kind == Kind::kZero || kind == Kind::kBarrier);
}

void History::NoteViolation(const Call& call, Epoch epoch, const std::string& what) {
  if (violated_) return;
  violated_ = true;
  news_.push_back(absl::StrCat("violation ", what, "; shown by ", ToString(call.request),
                               " (call ", call.id, ") by ", call.who, " in epoch ", epoch));
  const std::optional<uint64_t> block = judge_.violated_block();
  TellTrail(block.has_value() ? BlockRange{*block, 1} : call.request.range);
}

void History::Note(const char* what, const Call& call, Epoch epoch, const absl::Status& status) {
  if (trail_.size() == kTrailMax) trail_.pop_front();
  trail_.push_back({Clock::now(), what, call, epoch, counts_.epoch, status});
}

void History::TellTrail(BlockRange range) {
  std::vector<const Step*> shown;
  for (auto step = trail_.rbegin(); step != trail_.rend() && shown.size() < kTrailShownMax; ++step) {
    const BlockRange of = step->call.request.range;
    const bool touches = of.first < range.end() && range.first < of.end();
    if (touches || step->call.request.kind == Kind::kFlush) shown.push_back(&*step);
  }
  for (auto step = shown.rbegin(); step != shown.rend(); ++step) {
    const Call& call = (*step)->call;
    news_.push_back(absl::StrCat("trail ", Age((*step)->at), ": ", ToString(call.request), " (call ", call.id,
                                 ") by ", call.who, ", begun in epoch ", call.epoch, ", is ", (*step)->what,
                                 " in epoch ", (*step)->epoch, " when ", (*step)->newest,
                                 " is the newest: ", (*step)->status.ToString()));
  }
}

void History::Unanswered(const Call& call, Epoch epoch) {
  absl::MutexLock lock(&mutex_);
  if (call.goes_on) Activate(epoch);
  waiting_.erase(call.id);
  Note("broken", call, epoch);
  ++counts_.unanswered;
  // A write may still take effect, until another session is active. Others have no effect.
  const Kind kind = call.request.kind;
  if (kind == Kind::kRead || kind == Kind::kFlush || epoch < counts_.epoch) Fail(call, epoch);
}

History::Counts History::TakeCounts() {
  absl::MutexLock lock(&mutex_);
  Counts taken = counts_;
  counts_.longest = {};
  taken.waiting = waiting_.size();
  const Clock::time_point now = Clock::now();
  for (const auto& [id, call] : waiting_) {
    if (call.epoch < counts_.epoch) ++taken.stale;
    taken.oldest = std::max(taken.oldest, now - call.begun);
  }
  return taken;
}

std::string History::NextNews() {
  absl::MutexLock lock(&mutex_);
  if (news_.empty()) return "";
  std::string next = std::move(news_.front());
  news_.pop_front();
  return next;
}

bool History::violated() const {
  absl::MutexLock lock(&mutex_);
  return violated_;
}

}  // namespace weir::chaos
