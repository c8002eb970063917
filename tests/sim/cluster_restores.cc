// Restores of a simulated cluster, in the order that engine::Restoration says: of a suspended volume, which is written to under its clients,
// who wait, and of one that nobody has attached. V1 to V3 of the simulator's README.
#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/base/check.h"
#include "proto/base/status_macros.h"
#include "tests/sim/cluster.h"

namespace weir::sim {
namespace {

using engine::RequestKind;
using State = engine::EngineView::State;

constexpr absl::Duration kDetachedWithin = absl::Seconds(2);
constexpr uint64_t kPieceBlocks = 6;

}  // namespace

// --- what an operator asks for ---

void Cluster::StartRestore(uint32_t f) {
  const Frontend& at = *frontends_[f];
  if (!at.healthy()) return;
  const uint64_t pin = PinToRestore(f);
  if (pin == 0) return IsWrittenUnder(f) ? frontends_[f]->Crash() : ResumeSome(f);
  Trace(absl::StrCat("restore from ", pin, " at f", f));
  restores_[f] = {.number = ++restores_begun_, .epoch = at.epoch(), .pin = pin};
  restores_[f].decides.emplace(engine::Restoration::Held::kSuspended, /*marked=*/false);
  RestoreNext(f);
}

// One that was begun, and that the catalog may know of, is to be brought to its end, or another one takes its place.
uint64_t Cluster::PinToRestore(uint32_t f) {
  const Frontend& at = *frontends_[f];
  if (at.pins().empty() || (at.restoring() != 0 && !dice_.Percent(30))) return at.restoring();
  return at.pins()[dice_.Below(at.pins().size())].id;
}

void Cluster::AttachToRestore(uint32_t f) {
  const CatalogRecord& record = catalog_->record();
  if (record.restoring != 0 || record.volume.pins.empty()) return AttachAt(f, /*restores=*/record.restoring != 0);
  const uint64_t pin = record.volume.pins[dice_.Below(record.volume.pins.size())].id;
  frontends_[f]->MarkUnattached(pin, [this, f](const absl::Status& status) {
    // It may have come through all the same, and then somebody else brings it to its end.
    if (status.ok() && !frontends_[f]->serving() && !frontends_[f]->attaching()) AttachAt(f, /*restores=*/true);
  });
}

// A block of it is damaged on each that has one.
bool Cluster::IsUnreadable(uint64_t pin) const {
  const engine::TakeoverRecord& volume = catalog_->record().volume;
  for (uint64_t b = 0; b < volume.size_blocks; ++b) {
    const bool is_there = std::any_of(volume.members.begin(), volume.members.end(), [&](const engine::TakeoverMember& member) {
      const ReplicaNode& node = *replicas_[IndexOf(member.replica)];
      return node.store().health().ok() && node.store().identity().store_id == member.store_id &&
             node.store().ReadPinned(kVolume, pin, {b, 1}).ok();
    });
    if (!is_there) return true;
  }
  return false;
}

// What it can do no more than be deleted.
bool Cluster::IsBeyondRestore() const {
  const CatalogRecord& record = catalog_->record();
  return record.restoring != 0 && !record.volume.recovering &&
         std::all_of(record.volume.pins.begin(), record.volume.pins.end(), [this](const Pin& pin) { return IsUnreadable(pin.id); });
}

// Nobody gets at it but the restore.
void Cluster::ServingToRestore(uint32_t f) {
  const Frontend& at = *frontends_[f];
  restores_[f] = {.number = ++restores_begun_, .epoch = at.epoch(), .pin = PinToRestore(f), .attached = true};
  Trace(absl::StrCat("restore from ", restores_[f].pin, " at f", f, ", which has attached it for that"));
  agenda_.After(dice_.Micros(0, 5000), [this, f, number = restores_begun_] {
    if (!IsUnderWay(f, number)) return;
    restores_[f].decides.emplace(engine::Restoration::Held::kAttached,
                                 /*marked=*/restores_[f].pin == frontends_[f]->restoring());
    RestoreNext(f);
  });
}

void Cluster::RestoreNext(uint32_t f) {
  using Act = engine::Restoration::Act;
  switch (restores_[f].decides->Next(frontends_[f]->engine().View())) {
    case Act::kShut:
      restores_[f].control = next_control_;
      return frontends_[f]->StartRestore(engine::ControlId{next_control_++}, dice_.Micros(1000, 1500000));
    case Act::kMark:
      restores_[f].began = true;
      return MarkRestore(f, restores_[f].pin);
    case Act::kCopy:
      return CopyBack(f);
    case Act::kUnmark:
      CheckRestored(f, "V2: all is written back, and");
      if (catalog_->record().volume.epoch == restores_[f].epoch) half_restored_ = false;
      return MarkRestore(f, 0);
    case Act::kTell:
      return frontends_[f]->TellNow(NextOrFailed(f));
    case Act::kOpen:
      restores_[f].control = next_control_;
      SuspendInvoked(f);
      return frontends_[f]->EndRestore(engine::ControlId{next_control_++}, dice_.Micros(1000, 1500000));
    case Act::kLetGo:
      return LetGoOfRestored(f);
    case Act::kGiveUp:
      return RestoreFailed(f);
    case Act::kDone:
      CheckRestored(f, "V2: restored, and");
      ++result_.restores;
      restores_[f] = {};
      return ResumeSome(f);
  }
}

// Not at once: the engine is still at work on what has brought this.
void Cluster::RestoreNextLater(uint32_t f, absl::Duration delay) {
  agenda_.After(delay, [this, f, number = restores_[f].number] {
    if (IsUnderWay(f, number)) RestoreNext(f);
  });
}

bool Cluster::IsUnderWay(uint32_t f, uint64_t number) const {
  const Restore& restore = restores_[f];
  return number != 0 && restore.number == number && frontends_[f]->healthy() && frontends_[f]->epoch() == restore.epoch;
}

bool Cluster::IsRestoring(uint32_t f) const {
  return IsUnderWay(f, restores_[f].number) && (restores_[f].attached || IsWrittenUnder(f));
}

bool Cluster::IsWrittenUnder(uint32_t f) const {
  return frontends_[f]->serving() && frontends_[f]->engine().View().state == State::kRestoring;
}

// It is begun anew, or given up by force, which leaves its mark.
void Cluster::RestoreFailed(uint32_t f) {
  const uint64_t number = restores_[f].number;
  const bool left = restores_[f].attached || dice_.Percent(50);
  Trace(absl::StrCat("restore at f", f, " is cut short"));
  agenda_.After(dice_.Micros(0, 50000), [this, f, number, left] {
    if (!IsUnderWay(f, number)) return;
    if (IsRestoring(f) && left) return frontends_[f]->Crash();
    if (IsRestoring(f)) return StartRestore(f);
    restores_[f] = {};  // it is suspended as before
    ResumeSome(f);
  });
}

bool Cluster::RestoreDone(uint32_t f, const engine::CompleteControl& done) {
  Restore& restore = restores_[f];
  if (restore.control == 0 || restore.control != static_cast<uint64_t>(done.id)) return false;
  restore.control = 0;
  if (!done.result.ok()) {
    RestoreFailed(f);
  } else if (restore.began) {  // open again, which nobody has used yet
    RestoreNext(f);
  } else {
    CheckAlike(f, "V1: it may be restored, and");
    RestoreNextLater(f, absl::ZeroDuration());
  }
  return true;
}

// `pin`: 0: not any more.
void Cluster::MarkRestore(uint32_t f, uint64_t pin) {
  frontends_[f]->MarkRestoring(pin, NextOrFailed(f));
}

std::function<void(absl::Status)> Cluster::NextOrFailed(uint32_t f) {
  return [this, f, number = restores_[f].number](const absl::Status& status) {
    if (!IsUnderWay(f, number)) return;
    status.ok() ? RestoreNextLater(f, absl::ZeroDuration()) : RestoreFailed(f);
  };
}

// --- what has changed since, and how it was ---

void Cluster::CopyBack(uint32_t f) {
  Restore& restore = restores_[f];
  restore.began = true;
  restore.changed.clear();
  restore.writes.clear();
  AskChanges(f, 0);
}

std::optional<uint32_t> Cluster::WhomToAsk(uint32_t f, engine::AskPinned::What what) {
  std::optional<engine::AskPinned>& asks = restores_[f].asks;
  if (!asks) {
    std::vector<bool> in_sync;
    for (const engine::TakeoverMember& member : frontends_[f]->members()) in_sync.push_back(member.in_sync);
    asks.emplace(what, in_sync);
  }
  const std::optional<size_t> member = asks->Next();
  return member ? std::optional<uint32_t>(static_cast<uint32_t>(*member)) : std::nullopt;
}

void Cluster::AskChanges(uint32_t f, uint32_t lane) {
  if (lane == geometry_.lanes.lanes) return ReadNext(f);
  const std::optional<uint32_t> member = WhomToAsk(f, engine::AskPinned::What::kChanges);
  if (!member) return RestoreFailed(f);
  auto changed = std::make_shared<std::vector<BlockRange>>();
  const auto ask = [changed, lane, pin = restores_[f].pin, size = frontends_[f]->size_blocks()](
                       ReplicaNode& node, const v1::Fence& fence) -> absl::Status {
    changed->clear();
    RETURN_IF_ERROR(node.CheckReader(fence));
    for (uint64_t from = 0; from < size;) {
      ASSIGN_OR_RETURN(const store::ChangedPage page, node.store().ChangedSince(kVolume, pin, LaneId{lane}, from, 4));
      changed->insert(changed->end(), page.ranges.begin(), page.ranges.end());
      if (page.next_block <= from) return absl::InternalError("its pages do not end");
      from = page.next_block;
    }
    return absl::OkStatus();
  };
  frontends_[f]->AskMember(*member, ask, [this, f, lane, changed, number = restores_[f].number](const absl::Status& status) {
    if (!IsUnderWay(f, number)) return;
    if (!status.ok()) {
      restores_[f].asks->Failed(status);
      return AskChanges(f, lane);
    }
    restores_[f].asks.reset();
    for (BlockRange range : *changed) {
      for (; range.count > 0; range = {range.first + kPieceBlocks, range.count - std::min(kPieceBlocks, range.count)}) {
        restores_[f].changed.push_back({range.first, std::min(kPieceBlocks, range.count)});
        if (range.count <= kPieceBlocks) break;
      }
    }
    AskChanges(f, lane + 1);
  });
}

void Cluster::ReadNext(uint32_t f) {
  Restore& restore = restores_[f];
  if (restore.changed.empty()) return WriteNext(f);
  const BlockRange range = restore.changed.front();
  const std::optional<uint32_t> member = WhomToAsk(f, engine::AskPinned::What::kContent);
  if (!member) {
    const absl::Status status = restore.asks->status(range.count);
    restore.asks.reset();
    if (!engine::AskPinned::ByBlocks(range, status)) return RestoreFailed(f);
    restore.changed.pop_front();
    for (uint64_t b = range.end(); b > range.first; --b) restore.changed.push_front({b - 1, 1});
    return ReadNext(f);
  }
  auto was = std::make_shared<std::vector<uint64_t>>();
  const auto ask = [was, range, pin = restore.pin](ReplicaNode& node, const v1::Fence& fence) -> absl::Status {
    was->assign(range.count, 0);
    RETURN_IF_ERROR(node.CheckReader(fence));
    ASSIGN_OR_RETURN(const auto versions, node.store().ReadPinned(kVolume, pin, range));
    for (const store::BlockVersion& version : versions) {
      if (!version.zero) (*was)[version.block - range.first] = ValueOf(version.data, 0);
    }
    return absl::OkStatus();
  };
  frontends_[f]->AskMember(*member, ask, [this, f, range, was, number = restore.number](const absl::Status& status) {
    if (!IsUnderWay(f, number)) return;
    Restore& at = restores_[f];
    if (!status.ok()) {
      at.asks->Failed(status);
      return ReadNext(f);
    }
    at.asks.reset();
    at.changed.pop_front();
    for (uint64_t i = 0; i < range.count; ++i) {
      const uint64_t original = OriginalOf(Shown((*was)[i], range.first + i));
      const bool goes_on = i > 0 && at.writes.back().original == original;
      if (!goes_on) at.writes.push_back({{range.first + i, 0}, original});
      ++at.writes.back().range.count;
    }
    ReadNext(f);
  });
}

// --- and is written once more ---

uint64_t Cluster::OriginalOf(uint64_t request) const {
  const auto found = original_of_.find(request);
  return found == original_of_.end() ? request : found->second;
}

// A flush comes last.
void Cluster::WriteNext(uint32_t f) {
  Restore& restore = restores_[f];
  restore.request = ops_.size();
  engine::Request request;
  request.id = engine::RequestId{restore.request};
  request.kind = RequestKind::kFlush;
  request.in_lock = true;
  if (!restore.writes.empty()) {
    half_restored_ |= catalog_->record().volume.epoch == restore.epoch;
    const auto [range, original] = restore.writes.front();
    restore.writes.pop_front();
    request.range = range;
    request.kind = original == 0 ? RequestKind::kWriteZeroes : RequestKind::kWrite;
    if (original != 0) {
      original_of_[restore.request] = original;
      FillWrite(&request);
    }
  }
  Invoke(request, f);
  frontends_[f]->Submit(std::move(request));
}

void Cluster::RestoringCompleted(uint32_t f, uint64_t id, bool ok) {
  Restore& restore = restores_[f];
  const bool writes = ops_[id].kind != RequestKind::kRead && ops_[id].kind != RequestKind::kFlush;
  used_since_restore_ |= ok && writes && restore.request != id && ops_[id].epoch == catalog_->record().volume.epoch;
  if (restore.number == 0 || restore.request != id) {
    if (IsRestoring(f) && restore.began) {
      Violated(absl::StrCat("V1: request ", id, " was answered while the volume is restored"));
    } else if (ok && catalog_->record().restoring != 0 && ops_[id].epoch == catalog_->record().volume.epoch) {
      Violated(absl::StrCat("V3: request ", id, " was answered, and the record says that the volume is being restored"));
    }
    return;
  }
  restore.request = 0;
  if (!ok) return RestoreFailed(f);
  const bool flushed = ops_[id].kind == RequestKind::kFlush;
  const absl::Duration pause = flushed ? absl::ZeroDuration() : dice_.Micros(0, 5000);
  agenda_.After(pause, [this, f, flushed, number = restore.number] {
    if (!IsUnderWay(f, number)) return;
    flushed ? RestoreNext(f) : WriteNext(f);
  });
}

void Cluster::LetGoOfRestored(uint32_t f) {
  ++result_.restores;
  restores_[f].attached = false;
  DetachSome(f);
  // What cannot be detached is let go of by force.
  agenda_.After(kDetachedWithin, [this, f, number = restores_[f].number] {
    if (IsUnderWay(f, number)) frontends_[f]->Crash();
  });
}

// Nothing that was begun before is still to come: each member has the same.
void Cluster::CheckAlike(uint32_t f, const char* when) {
  const engine::TakeoverRecord& volume = catalog_->record().volume;
  if (volume.epoch != restores_[f].epoch || volume.recovering) return;  // it is another's by now
  std::vector<std::optional<uint64_t>> values(volume.size_blocks);
  for (uint32_t r = 0; r < replicas_.size(); ++r) {
    const ReplicaStore& disk = replicas_[r]->disk();
    if (!IsMember(r) || !disk.store().health().ok()) continue;
    for (uint64_t b = 0; b < values.size(); ++b) {
      const uint32_t lane = Index(geometry_.lanes.LaneOf(b));
      if (disk.durable(lane) < disk.position(lane)) {
        return Violated(absl::StrCat(when, " ", replicas_[r]->name(), " has not synced lane ", lane));
      }
      const std::vector<Version>* versions = disk.damaged(b) ? nullptr : disk.versions(b);
      if (versions == nullptr) continue;
      const uint64_t value = versions->empty() ? 0 : versions->back().value;
      if (!values[b]) values[b] = value;
      if (*values[b] == value) continue;
      return Violated(absl::StrCat(when, " block ", b, " of ", replicas_[r]->name(), " is of request ", RequestIn(value), ", not ",
                                   RequestIn(*values[b])));
    }
  }
}

// And what the snapshot has.
void Cluster::CheckRestored(uint32_t f, const char* when) {
  const engine::TakeoverRecord& volume = catalog_->record().volume;
  if (volume.epoch != restores_[f].epoch || volume.recovering) return;  // it is another's by now
  const uint64_t size = frontends_[f]->size_blocks();
  CheckAlike(f, when);
  std::optional<std::vector<uint64_t>> was = snapshot_judge_->Taken(restores_[f].pin, size);
  if (!was) return;
  was->resize(size);  // it has grown since
  for (uint32_t r = 0; r < replicas_.size(); ++r) {
    const ReplicaStore& disk = replicas_[r]->disk();
    if (!IsMember(r) || !disk.store().health().ok()) continue;
    for (uint64_t b = 0; b < size; ++b) {
      const std::vector<Version>* versions = disk.damaged(b) ? nullptr : disk.versions(b);
      if (versions == nullptr) continue;
      const uint64_t is = OriginalOf(versions->empty() ? 0 : RequestIn(versions->back().value));
      if (is == OriginalOf((*was)[b])) continue;
      return Violated(absl::StrCat(when, " block ", b, " of ", replicas_[r]->name(), " is of request ", is, ", in the snapshot it was of ",
                                   OriginalOf((*was)[b])));
    }
  }
}

}  // namespace weir::sim
