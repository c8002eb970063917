// What a simulated clone has to do with its parent, and that one's parent: reads that fall through, and an operator's calls that
// make it, flatten it and delete its snapshot. As host/parent_reader.cc, pinned_reader.cc, clones.cc and snapshots.cc carry it out, with the
// same decisions.
//
// A call ends with its process, wherever it is; what it has asked the catalog may count later, if nobody has changed the
// record meanwhile. It is then called again, as people do.
#include <algorithm>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/sim/clone_world.h"
#include "volume/host/clone_record.h"

namespace weir::sim {
namespace {

constexpr uint64_t kFlattenStepBlocks = 4;
// Of the ids of requests and controls: those of no client.
constexpr uint64_t kOwn = uint64_t{1} << 40;

}  // namespace

const v1::SnapshotRecord* CloneWorld::SnapshotKnownTo(const Process& process) {
  const auto& snapshots = AttachedOf(process).seen.snapshots();
  return snapshots.empty() ? nullptr : &snapshots[0];
}

// --- reads that fall through ---

// As host/parent_reader.cc's Load.
std::optional<std::vector<CloneWorld::Level>> CloneWorld::LineOf(const v1::ParentRecord& parent) {
  std::vector<Level> levels;
  for (v1::ParentRecord next = parent; next.pin() != 0;) {
    const auto which = std::find_if(line_.begin(), line_.end(), [&](Which one) { return sides_[one].name == next.volume(); });
    if (which == line_.end() || !sides_[*which].record.volume) return std::nullopt;
    const auto& snapshots = sides_[*which].record.volume->snapshots();
    const auto snapshot =
        std::find_if(snapshots.begin(), snapshots.end(), [&](const auto& one) { return one.pin().id() == next.pin(); });
    if (snapshot == snapshots.end()) return std::nullopt;
    levels.push_back({*which, next.pin(), next.size_bytes() / kBlockBytes});
    next = snapshot->parent();
  }
  return levels;
}

struct CloneWorld::ParentRead {
  Process process;
  std::vector<Level> line;
  engine::LineRead decides;
  size_t level = 0;
  std::optional<engine::AskPinned> asks;
  bool again = false;
  std::function<void(absl::StatusOr<Blocks>)> done;
};

void CloneWorld::ReadParent(const Process& process, BlockRange range,
                            std::function<void(absl::StatusOr<Blocks>)> done) {
  ++result_.fallen_through;
  const std::vector<Level>& line = AttachedOf(process).line;
  std::vector<uint64_t> sizes;
  for (const Level& level : line) sizes.push_back(level.blocks);
  auto read = std::make_shared<ParentRead>(
      ParentRead{.process = process, .line = line, .decides = engine::LineRead(range, std::move(sizes))});
  read->done = std::move(done);
  AskNext(read);
}

void CloneWorld::AskNext(const std::shared_ptr<ParentRead>& read) {
  const std::optional<engine::LineRead::Ask> ask = read->decides.Next();
  if (!ask) return read->done(read->decides.Take());
  read->again = false;
  read->level = ask->level;
  AskMembers(read, ask->range);
}

void CloneWorld::AskMembers(const std::shared_ptr<ParentRead>& read, BlockRange range) {
  std::vector<bool> in_sync;
  const Side& asked = sides_[read->line[read->level].side];
  for (const auto& member : asked.catalog->record().volume.members) in_sync.push_back(member.in_sync);
  read->asks.emplace(engine::AskPinned::What::kContent, in_sync);
  AskMember(read, range);
}

// Members may be others by now: so all of them once more.
void CloneWorld::AskMember(const std::shared_ptr<ParentRead>& read, BlockRange range) {
  const std::optional<size_t> member = read->asks->Next();
  if (!member && !std::exchange(read->again, true)) return AskMembers(read, range);
  if (!member) return read->done(read->asks->status(range.count));
  using Pinned = absl::StatusOr<std::vector<store::BlockVersion>>;
  auto result = std::make_shared<Pinned>(absl::UnknownError(""));
  const Level& level = read->line[read->level];
  sides_[level.side].network->Call(
      AsAsker(read->process.side, level.side, read->process.frontend), static_cast<uint32_t>(*member),
      [result, pin = level.pin, range](ReplicaNode& node) { *result = node.store().ReadPinned(kVolume, pin, range); },
      [this, read, range, result](const absl::Status& reached) {
        if (!Alive(read->process)) return;
        if (!reached.ok() || !result->ok()) {
          read->asks->Failed(reached.ok() ? result->status() : reached);
          return AskMember(read, range);
        }
        Blocks blocks;
        for (store::BlockVersion& version : **result) {
          blocks.push_back({version.block, version.zero ? "" : std::move(version.data)});
        }
        read->decides.Came(std::move(blocks));
        AskNext(read);
      });
}

void CloneWorld::FillRead(const Process& process, uint64_t id, engine::CompleteRequest done) {
  judge_->clients().ReadIsSettled(OpId{id});
  auto filled = std::make_shared<engine::CompleteRequest>(std::move(done));
  auto left = std::make_shared<size_t>(filled->absent.size());
  for (const BlockRange& absent : filled->absent) FillPart(process, id, absent, filled, left);
}

// Each is asked for again by itself, where the host has one ask at a time (host/parent_reads.h).
void CloneWorld::FillPart(const Process& process, uint64_t id, BlockRange absent,
                          const std::shared_ptr<engine::CompleteRequest>& filled, const std::shared_ptr<size_t>& left) {
  ReadParent(process, absent, [this, process, id, absent, filled, left](absl::StatusOr<Blocks> blocks) {
    const Op& op = ops_.at(id);
    const bool flat = !AttachedOf(process).reads_parent;
    if (!flat && engine::HoldsForParent(blocks.status(), op.submitted, agenda_.now(), engine_options_.hold_deadline)) {
      ++result_.held_for_parents;
      return agenda_.After(engine::kAskParentAgainAfter, [this, process, id, absent, filled, left] {
        if (Alive(process)) FillPart(process, id, absent, filled, left);
      });
    }
    if (blocks.ok()) {
      engine::FillParts(op.range.first, *blocks, &filled->parts);
    } else {
      filled->result = engine::Result(EIO);
      filled->message = blocks.status().ToString();
    }
    if (--*left == 0) Filled(process, id, *filled);
  });
}

void CloneWorld::Filled(const Process& process, uint64_t id, const engine::CompleteRequest& filled) {
  Op& op = ops_.at(id);
  if (filled.result.ok()) return Returned(id, filled);
  if (!AttachedOf(process).reads_parent) {  // flat meanwhile
    op.falls_through = false;
    engine::Request again;
    again.id = engine::RequestId{id};
    again.range = op.range;
    return FrontendOf(process).Submit(std::move(again));
  }
  if (agenda_.now() - op.submitted < engine_options_.hold_deadline) {
    Violated(absl::StrCat("K4: read ", id, " failed, where it was to be held: ", filled.message));
  }
  Returned(id, filled);
}

// --- records ---

// A change of a record, as it was asked for.
struct CloneWorld::Put {
  Process process;
  Which which{};
  uint64_t revision = 0;
  v1::VolumeRecord base;
  Change change;
};

// By compare-and-swap. Of the volume that it serves a process changes what it knows of it, as VolumeRecordHolder does: what it
// was not answered it may undo. `done` is told within a time, whether or not it has come through or will.
void CloneWorld::PutRecord(const Process& process, Which which, Change change, Done done) {
  const bool own = process.side == which;
  const Record& record = sides_[which].record;
  const Put put{process, which, record.revision,
                own ? Known(AttachedOf(process)) : record.volume.value_or(v1::VolumeRecord()), std::move(change)};
  if (own) AttachedOf(process).putting = true;
  const Time there = dice_.Percent(10) ? dice_.Micros(100000, 900000) : dice_.Micros(50, 3000);
  const bool lost = dice_.Percent(healed_ ? 0 : 8);
  const bool answer_lost = dice_.Percent(healed_ ? 0 : 8);
  auto result = std::make_shared<absl::StatusOr<v1::VolumeRecord>>(absl::UnavailableError("the catalog did not answer"));
  if (!lost) {
    agenda_.After(there, [this, put, result, answer_lost] {
      absl::StatusOr<v1::VolumeRecord> applied = absl::UnknownError("");
      Apply(put, &applied);
      if (!answer_lost) *result = std::move(applied);
    });
  }
  const absl::Duration back = lost || answer_lost ? absl::Milliseconds(300) : dice_.Micros(50, 3000);
  agenda_.After(std::min<absl::Duration>(there, absl::Milliseconds(300)) + back, [this, process, own, result, done] {
    if (!Alive(process)) return;
    if (own) AttachedOf(process).putting = false;
    if (own && result->ok()) AttachedOf(process).seen = **result;
    done(result->status());
  });
}

// Only as long as no other frontend has begun to take the volume over, which changes the record too.
void CloneWorld::Apply(const Put& put, absl::StatusOr<v1::VolumeRecord>* result) {
  Side& side = sides_[put.which];
  const bool own = put.process.side == put.which;
  const bool of_another = own && side.catalog->record().volume.epoch != put.process.epoch;
  if (side.record.revision != put.revision || of_another) {
    *result = absl::AbortedError("the record has changed");
    return;
  }
  v1::VolumeRecord next = put.base;
  const absl::Status status = put.change(&next);
  if (!status.ok()) {
    *result = status;
    return;
  }
  *result = next;
  side.record = {std::move(next), put.revision + 1};
  Trace(absl::StrCat("the record of the ", side.name, " is now ", side.record.volume->ShortDebugString()));
  CheckRecords();
}

// Once it was to lose its parent no record of it has one: the catalog may have said so.
v1::VolumeRecord CloneWorld::Known(const Attached& attached) {
  v1::VolumeRecord known = attached.seen;
  if (attached.parent.pin() != 0 && !attached.reads_parent) known.clear_parent();
  return known;
}

// Who serves has changed his other part of it, and so all of it.
void CloneWorld::WriteAsKnown(Which which, Epoch epoch) {
  Side& side = sides_[which];
  for (const Attached& attached : side.attached) {
    if (attached.epoch != epoch || attached.putting) continue;
    v1::VolumeRecord known = Known(attached);
    if (known.SerializeAsString() == side.record.volume->SerializeAsString()) continue;
    side.record = {std::move(known), side.record.revision + 1};
    Trace(absl::StrCat("the record of the ", side.name, " is again ", side.record.volume->ShortDebugString()));
  }
}

void CloneWorld::CutShort(const Process& process, const absl::Status& why, const char* what) {
  Trace(absl::StrCat(what, " is cut short: ", why.ToString()));
  ++result_.cut_short;
  SideOf(process).busy[process.frontend] = false;
}

// --- making it ---

void CloneWorld::CloneSome(Which of) {
  if (sides_[CloneOf(of)].made) return;
  agenda_.After(dice_.Micros(50000, 500000), [this, of] { CloneSome(of); });
  const std::optional<Process> at = Serving(of);
  if (!at || SideOf(*at).busy[at->frontend] || DropDoubtfulPins(*at)) return;
  // Whatever ends a call without a word, its process apart, ends it here.
  if (SnapshotKnownTo(*at) == nullptr) return TakeSnapshot(*at);
  SideOf(*at).busy[at->frontend] = true;
  MakeClone(*at);
}

// The snapshot names the clone ...
void CloneWorld::MakeClone(const Process& process) {
  const v1::SnapshotRecord snapshot = *SnapshotKnownTo(process);
  auto id = std::make_shared<uint64_t>(0);
  PutRecord(
      process, process.side,
      [id, snapshot, clone = sides_[CloneOf(process.side)].name, fresh = next_id_++](v1::VolumeRecord* record) {
        const absl::StatusOr<uint64_t> named = host::NameClone(record, snapshot.name(), clone, fresh);
        if (named.ok()) *id = *named;
        return named.status();
      },
      [this, process, id, snapshot](const absl::Status& status) {
        if (!status.ok()) return CutShort(process, status, "naming the clone");
        WriteClone(process, *id, snapshot);
      });
}

// ... then there is a record of the clone, which is being made ...
void CloneWorld::WriteClone(const Process& process, uint64_t id, const v1::SnapshotRecord& snapshot) {
  const Which clone = CloneOf(process.side);
  PutRecord(
      process, clone,
      [id, snapshot, name = sides_[clone].name, of = SideOf(process).name](v1::VolumeRecord* record) {
        record->set_name(name);
        record->set_id(id);
        record->set_state(v1::VolumeRecord::CREATING);
        record->mutable_parent()->set_volume(of);
        record->mutable_parent()->set_snapshot(snapshot.name());
        record->mutable_parent()->set_pin(snapshot.pin().id());
        record->mutable_parent()->set_size_bytes(snapshot.size_bytes());
        return absl::OkStatus();
      },
      [this, process, id, snapshot](const absl::Status& status) {
        if (!status.ok()) return CutShort(process, status, "the clone's record");
        // Its replicas are made meanwhile.
        agenda_.After(dice_.Micros(100, 400000), [this, process, id, snapshot] {
          if (Alive(process)) FinishClone(process, id, snapshot);
        });
      });
}

// ... and it is one if the snapshot names it still: who deletes the snapshot has looked for it before, or will see it.
void CloneWorld::FinishClone(const Process& process, uint64_t id, const v1::SnapshotRecord& snapshot) {
  const Which clone = CloneOf(process.side);
  if (!host::NamesClone(*SideOf(process).record.volume, snapshot.name(), sides_[clone].name, id)) {
    return CutShort(process, absl::AbortedError("the snapshot was deleted meanwhile"), "a clone");
  }
  PutRecord(
      process, clone,
      [this, clone, id, snapshot](v1::VolumeRecord* record) -> absl::Status {
        if (record->id() != id) return absl::AbortedError("it is another one");
        if (clone == kClone && judge_ == nullptr && !SeeSnapshot(ParentOf(clone), snapshot)) {
          return absl::UnavailableError("no member tells");
        }
        record->set_state(v1::VolumeRecord::DETACHED);
        ++result_.clones;
        sides_[clone].made = sides_[clone].watched = true;
        return absl::OkStatus();
      },
      [this, process](const absl::Status& status) {
        if (!status.ok()) return CutShort(process, status, "a clone");
        SideOf(process).busy[process.frontend] = false;
      });
}

// What members hold there, which they have to agree about, is what the clone begins with.
bool CloneWorld::SeeSnapshot(Which which, const v1::SnapshotRecord& snapshot) {
  const auto& members = sides_[which].catalog->record().volume.members;
  std::optional<std::vector<uint64_t>> seen;
  for (uint32_t r = 0; r < members.size(); ++r) {
    if (!members[r].in_sync) continue;
    std::optional<std::vector<uint64_t>> content = ContentAt(which, snapshot.pin().id(), snapshot.parent(), r);
    if (!content) continue;
    if (seen && *seen != *content) Violated("members differ in what a snapshot has");
    seen = std::move(content);
  }
  if (!seen) return false;
  judge_ = std::make_unique<CloneJudge>(*seen, sides_[kClone].blocks);
  next_op_ = judge_->first_op();
  return true;
}

// --- deleting its snapshot ---

void CloneWorld::DeleteSome(Which of) {
  agenda_.After(dice_.Micros(200000, 1500000), [this, of] { DeleteSome(of); });
  const std::optional<Process> at = Serving(of);
  if (!at || SideOf(*at).busy[at->frontend] || SnapshotKnownTo(*at) == nullptr) return;
  const v1::SnapshotRecord snapshot = *SnapshotKnownTo(*at);
  // What is healed is to have a clone in the end.
  if (healed_ && !sides_[CloneOf(of)].made && !snapshot.deleting()) return;
  SideOf(*at).busy[at->frontend] = true;
  if (snapshot.clones().empty()) return DropSnapshot(*at, snapshot.name());
  // No clone is made of it from now on, so who is not there by then will not be.
  PutRecord(
      *at, of,
      [name = snapshot.name()](v1::VolumeRecord* record) {
        host::SetDeleting(record, name, true);
        return absl::OkStatus();
      },
      [this, at, snapshot](const absl::Status& status) {
        if (!status.ok()) return CutShort(*at, status, "a deletion");
        agenda_.After(dice_.Micros(50, 200000), [this, at, snapshot] {
          if (Alive(*at)) DeleteIfUnread(*at, snapshot.name());
        });
      });
}

void CloneWorld::DeleteIfUnread(const Process& process, const std::string& name) {
  const v1::SnapshotRecord& snapshot = *SnapshotKnownTo(process);
  const auto& clone = sides_[CloneOf(process.side)].record.volume;
  const bool read = clone && std::any_of(snapshot.clones().begin(), snapshot.clones().end(),
                                         [&](const auto& one) { return host::ReadsFrom(*clone, one, snapshot); });
  if (!read) return DropSnapshot(process, name);
  ++result_.refused;
  PutRecord(
      process, process.side,
      [name](v1::VolumeRecord* record) {
        host::SetDeleting(record, name, false);
        return absl::OkStatus();
      },
      [this, process](const absl::Status& status) {
        if (!status.ok()) return CutShort(process, status, "a refused deletion");
        SideOf(process).busy[process.frontend] = false;
      });
}

void CloneWorld::DropSnapshot(const Process& process, const std::string& name) {
  const uint64_t pin = SnapshotKnownTo(process)->pin().id();
  PutRecord(
      process, process.side,
      [name](v1::VolumeRecord* record) {
        auto* all = record->mutable_snapshots();
        all->erase(std::remove_if(all->begin(), all->end(), [&](const auto& one) { return one.name() == name; }),
                   all->end());
        return absl::OkStatus();
      },
      [this, process, pin](const absl::Status& status) {
        if (!status.ok()) return CutShort(process, status, "a deletion");
        ++result_.deleted;
        FrontendOf(process).DropSnapshot(pin);
        SideOf(process).busy[process.frontend] = false;
      });
}

// --- flattening ---

void CloneWorld::FlattenSome(Which which) {
  agenda_.After(dice_.Micros(50000, 500000), [this, which] { FlattenSome(which); });
  Side& side = sides_[which];
  const std::optional<Process> at = Serving(which);
  if (side.flattening && !Alive(side.flattening->at)) {  // it was taken over
    side.flattening.reset();
    ++result_.cut_short;
  }
  if (!side.made || side.flattening || !at || !AttachedOf(*at).seen.has_parent()) return;
  if (!host::MayBeFlattened(AttachedOf(*at).seen)) return;
  // One without a clone yet is to have one mostly while it has its parent.
  if (which != kClone && !sides_[CloneOf(which)].made && !dice_.Percent(5)) return;
  // Else all is copied, and it was only not known to be in the catalog.
  const uint64_t first = AttachedOf(*at).reads_parent ? 0 : side.blocks;
  side.flattening.emplace(Flattening{
      .at = *at,
      .decides = engine::Flatten({first, side.blocks - first}, kFlattenStepBlocks, /*last=*/true),
      .step = {}});
  FlattenNext(which);
}

void CloneWorld::FlattenNext(Which which) {
  using Act = engine::Flatten::Act;
  Flattening& flattening = *sides_[which].flattening;
  const Process at = flattening.at;
  flattening.step = flattening.decides.Next();
  const engine::Flatten::Step& step = flattening.step;
  flattening.awaited = kOwn + next_control_++;
  engine::Request request;
  request.id = engine::RequestId{flattening.awaited};
  request.range = step.range;
  switch (step.act) {
    case Act::kReadParent:
      return ReadParent(at, step.range, [this, which, id = flattening.awaited](absl::StatusOr<Blocks> blocks) {
        std::optional<Flattening>& now = sides_[which].flattening;
        if (!now || now->awaited != id) return;
        if (blocks.ok()) now->decides.ParentHas(*std::move(blocks));
        FlattenDid(which, blocks.status());
      });
    case Act::kLock:
      return FrontendOf(at).LockRange(engine::ControlId{flattening.awaited}, step.range);
    case Act::kReadOwn:
      request.in_lock = true;
      break;
    case Act::kWrite:
      request.kind = engine::RequestKind::kWrite;
      request.in_lock = true;
      request.crcs.assign(step.range.count, 0);
      request.data = Payload::CopyOf(step.data);
      result_.copied += step.range.count;
      break;
    case Act::kFlush:
      request.kind = engine::RequestKind::kFlush;
      break;
    case Act::kUnlock:
      FrontendOf(at).UnlockRange();
      flattening.locked = false;
      return FlattenDid(which, absl::OkStatus());
    case Act::kDropParent:
      return DropParent(which);
    case Act::kDone:
      sides_[which].flattening.reset();
      return;
  }
  FrontendOf(at).Submit(std::move(request));
}

void CloneWorld::FlattenWrote(Which which, const engine::CompleteRequest& done) {
  std::optional<Flattening>& flattening = sides_[which].flattening;
  if (done.result.ok() && flattening->step.act == engine::Flatten::Act::kReadOwn) flattening->decides.OwnLacks(done.absent);
  const absl::Status status = done.result.ok() ? absl::OkStatus() : absl::UnavailableError(done.message);
  // Not at once: the engine is still at work on what has brought this.
  agenda_.After(absl::ZeroDuration(), [this, which, id = flattening->awaited, status] {
    if (sides_[which].flattening && sides_[which].flattening->awaited == id) FlattenDid(which, status);
  });
}

void CloneWorld::FlattenDid(Which which, const absl::Status& status) {
  if (status.ok()) return FlattenNext(which);
  Trace(absl::StrCat("flattening is cut short: ", status.ToString()));
  ++result_.cut_short;
  std::optional<Flattening>& flattening = sides_[which].flattening;
  const Process at = flattening->at;
  const bool locked = flattening->locked;
  flattening.reset();
  if (locked && Alive(at)) FrontendOf(at).UnlockRange();
}

// It is asked no more, whatever the catalog says.
void CloneWorld::DropParent(Which which) {
  std::optional<Flattening>& flattening = sides_[which].flattening;
  const Process at = flattening->at;
  const uint64_t id = flattening->awaited;
  // A snapshot of it may just be taken.
  if (SideOf(at).busy[at.frontend]) {
    return agenda_.After(dice_.Micros(1000, 20000), [this, which, id] {
      if (sides_[which].flattening && sides_[which].flattening->awaited == id) DropParent(which);
    });
  }
  if (!host::MayBeFlattened(AttachedOf(at).seen)) {
    return FlattenDid(which, absl::FailedPreconditionError("it has snapshots by now"));
  }
  const v1::ParentRecord parent = AttachedOf(at).parent;
  AttachedOf(at).reads_parent = false;
  PutRecord(
      at, which,
      [](v1::VolumeRecord* record) {
        record->clear_parent();
        return absl::OkStatus();
      },
      [this, which, parent, id](const absl::Status& status) {
        if (!sides_[which].flattening || sides_[which].flattening->awaited != id) return;
        if (status.ok()) {
          ++result_.flattened;
          ForgetClone(which, parent);
        }
        FlattenDid(which, status);
      });
}

// If it is not told, that is found out when it is deleted.
void CloneWorld::ForgetClone(Which which, const v1::ParentRecord& parent) {
  const std::optional<Process> at = Serving(ParentOf(which));
  if (!at || SideOf(*at).busy[at->frontend] || dice_.Percent(40)) return;
  SideOf(*at).busy[at->frontend] = true;
  PutRecord(
      *at, at->side,
      [snapshot = parent.snapshot(), clone = sides_[which].name](v1::VolumeRecord* record) {
        host::ForgetClone(record, snapshot, clone);
        return absl::OkStatus();
      },
      [this, at](const absl::Status&) { SideOf(*at).busy[at->frontend] = false; });
}

}  // namespace weir::sim
