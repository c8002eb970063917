// A simulated cluster whose volume is deleted, while it is used and in the middle of its faults. D1 to D4 of the simulator's README.
#include "absl/strings/str_cat.h"
#include "tests/sim/cluster.h"

namespace weir::sim {

// Its operator detaches it, if somebody serves it, also by force, and asks anybody to delete it, until that is done.
void Cluster::DeleteSome() {
  if (catalog_->record().gone) return;
  agenda_.After(dice_.Micros(5000, 300000), [this] { DeleteSome(); });
  if (healed_ && IsDeleted()) ReplaceFailedDisks();
  const uint32_t f = AnyFrontend();
  if (frontends_[f]->serving()) {
    if (dice_.Percent(30)) return DetachSome(f);
    if (dice_.Percent(healed_ ? 30 : 5)) frontends_[f]->Crash();
    return;
  }
  if (frontends_[f]->deleting()) return;
  Trace(absl::StrCat("delete at f", f));
  frontends_[f]->Delete([this](const absl::Status& status) {
    if (status.ok() && !catalog_->record().gone) Violated("D3: a volume is said to be deleted, and has its record");
  });
}

// One that has failed for good deletes nothing.
void Cluster::ReplaceFailedDisks() {
  for (uint32_t r = 0; r < replicas_.size(); ++r) {
    if (replicas_[r]->store().health().ok()) continue;
    network_->ReplicaGone(r);
    replicas_[r]->ReplaceDisk(agenda_.now(), /*with_volume=*/!options_.replaces);
    replicas_[r]->Start();
  }
}

bool Cluster::IsDeleted() const { return catalog_->record().deleting || catalog_->record().gone; }

// A store that has failed does not tell.
bool Cluster::HasCopy(uint32_t r) const { return !absl::IsNotFound(replicas_[r]->store().GetVolume(kVolume).status()); }

void Cluster::CopyDeleted(uint32_t r) {
  put_back_[r] = false;
  if (options_.replaces) return LeftoverDeleted(r);
  if (!IsDeleted()) Violated(absl::StrCat("D2: replica ", replicas_[r]->name(), " deletes its copy, and the record does not say so"));
}

// Of a record that has just become the catalog's, and says so.
void Cluster::CheckDeleted() {
  const CatalogRecord& record = catalog_->record();
  if (!record.gone) {
    Trace("catalog: the volume is being deleted");
    for (uint32_t f = 0; f < frontends_.size(); ++f) {
      const bool serves = frontends_[f]->healthy() && frontends_[f]->epoch() == record.volume.epoch;
      if (serves && !record.volume.detached) Violated(absl::StrCat("D4: a volume is being deleted, and served by f", f));
    }
    return;
  }
  Trace("catalog: the volume is gone");
  ops_when_gone_ = ops_.size();
  ++result_.deletions;
  for (const engine::TakeoverMember& member : record.volume.members) {
    const uint32_t r = IndexOf(member.replica);
    // A disk that was put back from a copy may have it once more.
    if (HasOtherStore(r) || put_back_[r] || !HasCopy(r)) continue;
    Violated(absl::StrCat("D3: the volume is gone, and replica ", replicas_[r]->name(), " has a copy"));
  }
}

bool Cluster::DeletionFinished() {
  if (!catalog_->record().gone) return NotYet("the volume is not deleted");
  return OpenRequest() == 0 || NotYet("no answer has request", OpenRequest());
}

}  // namespace weir::sim
