// LocalHost's replacing of members: asked for, or because they have been out for long.
#include <algorithm>
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
  ASSIGN_OR_RETURN(v1::Member with, provision_.ChooseReplacement(record, request.replica(), request.with(),
                                                                 request.make_before_break()));
  for (const engine::ReplaceStep step : engine::kReplaceSteps) {
    switch (step) {
      case engine::ReplaceStep::kNote:
        RETURN_IF_ERROR(attached->Commit([&with](v1::VolumeRecord now) { return WithFormer(std::move(now), with); }));
        break;
      case engine::ReplaceStep::kMakeCopy:
        RETURN_IF_ERROR(provision_.MakeCopy(record, &with));
        break;
      case engine::ReplaceStep::kSwapIn:
        RETURN_IF_ERROR(SwapIn(*attached->runner, request.replica(), with, request.make_before_break()));
        break;
    }
  }
  LOG(INFO) << "volume=" << request.name() << " replica=" << with.replica()
            << (request.make_before_break() ? " is to take the place of " : " has taken the place of ")
            << request.replica();
  response.set_with(with.replica());
  return response;
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
