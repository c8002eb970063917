// LocalHost's replacing of members: asked for, or because they have been out for long.
#include <algorithm>
#include <iterator>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "proto/base/log.h"
#include "proto/base/status_macros.h"
#include "volume/engine/replacement.h"
#include "volume/host/clock.h"
#include "volume/host/local_host.h"

namespace weir::host {
namespace {

constexpr absl::Duration kSuspendDeadline = absl::Seconds(10);
// Other volumes, which it counts with this one, come and go at a replica.
constexpr int kAttemptsMax = 8;
// After a replacement that could not be.
constexpr absl::Duration kRetryAfter = absl::Minutes(1);

}  // namespace

LocalHost::MembersTurn::MembersTurn(std::shared_ptr<Attached> attached)
    : attached_(std::move(attached)) {
  const auto free = [this] {
    attached_->turn_mu.AssertHeld();
    return !attached_->turn_taken;
  };
  absl::MutexLock lock(&attached_->turn_mu, absl::Condition(&free));
  attached_->turn_taken = true;
}

LocalHost::MembersTurn::~MembersTurn() {
  absl::MutexLock lock(&attached_->turn_mu);
  attached_->turn_taken = false;
}

absl::StatusOr<v1::ReplaceMemberResponse> LocalHost::ReplaceMember(
    const v1::ReplaceMemberRequest& request) {
  // Also of one that is attached to be restored: what has lost a member meanwhile may have to be held until it has another.
  ASSIGN_OR_RETURN(const std::shared_ptr<Attached> attached, FindAttachedOrRestored(request.name()));
  const MembersTurn turn(attached);
  if (attached->runner->View().state != engine::EngineView::State::kActive) RETURN_IF_ERROR(RefuseRestoringHere(*attached));
  const v1::VolumeRecord record = attached->Record();
  v1::ReplaceMemberResponse response;
  for (const v1::Member& member : record.members()) {
    if (!request.make_before_break() || member.succeeds() != request.replica()) continue;
    response.set_with(member.replica());
    return response;
  }
  v1::Member with;
  std::set<std::string> unusable;
  for (;;) {
    ASSIGN_OR_RETURN(with, provision_.ChooseReplacement(record, request.replica(), request.with(), request.make_before_break(), unusable));
    const absl::Status taken = TakeIn(*attached, record, request, &with);
    if (taken.ok()) break;
    const bool is_its_own = absl::IsResourceExhausted(taken) || absl::IsAlreadyExists(taken);
    if (!is_its_own || !request.with().empty()) return taken;
    LOG(WARNING) << "volume=" << request.name() << " replica=" << with.replica() << " cannot take the place of " << request.replica() << ": " << taken;
    unusable.insert(with.replica());
  }
  LOG(INFO) << "volume=" << request.name() << " replica=" << with.replica()
            << (request.make_before_break() ? " is to take the place of " : " has taken the place of ")
            << request.replica();
  response.set_with(with.replica());
  return response;
}

absl::Status LocalHost::TakeIn(Attached& attached, const v1::VolumeRecord& record, const v1::ReplaceMemberRequest& request,
                               v1::Member* with) {
  Provision::Asked asked;
  int attempts = 0;
  for (size_t next = 0; next < std::size(engine::kReplaceSteps);) {
    absl::Status status;
    switch (engine::kReplaceSteps[next++]) {
      case engine::ReplaceStep::kAsk: {
        ASSIGN_OR_RETURN(asked, provision_.Ask(record, *with));
        break;
      }
      case engine::ReplaceStep::kNote: {
        bool is_member = false;
        RETURN_IF_ERROR(attached.Commit([&](v1::VolumeRecord now) {
          is_member = std::any_of(now.members().begin(), now.members().end(),
                                  [&](const v1::Member& one) { return one.store_id() == with->store_id(); });
          return is_member ? now : WithFormer(std::move(now), *with);
        }));
        if (is_member) return absl::FailedPreconditionError(absl::StrCat("replica ", with->replica(), " has just become a member"));
        break;
      }
      case engine::ReplaceStep::kMakeCopy:
        status = provision_.MakeCopy(record, asked, with);
        if (!absl::IsAborted(status) || ++attempts == kAttemptsMax) {
          RETURN_IF_ERROR(status);
          break;
        }
        next = 0;
        break;
      case engine::ReplaceStep::kSwapIn:
        RETURN_IF_ERROR(SwapIn(*attached.runner, request.replica(), *with, request.make_before_break()));
        break;
    }
  }
  return absl::OkStatus();
}

absl::Status LocalHost::SwapIn(VolumeRunner& runner, const std::string& replica,
                               const v1::Member& with, bool make_before_break) {
  RETURN_IF_ERROR(runner.BeginReplace());
  const absl::Cleanup end = [&runner] { runner.EndReplace(); };
  engine::TargetConfig next;
  next.replica = with.replica();
  next.address = with.address();
  next.store_id = with.store_id();
  engine::Table table = engine::TableWith(runner.View(), replica, next, make_before_break);
  constexpr auto kReplace = VolumeRunner::Caller::kReplace;
  RETURN_IF_ERROR(runner.Suspend(/*noflush=*/true, kSuspendDeadline, kReplace));
  absl::Status status = runner.LoadTable(std::move(table), kReplace);
  const absl::Status resumed = runner.Resume(kReplace);
  if (status.ok()) status = resumed;
  // The catalog did not take it: on with the members as they were.
  if (!resumed.ok()) (void)runner.Resume(kReplace);
  return status;
}

void LocalHost::ReplaceLost() {
  std::vector<std::pair<std::string, std::shared_ptr<Attached>>> all;
  const engine::Time now = MonotonicNow();
  {
    absl::MutexLock lock(&mu_);
    if (stopping_) return;
    for (auto& [name, entry] : entries_) {
      const auto wait = replace_not_before_.find(name);
      if (wait != replace_not_before_.end() && now < wait->second) continue;
      if (entry.attached != nullptr) all.emplace_back(name, entry.attached);
    }
  }
  for (const auto& [name, attached] : all) {
    const std::string lost = engine::LostMember(attached->runner->View(), options_.replace_after, now);
    if (lost.empty()) continue;
    v1::ReplaceMemberRequest request;
    request.set_name(name);
    request.set_replica(lost);
    const absl::Status status = ReplaceMember(request).status();
    if (status.ok()) continue;
    LOG(WARNING) << "volume=" << name << " replica=" << lost << " is out for "
                 << absl::FormatDuration(options_.replace_after)
                 << " and could not be replaced: " << status;
    absl::MutexLock lock(&mu_);
    replace_not_before_[name] = MonotonicNow() + kRetryAfter;
  }
}

}  // namespace weir::host
