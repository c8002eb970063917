// LocalHost's deleting of what others than members may have, and of snapshots that were made for a clone; and the look at all
// volumes now and then.
#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "proto/base/log.h"
#include "proto/base/status_macros.h"
#include "volume/engine/leftovers.h"
#include "volume/host/clock.h"
#include "volume/host/local_host.h"

namespace weir::host {
namespace {

constexpr absl::Duration kLookEvery = absl::Seconds(1);
// After one that could not be deleted.
constexpr absl::Duration kRetryAfter = absl::Minutes(1);

bool IsActive(const v1::VolumeRecord& record) { return record.state() == v1::VolumeRecord::ACTIVE; }

bool HasSnapshotOfClone(const v1::VolumeRecord& record) {
  return std::any_of(record.snapshots().begin(), record.snapshots().end(),
                     [](const v1::SnapshotRecord& snapshot) { return snapshot.of_clone(); });
}

}  // namespace

// Closures run only while this lives: the destructor ends the timer and the queue.
void LocalHost::LookLater() {
  timer_->At(MonotonicNow() + kLookEvery, [this] {
    bool looks = false;
    {
      // The queue goes after `stopping_` is set, and before the timer.
      absl::MutexLock lock(&mu_);
      if (stopping_) return;
      looks = control_->Run([this] {
        if (options_.replace_after < absl::InfiniteDuration()) ReplaceLost();
        DeleteLeftovers();
        LookLater();
      });
    }
    // Too much waits already.
    if (!looks) LookLater();
  });
}

void LocalHost::DeleteLeftovers() {
  std::vector<std::string> names;
  const engine::Time now = MonotonicNow();
  {
    absl::MutexLock lock(&mu_);
    if (stopping_) return;
    std::erase_if(leftovers_not_before_, [now](const auto& wait) { return wait.second <= now; });
    for (auto& [name, entry] : entries_) {
      if (entry.attached != nullptr && !leftovers_not_before_.contains(name)) names.push_back(name);
    }
  }
  for (const std::string& name : names) {
    const std::shared_ptr<Attached> attached = ServedOrNull(name);
    if (attached == nullptr) continue;
    const v1::VolumeRecord record = attached->Record();
    const bool of_clones = HasSnapshotOfClone(record);
    if (record.former_size() == 0 && !of_clones) continue;
    const bool deleted = DeleteLeftoversOf(attached);
    const absl::Status dropped = of_clones ? DropOrphansOf(attached) : absl::OkStatus();
    if (!dropped.ok()) LOG(INFO) << "volume=" << name << " its clones' snapshots are looked at later: " << dropped;
    // What clones read from is asked no more often, either.
    if (deleted && !of_clones) continue;
    absl::MutexLock lock(&mu_);
    leftovers_not_before_[name] = MonotonicNow() + kRetryAfter;
  }
}

// Made for a clone that reads from it no more, or never came to be: it was flattened or deleted by another frontend, or
// somebody died in the middle.
absl::Status LocalHost::DropOrphansOf(const std::shared_ptr<Attached>& attached) {
  const std::string& name = attached->runner->name();
  const v1::VolumeRecord seen = attached->Record();
  for (const v1::SnapshotRecord& snapshot : seen.snapshots()) {
    if (!snapshot.of_clone()) continue;
    ASSIGN_OR_RETURN(const std::vector<std::string> before, LiveClones(snapshot));
    if (!before.empty()) continue;
    ASSIGN_OR_RETURN(const Exclusive held, Exclusive::Take(this, name));
    bool attaching = false;
    if (AttachedOrNull(name, &attaching) != attached) return absl::OkStatus();
    // As DeleteSnapshot: a frontend that had the volume before may still be making the clone, and asks once its record is
    // written whether the snapshot names it still.
    absl::Status status = MarkDeleting(*attached, snapshot.name());
    if (status.ok()) status = DropSnapshot(*attached, snapshot.name());
    const bool has_gone = absl::IsNotFound(status), has_clone = absl::IsFailedPrecondition(status);
    if (!has_gone && !has_clone) RETURN_IF_ERROR(status);
  }
  return absl::OkStatus();
}

bool LocalHost::DeleteLeftoversOf(const std::shared_ptr<Attached>& attached) {
  using Act = engine::Leftovers::Act;
  const std::string& name = attached->runner->name();
  const MembersTurn turn(attached);
  const v1::VolumeRecord record = attached->Record();
  if (!engine::IsWhole(ToTakeover(record), IsActive(record))) return true;
  const std::vector<v1::FormerMember> all(record.former().begin(), record.former().end());
  std::vector<std::string> stores;
  for (const v1::FormerMember& former : all) stores.push_back(former.store_id());
  engine::Leftovers decides(std::move(stores));
  Provision::Asked copy;
  for (;;) {
    const engine::Leftovers::Step step = decides.Next();
    if (step.act == Act::kDone) return !decides.left_some();
    const v1::FormerMember& former = all[step.store];
    absl::Status status;
    if (step.act == Act::kAsk) {
      const absl::StatusOr<Provision::Asked> found = provision_.FindLeftover(record, former);
      status = found.status();
      if (found.ok()) decides.Asked((copy = *found).left);
    } else if (step.act == Act::kConfirm) {
      status = attached->Commit([](v1::VolumeRecord same) { return same; });
      const v1::VolumeRecord now = attached->Record();
      if (status.ok()) decides.Confirmed(ToTakeover(now), IsActive(now), attached->runner->View());
    } else if (step.act == Act::kDeleteCopy) {
      status = provision_.DeleteLeftover(record, former, copy);
      if (status.ok()) metrics_->CountLeftover(name);
    } else {
      status = attached->Commit([&](v1::VolumeRecord now) { return WithoutFormer(std::move(now), former.store_id()); });
    }
    if (status.ok()) continue;
    LOG(INFO) << "volume=" << name << " what store " << former.store_id() << " of replica " << former.replica()
              << " may have of it is looked at later: " << status;
    decides.Failed();
  }
}

}  // namespace weir::host
