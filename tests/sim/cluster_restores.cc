// Restores of a simulated cluster, as host/restore.cc does them: a suspended volume is written to under its clients, who
// wait. V1 and V2 of the simulator's README. The record's mark is not simulated: who takes a volume over in the middle
// serves what there is of it.
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/sim/cluster.h"

namespace weir::sim {
namespace {

using engine::RequestKind;
using State = engine::EngineView::State;

}  // namespace

void Cluster::StartRestore(uint32_t f) {
  if (!frontends_[f]->healthy()) return;
  Trace(absl::StrCat("restore at f", f));
  restores_[f] = {.epoch = frontends_[f]->epoch(), .control = next_control_, .values = {}};
  frontends_[f]->StartRestore(engine::ControlId{next_control_++}, dice_.Micros(1000, 1500000));
}

bool Cluster::IsRestoring(uint32_t f) const {
  return frontends_[f]->healthy() && restores_[f].epoch == frontends_[f]->epoch() &&
         frontends_[f]->engine().View().state == State::kRestoring;
}

bool Cluster::RestoreDone(uint32_t f, const engine::CompleteControl& done) {
  Restore& restore = restores_[f];
  if (restore.control == 0 || restore.control != static_cast<uint64_t>(done.id)) return false;
  restore.control = 0;
  if (IsRestoring(f)) {
    // It has begun, or has not come to its end: then some operators detach the volume by force.
    if (done.result.ok()) TakeStock(f);
    const bool left = !done.result.ok() && dice_.Percent(50);
    agenda_.After(dice_.Micros(0, 50000), [this, f, left] {
      if (!IsRestoring(f)) return;
      left ? frontends_[f]->Crash() : RestoreMore(f);
    });
    return true;
  }
  if (!frontends_[f]->healthy()) return true;
  if (done.result.ok()) {
    ++result_.restores;
    CheckRestored(f, "V2: restored, and");
  }
  restore = {};
  ResumeSome(f);
  return true;
}

// Some of what a restore writes, or its end, or it begins anew: as it has to after an error.
void Cluster::RestoreMore(uint32_t f) {
  if (!IsRestoring(f)) return;
  Restore& restore = restores_[f];
  if (restore.values.empty() || dice_.Percent(5)) return StartRestore(f);
  if (dice_.Percent(25)) {
    restore.control = next_control_;
    SuspendInvoked(f);
    return frontends_[f]->EndRestore(engine::ControlId{next_control_++}, dice_.Micros(1000, 1500000));
  }
  engine::Request request;
  do {
    request = RandomRequest(ops_.size(), restore.values.size());
  } while (request.kind != RequestKind::kWrite && request.kind != RequestKind::kWriteZeroes &&
           request.kind != RequestKind::kFlush);
  request.in_lock = true;
  restore.request = ops_.size();
  Invoke(request, f);
  frontends_[f]->Submit(std::move(request));
}

void Cluster::RestoringCompleted(uint32_t f, uint64_t id, bool ok) {
  Restore& restore = restores_[f];
  if (restore.request != id) {
    if (IsRestoring(f) && !restore.values.empty()) {
      Violated(absl::StrCat("V1: request ", id, " was answered while the volume is restored"));
    }
    return;
  }
  restore.request = 0;
  const Op& op = ops_[id];
  for (uint64_t b = op.range.first; ok && op.kind != RequestKind::kFlush && b < op.range.end(); ++b) {
    restore.values[b] = op.kind == RequestKind::kWrite ? StampOf(id, b) : 0;
  }
  if (!ok) restore.values.clear();
  agenda_.After(dice_.Micros(0, 20000), [this, f] { RestoreMore(f); });
}

// What every member has: nothing that was begun before is still to come.
void Cluster::TakeStock(uint32_t f) {
  restores_[f].values.assign(frontends_[f]->size_blocks(), kUnknown);
  CheckRestored(f, "V1: it may be restored, and");
}

void Cluster::CheckRestored(uint32_t f, const char* when) {
  std::vector<uint64_t>& values = restores_[f].values;
  const engine::TakeoverRecord& volume = catalog_->record().volume;
  if (volume.epoch != restores_[f].epoch || volume.recovering) return;  // it is another's by now
  for (uint32_t r = 0; r < replicas_.size(); ++r) {
    const ReplicaStore& disk = replicas_[r]->disk();
    if (!IsMember(r) || HasOtherStore(r) || restored_[r] != 0 || !disk.store().health().ok()) continue;
    for (uint64_t b = 0; b < values.size(); ++b) {
      const uint32_t lane = Index(geometry_.lanes.LaneOf(b));
      if (disk.durable(lane) < disk.position(lane)) {
        return Violated(absl::StrCat(when, " ", replicas_[r]->name(), " has not synced lane ", lane));
      }
      const std::vector<Version>* versions = disk.damaged(b) ? nullptr : disk.versions(b);
      if (versions == nullptr) continue;
      const uint64_t value = versions->empty() ? 0 : versions->back().value;
      if (values[b] == kUnknown) values[b] = value;
      if (values[b] == value) continue;
      return Violated(absl::StrCat(when, " block ", b, " of ", replicas_[r]->name(), " is of request ",
                                   RequestIn(value), ", not ", RequestIn(values[b])));
    }
  }
}

}  // namespace weir::sim
