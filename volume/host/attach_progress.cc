#include "volume/host/attach_progress.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"

namespace weir::host {
namespace {

std::string Since(engine::Time then, engine::Time now) {
  return absl::FormatDuration(absl::Ceil(now - then, absl::Seconds(1)));
}

// It said nothing of its own: nobody is there, or nobody in time.
bool IsAbsence(const absl::Status& status) {
  return absl::IsUnavailable(status) || absl::IsDeadlineExceeded(status);
}

// What a call to it has said, without its name and address, which stand before that already.
absl::string_view Words(const std::string& replica, const std::string& address, const absl::Status& status) {
  return absl::StripPrefix(status.message(), absl::StrCat("replica ", replica, " at ", address, ": "));
}

std::string WhatToDo(const std::string& replica, const std::string& address, bool absent) {
  if (absent) return absl::StrCat("start replica ", replica, ", or mend the network to ", address);
  return absl::StrCat("replica ", replica, " at ", address, " runs and refuses: do as its answer says, and see its log");
}

}  // namespace

void AttachProgress::Begin(const v1::VolumeRecord& record) {
  absl::MutexLock lock(&mu_);
  volume_id_ = record.id();
  epoch_ = record.epoch();
  members_.clear();
  for (const v1::Member& member : record.members()) {
    members_.push_back({.replica = member.replica(), .address = member.address()});
  }
  failure_ = absl::OkStatus();
}

void AttachProgress::TookEpoch(uint32_t epoch) {
  absl::MutexLock lock(&mu_);
  epoch_ = epoch;
}

void AttachProgress::Asked(uint32_t member, std::string what, engine::Time now) {
  absl::MutexLock lock(&mu_);
  Member& asked = members_[member];
  if (asked.awaited != what) asked.since = now;
  asked.awaited = std::move(what);
  ++asked.unanswered;
}

void AttachProgress::Answered(uint32_t member, const absl::Status& status) {
  absl::MutexLock lock(&mu_);
  Member& answered = members_[member];
  answered.last_error = status;
  if (--answered.unanswered == 0 && status.ok()) answered.awaited.clear();
}

void AttachProgress::GivenUp(uint32_t member, std::string why) {
  absl::MutexLock lock(&mu_);
  members_[member].awaited.clear();
  members_[member].given_up = std::move(why);
}

void AttachProgress::Failed(const absl::Status& status, engine::Time now) {
  absl::MutexLock lock(&mu_);
  failure_ = status;
  failed_at_ = now;
}

bool AttachProgress::Explain(const v1::VolumeRecord& record, engine::Time now, v1::ExplainResponse* out) const {
  absl::MutexLock lock(&mu_);
  const bool failed = !failure_.ok();
  if (record.id() != volume_id_ || (failed && record.epoch() > epoch_)) return false;
  if (failed) {
    out->add_facts(absl::StrCat("the last attach here failed ", Since(failed_at_, now), " ago: ", failure_.message()));
  }
  for (const Member& member : members_) {
    if (member.given_up.empty() && member.awaited.empty()) continue;
    std::string fact = absl::StrCat("replica ", member.replica, " at ", member.address, failed ? " was " : " is ");
    if (!member.given_up.empty()) {
      absl::StrAppend(&fact, "given up: ", member.given_up);
    } else {
      absl::StrAppend(&fact, "waited for to ", member.awaited, failed ? "" : absl::StrCat(", since ", Since(member.since, now)),
                      member.last_error.ok() ? "" : absl::StrCat("; its last answer: ", Words(member.replica, member.address, member.last_error)));
    }
    out->add_facts(std::move(fact));
    // Given up for what it has, it has answered.
    const bool silent = member.last_error.ok() && member.given_up.empty();
    out->add_actions(WhatToDo(member.replica, member.address, silent || IsAbsence(member.last_error)));
  }
  return true;
}

void ExplainAbsent(const v1::VolumeRecord& record, const std::map<std::string, absl::Status>& errors, v1::ExplainResponse* out) {
  // Who is out has a copy too.
  const bool deleting = record.state() == v1::VolumeRecord::DELETING;
  size_t wanted = 0, absent = 0;
  for (const v1::Member& member : record.members()) {
    if (!deleting && !member.in_sync()) continue;
    ++wanted;
    const auto error = errors.find(member.replica());
    if (error == errors.end()) continue;
    ++absent;
    out->add_facts(absl::StrCat("replica ", member.replica(), " at ", member.address(), deleting ? " has a copy, and " : " is in sync, and ",
                                IsAbsence(error->second) ? "does not answer: " : "refuses: ",
                                Words(member.replica(), member.address(), error->second)));
    out->add_actions(WhatToDo(member.replica(), member.address(), IsAbsence(error->second)));
  }
  if (absent == 0) return;
  if (deleting) return out->add_next("it can be deleted once these replicas are there, or forgotten");
  out->add_next(absent == wanted ? "an attach fails until one of these replicas is there"
                                  : "an attach waits for these replicas, and goes on without them if it may");
}

}  // namespace weir::host
