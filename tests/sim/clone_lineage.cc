// What a simulated clone has to do with its parent: reads that fall through, and an operator's calls that make it, flatten it
// and delete its snapshot. As host/parent_reader.cc, pinned_reader.cc, clones.cc and snapshots.cc carry it out, with the
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

constexpr char kName[] = "clone";
constexpr uint64_t kFlattenStepBlocks = 4;
// Of the ids of requests and controls: those of no client.
constexpr uint64_t kOwn = uint64_t{1} << 40;

}  // namespace

const v1::SnapshotRecord* CloneWorld::SnapshotKnownTo(const Process& process) {
  const auto& snapshots = AttachedOf(process).seen.snapshots();
  return snapshots.empty() ? nullptr : &snapshots[0];
}

// --- reads that fall through ---

struct CloneWorld::ParentRead {
  Process process;
  uint64_t pin = 0;
  engine::LineRead decides;
  std::optional<engine::AskPinned> asks;
  bool again = false;
  std::function<void(absl::StatusOr<Blocks>)> done;
};

void CloneWorld::ReadParent(const Process& process, BlockRange range,
                            std::function<void(absl::StatusOr<Blocks>)> done) {
  ++result_.fallen_through;
  const v1::ParentRecord& parent = AttachedOf(process).parent;
  auto read = std::make_shared<ParentRead>(ParentRead{
      .process = process, .pin = parent.pin(),
      .decides = engine::LineRead(range, {parent.size_bytes() / kBlockBytes})});
  read->done = std::move(done);
  AskNext(read);
}

void CloneWorld::AskNext(const std::shared_ptr<ParentRead>& read) {
  const std::optional<engine::LineRead::Ask> ask = read->decides.Next();
  if (!ask) return read->done(read->decides.Take());
  read->again = false;
  AskMembers(read, ask->range);
}

void CloneWorld::AskMembers(const std::shared_ptr<ParentRead>& read, BlockRange range) {
  std::vector<bool> in_sync;
  for (const auto& member : sides_[kParent].catalog->record().volume.members) in_sync.push_back(member.in_sync);
  read->asks.emplace(engine::AskPinned::What::kContent, in_sync);
  AskMember(read, range);
}

