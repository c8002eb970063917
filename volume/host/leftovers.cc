// LocalHost's deleting of what replaced members had, and of snapshots that were made for a clone; and the look at all
// volumes now and then.
#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "proto/base/log.h"
#include "proto/base/status_macros.h"
#include "volume/host/clock.h"
#include "volume/host/local_host.h"

namespace weir::host {
namespace {

constexpr absl::Duration kLookEvery = absl::Seconds(1);
// After one that could not be deleted.
constexpr absl::Duration kRetryAfter = absl::Minutes(1);

// Nobody can need what a former member has: all copies that the volume should have are there. Who an operator has taken
// out does not count.
bool IsWhole(const v1::VolumeRecord& record) {
  uint32_t in_sync = 0;
  for (const v1::Member& member : record.members()) {
    if (!member.in_sync() && !member.stays_out()) return false;
    if (member.in_sync()) ++in_sync;
  }
  return record.state() == v1::VolumeRecord::ACTIVE && in_sync >= record.min_in_sync();
}

bool HasSnapshotOfClone(const v1::VolumeRecord& record) {
  return std::any_of(record.snapshots().begin(), record.snapshots().end(),
                     [](const v1::SnapshotRecord& snapshot) { return snapshot.of_clone(); });
}

// The catalog's members, and the engine's: it may bring one back whose leaving for good it has not heard of.
bool NamesStore(const v1::VolumeRecord& record, const engine::EngineView& view, const std::string& store_id) {
  return std::any_of(record.members().begin(), record.members().end(),
                     [&](const v1::Member& member) { return member.store_id() == store_id; }) ||
         std::any_of(view.targets.begin(), view.targets.end(), [&](const engine::TargetView& target) {
           return !target.config.gone && target.config.store_id == store_id;
         });
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
  const std::string& name = attached->runner->name();
  if (!IsWhole(attached->Record())) return true;
  const MembersTurn turn(attached);
  // The record as the catalog has it, and nobody has taken over: then no other store is a member.
  const absl::StatusOr<catalog::VersionedVolume> read = catalog_->GetVolume(name);
  if (!read.ok()) return false;
  const v1::VolumeRecord& record = read->record;
  if (record.epoch() != attached->runner->epoch() || !IsWhole(record)) return true;
  bool all = true;
  for (const v1::FormerMember& former : record.former()) {
    if (NamesStore(record, attached->runner->View(), former.store_id())) {
      all = false;
      continue;
    }
    if (!provision_.DeleteLeftover(record, former).ok()) {
      all = false;
      continue;
    }
    metrics_->CountLeftover(name);
    const absl::Status committed = attached->Commit([&](v1::VolumeRecord now) {
      return WithoutFormer(std::move(now), former.store_id());
    });
    if (committed.ok()) continue;
    LOG(WARNING) << "volume=" << name << " the catalog could not be told that former members are gone: "
                 << committed;
    return false;
  }
  return all;
}

}  // namespace weir::host
