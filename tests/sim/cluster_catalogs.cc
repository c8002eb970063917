// A simulated cluster whose catalog is lost, or put back from an older copy.
#include <algorithm>
#include <cerrno>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "proto/base/check.h"
#include "proto/base/errno.h"
#include "tests/sim/cluster.h"

namespace weir::sim {
namespace {

constexpr int kAttachesOfAnOldCatalog = 3;
constexpr absl::Duration kAttachedWithin = absl::Seconds(60);

}  // namespace

// What the replicas' answers make of the record.
absl::StatusOr<engine::Rebuilt> Cluster::RebuildRecord() const {
  std::vector<engine::RebuildSource> sources;
  for (const auto& replica : replicas_) {
    const store::Store& store = replica->store();
    const absl::StatusOr<store::VolumeState> state = store.GetVolume(kVolume);
    CHECK_OK(state.status());
    engine::RebuildSource source{.replica = replica->name(), .store_id = store.identity().store_id,
                                 .promised = state->promised_epoch, .pins = state->pins,
                                 .size_blocks = state->geometry.size_blocks};
    source.lanes = LanesOf(*state);
    const absl::StatusOr<store::RecordCopy> copy = store.GetRecord(kVolume);
    CHECK_OK(copy.status());
    if (!copy->record.empty()) source.copy = {copy->epoch, copy->revision, copies_[std::stoul(copy->record)].volume};
    sources.push_back(std::move(source));
  }
  absl::StatusOr<engine::Rebuilt> rebuilt = engine::Rebuild(sources, /*without=*/{});
  if (rebuilt.ok() || !absl::StrContains(rebuilt.status().message(), "was being brought back from")) return rebuilt;
  // What is said to be missing a power cut has taken, since all have answered: nothing is lost with who is on its way.
  std::set<std::string> joiners;
  for (const engine::RebuildSource& source : sources) {
    const bool joins = std::any_of(source.lanes.begin(), source.lanes.end(),
                                   [](const auto& lane) { return lane.join_to != Position(); });
    if (joins) joiners.insert(source.replica);
  }
  return engine::Rebuild(sources, joiners);
}

// While all disks are well: who has lost a disk and the catalog cannot tell whether that disk had something newer.
bool Cluster::LoseCatalog() {
  if (!options_.survivable || store_failed_ || options_.deletes || options_.replaces) return false;
  const absl::StatusOr<engine::Rebuilt> plan = RebuildRecord();
  if (!plan.ok()) {
    // A spare that came in after the last copy that anybody was told is named by none.
    const bool unnamed = drained_ && absl::StrContains(plan.status().message(), "no copy of the record accounts for");
    if (active_epoch_ > 0 && !unnamed) Violated(absl::StrCat("the catalog cannot be rebuilt: ", plan.status().message()));
    return false;
  }
  // No other loss besides: the record's members are not examined yet.
  store_failed_ = true;
  for (const auto& frontend : frontends_) frontend->Crash();
  // As host/rebuild.cc: what calls under way still bring is refused, and then it is decided.
  v1::Fence fence;
  fence.set_cluster_id(kCluster);
  fence.set_volume_id(static_cast<uint64_t>(kVolume));
  for (const auto& replica : replicas_) fence.set_epoch(std::max<Epoch>(fence.epoch(), replica->disk().promised()));
  fence.set_epoch(fence.epoch() + engine::kEpochsSkipped / 2);
  for (const auto& replica : replicas_) {
    fence.set_store_id(replica->store().identity().store_id);
    CHECK_OK(replica->Seal(fence).status());
  }
  const absl::StatusOr<engine::Rebuilt> rebuilt = RebuildRecord();
  CHECK_OK(rebuilt.status());
  const absl::StatusOr<store::RecordCopy> kept = replicas_[rebuilt->source]->store().GetRecord(kVolume);
  const uint64_t restoring = copies_[std::stoul(kept->record)].restoring;
  if (restoring != 0 && catalog_->record().restoring == 0 && used_since_restore_) {
    Violated("V4: by a record made anew a restore that has ended, and been used since, is to be done again");
  }
  catalog_->Replace(rebuilt->record, restoring);
  return true;
}

// A client was told of a write that the older record does not know of, and one that must have it is a member by both.
bool Cluster::IsFoundOut(const engine::TakeoverRecord& older) const {
  if (acknowledged_in_ <= older.act_epoch) return false;
  for (uint32_t r = 0; r < older.members.size(); ++r) {
    const engine::TakeoverMember& then = older.members[r];
    const engine::TakeoverMember* now = MemberOf(r);
    const bool both = IsMember(r) && then.in_sync && then.store_id == now->store_id;
    // What nobody had synced a power cut may have taken, all of it.
    const bool has = replicas_[r]->power_cut_at() < acknowledged_last_ || HasWrittenAfter(r, older.act_epoch);
    if (both && has && replicas_[r]->store().health().ok()) return true;
  }
  return false;
}

bool Cluster::HasWrittenAfter(uint32_t r, Epoch epoch) const {
  for (uint64_t b = 0; b < geometry_.size_blocks; ++b) {
    const std::vector<Version>* versions = replicas_[r]->disk().versions(b);
    if (versions != nullptr && !versions->empty() && versions->back().position.epoch() > epoch) return true;
  }
  return false;
}

// After all else, since nothing that was asked before is judged by such a catalog.
void Cluster::RestoreOldCatalog() {
  Dice dice(seed_);
  const engine::TakeoverRecord older = records_[dice.Below(records_.size())];
  if (!IsFoundOut(older)) return;
  Trace(absl::StrCat("the catalog is put back as it was in epoch ", older.epoch, ", act_epoch ", older.act_epoch));
  ++result_.old_catalogs;
  old_catalog_ = true;
  for (const auto& frontend : frontends_) frontend->Crash();
  catalog_->Replace(older);
  for (int attach = 0; attach < kAttachesOfAnOldCatalog && result_.violation.empty(); ++attach) {
    refused_ = absl::OkStatus();
    const Time until = agenda_.now() + kAttachedWithin;
    AttachAt(static_cast<uint32_t>(dice.Below(frontends_.size())));
    while (refused_.ok() && result_.violation.empty()) {
      if (agenda_.empty() || agenda_.next() > until) return Violated("an attach by an older catalog does not end");
      agenda_.RunNext();
    }
    // The host marks the record, and does not attach again.
    if (StatusToErrno(refused_) == ESTALE) return;
  }
}

}  // namespace weir::sim