// Members may be others by now: so all of them once more.
void CloneWorld::AskMember(const std::shared_ptr<ParentRead>& read, BlockRange range) {
  const std::optional<size_t> member = read->asks->Next();
  if (!member && !std::exchange(read->again, true)) return AskMembers(read, range);
  if (!member) return read->done(read->asks->status());
  using Pinned = absl::StatusOr<std::vector<store::BlockVersion>>;
  auto result = std::make_shared<Pinned>(absl::UnknownError(""));
  Side& parent = sides_[kParent];
  parent.network->Call(
      static_cast<uint32_t>(parent.frontends.size()) + read->process.frontend, static_cast<uint32_t>(*member),
      [result, pin = read->pin, range](ReplicaNode& node) { *result = node.store().ReadPinned(kVolume, pin, range); },
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
  const BlockRange range = ops_.at(id).range;
  auto filled = std::make_shared<engine::CompleteRequest>(std::move(done));
  auto left = std::make_shared<size_t>(filled->absent.size());
  for (const BlockRange& absent : filled->absent) {
    ReadParent(process, absent, [this, id, range, filled, left](absl::StatusOr<Blocks> blocks) {
      if (blocks.ok()) {
        engine::FillParts(range.first, *blocks, &filled->parts);
      } else {
        filled->result = engine::Result(EIO);
      }
      if (--*left == 0) Returned(id, *filled);
    });
  }
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

void CloneWorld::CloneSome() {
  if (judge_ != nullptr) return;
  agenda_.After(dice_.Micros(50000, 500000), [this] { CloneSome(); });
  const std::optional<Process> at = Serving(kParent);
  if (!at || SideOf(*at).busy[at->frontend]) return;
  SideOf(*at).busy[at->frontend] = true;
  // Whatever ends a call without a word, its process apart, ends it here.
  SnapshotKnownTo(*at) == nullptr ? TakeSnapshot(*at) : MakeClone(*at);
}

// The frontend puts the pin into the record by itself; what it is the snapshot of follows, once it knows that the pin is there:
// one that is in doubt goes with the next change.
void CloneWorld::TakeSnapshot(const Process& process) {
  const std::vector<Pin>& pins = FrontendOf(process).pins();
  const bool there = std::any_of(pins.begin(), pins.end(), [this](const Pin& pin) { return pin.id == asked_pin_; });
  if (!there) {
    asked_pin_ = next_pin_++;
    FrontendOf(process).TakeSnapshot(engine::ControlId{next_control_++}, asked_pin_, absl::Seconds(1));
    SideOf(process).busy[process.frontend] = false;
    return;
  }
  const uint64_t pin = std::exchange(asked_pin_, 0);
  PutRecord(
      process, kParent,
      [this, pin](v1::VolumeRecord* record) {
        v1::SnapshotRecord* snapshot = record->add_snapshots();
        snapshot->set_name(absl::StrCat("s", pin));
        snapshot->mutable_pin()->set_id(pin);
        snapshot->set_size_bytes(parent_blocks_ * kBlockBytes);
        return absl::OkStatus();
      },
      [this, process](const absl::Status& status) {
        if (!status.ok()) return CutShort(process, status, "a snapshot");
        SideOf(process).busy[process.frontend] = false;
      });
}

// The snapshot names the clone ...
void CloneWorld::MakeClone(const Process& process) {
  const v1::SnapshotRecord snapshot = *SnapshotKnownTo(process);
  auto id = std::make_shared<uint64_t>(0);
  PutRecord(
      process, kParent,
      [id, snapshot, fresh = next_id_++](v1::VolumeRecord* record) {
        const absl::StatusOr<uint64_t> named = host::NameClone(record, snapshot.name(), kName, fresh);
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
  PutRecord(
      process, kClone,
      [id, snapshot](v1::VolumeRecord* record) {
        record->set_name(kName);
        record->set_id(id);
        record->set_state(v1::VolumeRecord::CREATING);
        record->mutable_parent()->set_volume("parent");
        record->mutable_parent()->set_snapshot(snapshot.name());
        record->mutable_parent()->set_pin(snapshot.pin().id());
        record->mutable_parent()->set_size_bytes(snapshot.size_bytes());
        return absl::OkStatus();
      },
      [this, process, id, snapshot](const absl::Status& status) {
        if (!status.ok()) return CutShort(process, status, "the clone's record");
        // Its replicas are made meanwhile.
        agenda_.After(dice_.Micros(100, 400000), [this, process, id, snapshot] {
          if (Alive(process)) FinishClone(process, id, snapshot.name(), snapshot.pin().id());
        });
      });
}

// ... and it is one if the snapshot names it still: who deletes the snapshot has looked for it before, or will see it.
void CloneWorld::FinishClone(const Process& process, uint64_t id, const std::string& snapshot, uint64_t pin) {
  if (!host::NamesClone(*sides_[kParent].record.volume, snapshot, kName, id)) {
    return CutShort(process, absl::AbortedError("the snapshot was deleted meanwhile"), "a clone");
  }
  PutRecord(
      process, kClone,
      [this, pin, id](v1::VolumeRecord* record) -> absl::Status {
        if (record->id() != id) return absl::AbortedError("it is another one");
        if (judge_ == nullptr && !SeeSnapshot(pin, parent_blocks_)) return absl::UnavailableError("no member tells");
        record->set_state(v1::VolumeRecord::DETACHED);
        ++result_.clones;
        sides_[kClone].watched = true;
        return absl::OkStatus();
      },
      [this, process](const absl::Status& status) {
        if (!status.ok()) return CutShort(process, status, "a clone");
        SideOf(process).busy[process.frontend] = false;
      });
}

// What members hold there, which they have to agree about, is what the clone begins with.
bool CloneWorld::SeeSnapshot(uint64_t pin, uint64_t blocks) {
  Side& parent = sides_[kParent];
  const auto& members = parent.catalog->record().volume.members;
  std::optional<std::vector<uint64_t>> seen;
  for (uint32_t r = 0; r < members.size(); ++r) {
    if (!members[r].in_sync) continue;
    std::vector<uint64_t> content(blocks);
    const auto read = parent.replicas[r]->store().ReadPinned(kVolume, pin, {0, blocks});
    if (!read.ok()) continue;
    for (const store::BlockVersion& version : *read) {
      if (!version.zero) content[version.block] = Shown(ValueOf(version.data, 0), version.block);
    }
    if (seen && *seen != content) Violated("members differ in what a snapshot has");
    seen = std::move(content);
  }
  if (!seen) return false;
  judge_ = std::make_unique<CloneJudge>(*seen, clone_blocks_);
  next_op_ = judge_->first_op();
  return true;
}

// --- deleting its snapshot ---

void CloneWorld::DeleteSome() {
  agenda_.After(dice_.Micros(200000, 1500000), [this] { DeleteSome(); });
  const std::optional<Process> at = Serving(kParent);
  if (!at || SideOf(*at).busy[at->frontend] || SnapshotKnownTo(*at) == nullptr) return;
  const v1::SnapshotRecord snapshot = *SnapshotKnownTo(*at);
  // What is healed is to have a clone in the end.
  if (healed_ && judge_ == nullptr && !snapshot.deleting()) return;
  SideOf(*at).busy[at->frontend] = true;
  if (snapshot.clones().empty()) return DropSnapshot(*at, snapshot.name());
  // No clone is made of it from now on, so who is not there by then will not be.
  PutRecord(
      *at, kParent,
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
  const auto& clone = sides_[kClone].record.volume;
  const bool read = clone && std::any_of(snapshot.clones().begin(), snapshot.clones().end(),
                                         [&](const auto& one) { return host::ReadsFrom(*clone, one, snapshot); });
  if (!read) return DropSnapshot(process, name);
  ++result_.refused;
  PutRecord(
      process, kParent,
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
      process, kParent,
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

void CloneWorld::FlattenSome() {
  agenda_.After(dice_.Micros(50000, 500000), [this] { FlattenSome(); });
  const std::optional<Process> at = Serving(kClone);
  if (flattening_ && !Alive(flattening_->at)) {  // it was taken over
    flattening_.reset();
    ++result_.cut_short;
  }
  if (judge_ == nullptr || flattening_ || !at || !AttachedOf(*at).seen.has_parent()) return;
  if (!host::MayBeFlattened(AttachedOf(*at).seen)) return;
  // Else all is copied, and it was only not known to be in the catalog.
  const uint64_t first = AttachedOf(*at).reads_parent ? 0 : clone_blocks_;
  flattening_.emplace(Flattening{
      .at = *at,
      .decides = engine::Flatten({first, clone_blocks_ - first}, kFlattenStepBlocks, /*last=*/true),
      .step = {}});
  FlattenNext();
}

void CloneWorld::FlattenNext() {
  using Act = engine::Flatten::Act;
  Flattening& flattening = *flattening_;
  const Process at = flattening.at;
  flattening.step = flattening.decides.Next();
  const engine::Flatten::Step& step = flattening.step;
  flattening.awaited = kOwn + next_control_++;
  engine::Request request;
  request.id = engine::RequestId{flattening.awaited};
  request.range = step.range;
  switch (step.act) {
    case Act::kReadParent:
      return ReadParent(at, step.range, [this, id = flattening.awaited](absl::StatusOr<Blocks> blocks) {
        if (!flattening_ || flattening_->awaited != id) return;
        if (blocks.ok()) flattening_->decides.ParentHas(*std::move(blocks));
        FlattenDid(blocks.status());
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
      return FlattenDid(absl::OkStatus());
    case Act::kDropParent:
      return DropParent();
    case Act::kDone:
      flattening_.reset();
      return;
  }
  FrontendOf(at).Submit(std::move(request));
}

void CloneWorld::FlattenWrote(const engine::CompleteRequest& done) {
  if (done.result.ok() && flattening_->step.act == engine::Flatten::Act::kReadOwn) {
    flattening_->decides.OwnLacks(done.absent);
  }
  const absl::Status status = done.result.ok() ? absl::OkStatus() : absl::UnavailableError(done.message);
  // Not at once: the engine is still at work on what has brought this.
  agenda_.After(absl::ZeroDuration(), [this, id = flattening_->awaited, status] {
    if (flattening_ && flattening_->awaited == id) FlattenDid(status);
  });
}

void CloneWorld::FlattenDid(const absl::Status& status) {
  if (status.ok()) return FlattenNext();
  Trace(absl::StrCat("flattening is cut short: ", status.ToString()));
  ++result_.cut_short;
  const Process at = flattening_->at;
  const bool locked = flattening_->locked;
  flattening_.reset();
  if (locked && Alive(at)) FrontendOf(at).UnlockRange();
}

// It is asked no more, whatever the catalog says.
void CloneWorld::DropParent() {
  const Process at = flattening_->at;
  // A snapshot of it may just be taken.
  if (SideOf(at).busy[at.frontend]) {
    return agenda_.After(dice_.Micros(1000, 20000), [this, id = flattening_->awaited] {
      if (flattening_ && flattening_->awaited == id) DropParent();
    });
  }
  if (!host::MayBeFlattened(AttachedOf(at).seen)) {
    return FlattenDid(absl::FailedPreconditionError("it has snapshots by now"));
  }
  const v1::ParentRecord parent = AttachedOf(at).parent;
  AttachedOf(at).reads_parent = false;
  PutRecord(
      at, kClone,
      [](v1::VolumeRecord* record) {
        record->clear_parent();
        return absl::OkStatus();
      },
      [this, parent, id = flattening_->awaited](const absl::Status& status) {
        if (!flattening_ || flattening_->awaited != id) return;
        if (status.ok()) {
          ++result_.flattened;
          ForgetClone(parent);
        }
        FlattenDid(status);
      });
}

// If it is not told, that is found out when it is deleted.
void CloneWorld::ForgetClone(const v1::ParentRecord& parent) {
  const std::optional<Process> at = Serving(kParent);
  if (!at || SideOf(*at).busy[at->frontend] || dice_.Percent(40)) return;
  SideOf(*at).busy[at->frontend] = true;
  PutRecord(
      *at, kParent,
      [name = parent.snapshot()](v1::VolumeRecord* record) {
        host::ForgetClone(record, name, kName);
        return absl::OkStatus();
      },
      [this, at](const absl::Status&) { SideOf(*at).busy[at->frontend] = false; });
}

}  // namespace weir::sim
