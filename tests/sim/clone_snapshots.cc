// Snapshots of a simulated clone, taken while it has its parent, while it is flattened, and after that: K3 of README.md. As host/snapshots.cc
// does it, but for what is one change of a record there: the frontend puts the pin into the record by itself, and what it is the snapshot of follows.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/sim/clone_world.h"
#include "volume/host/clone_record.h"

namespace weir::sim {
namespace {

constexpr absl::Duration kLookAgainAfter = absl::Milliseconds(20);
constexpr absl::Duration kPinIsThereWithin = absl::Seconds(3);

bool HasPin(const std::vector<Pin>& pins, uint64_t id) {
  return std::any_of(pins.begin(), pins.end(), [id](const Pin& pin) { return pin.id == id; });
}

}  // namespace

void CloneWorld::SnapshotCloneSome() {
  agenda_.After(dice_.Micros(50000, 700000), [this] { SnapshotCloneSome(); });
  CheckCloneSnapshots(/*readable=*/false);
  const std::optional<Process> at = Serving(kClone);
  if (judge_ == nullptr || !at || SideOf(*at).busy[at->frontend]) return;
  const auto& snapshots = AttachedOf(*at).seen.snapshots();
  for (const Pin& pin : FrontendOf(*at).pins()) {
    const bool named = std::any_of(snapshots.begin(), snapshots.end(), [&](const auto& one) { return one.pin().id() == pin.id; });
    if (!named) return DropDoubtfulPin(*at, pin.id);
  }
  // What is to be flattened in the end has none by then.
  const uint64_t drop_percent = healed_ && flattens_ ? 100 : snapshots.size() > 1 ? 60 : 25;
  if (!snapshots.empty() && dice_.Percent(drop_percent)) {
    return DropCloneSnapshot(*at, snapshots[static_cast<int>(dice_.Below(static_cast<uint64_t>(snapshots.size())))]);
  }
  if (!healed_ && dice_.Percent(40)) TakeCloneSnapshot(*at);
}

// Judged as a read of all of it at one moment.
void CloneWorld::TakeCloneSnapshot(const Process& process) {
  SideOf(process).busy[process.frontend] = true;
  const uint64_t id = next_op_++;
  const BlockRange all{0, clone_blocks_};
  ops_[id] = {.kind = engine::RequestKind::kRead, .range = all, .at = process};
  judge_->clients().ReadInvoked(OpId{id}, SessionId{process.epoch}, all);
  taking_ = {.at = process, .pin = next_pin_++, .control = next_control_++, .op = id, .asked = agenda_.now()};
  FrontendOf(process).TakeSnapshot(engine::ControlId{taking_->control}, taking_->pin, absl::Seconds(1));
}

bool CloneWorld::CloneSnapshotDone(const Process& process, const engine::CompleteControl& done) {
  if (process.side != kClone || !taking_ || taking_->control != static_cast<uint64_t>(done.id)) return false;
  Op& op = ops_.at(taking_->op);
  op.done = true;
  const Attached& attached = AttachedOf(process);
  const std::optional<std::vector<uint64_t>> content =
      done.result.ok() ? CloneContentAt(taking_->pin, attached.reads_parent ? attached.parent : v1::ParentRecord()) : std::nullopt;
  if (!content) {
    if (done.result.ok()) Violated("K3: no member has what a clone's snapshot that was just taken has");
    judge_->clients().Returned(OpId{taking_->op}, {.ok = false}, {});
    SideOf(process).busy[process.frontend] = false;
    taking_.reset();
    return true;
  }
  judge_->ReadReturned(OpId{taking_->op}, op.range, *content);
  clone_snapshots_[taking_->pin] = *content;
  ++result_.snapshots;
  agenda_.After(absl::ZeroDuration(), [this, pin = taking_->pin] { NameCloneSnapshot(pin); });
  return true;
}

void CloneWorld::NameCloneSnapshot(uint64_t pin) {
  if (!taking_ || taking_->pin != pin) return;
  const Process process = taking_->at;
  if (!Alive(process) || agenda_.now() - taking_->asked > kPinIsThereWithin) {
    taking_.reset();
    return CutShort(process, absl::UnavailableError("the pin is in doubt"), "a clone's snapshot");
  }
  if (!HasPin(FrontendOf(process).pins(), pin)) {
    return agenda_.After(kLookAgainAfter, [this, pin] { NameCloneSnapshot(pin); });
  }
  taking_.reset();
  PutRecord(
      process, kClone,
      [this, pin](v1::VolumeRecord* record) {
        v1::SnapshotRecord snapshot;
        snapshot.set_name(absl::StrCat("c", pin));
        snapshot.mutable_pin()->set_id(pin);
        snapshot.set_size_bytes(clone_blocks_ * kBlockBytes);
        host::TakeParent(*record, &snapshot);
        *record->add_snapshots() = snapshot;
        return absl::OkStatus();
      },
      [this, process](const absl::Status& status) {
        if (!status.ok()) return CutShort(process, status, "a clone's snapshot");
        SideOf(process).busy[process.frontend] = false;
      });
}

// What was cut short may have come through late: so the record first, as it is known.
void CloneWorld::DropDoubtfulPin(const Process& process, uint64_t pin) {
  SideOf(process).busy[process.frontend] = true;
  PutRecord(
      process, kClone, [](v1::VolumeRecord*) { return absl::OkStatus(); },
      [this, process, pin](const absl::Status& status) {
        if (!status.ok()) return CutShort(process, status, "dropping a pin");
        FrontendOf(process).DropSnapshot(pin);
        SideOf(process).busy[process.frontend] = false;
      });
}

void CloneWorld::DropCloneSnapshot(const Process& process, const v1::SnapshotRecord& snapshot) {
  SideOf(process).busy[process.frontend] = true;
  PutRecord(
      process, kClone,
      [name = snapshot.name()](v1::VolumeRecord* record) {
        auto* all = record->mutable_snapshots();
        all->erase(std::remove_if(all->begin(), all->end(), [&](const auto& one) { return one.name() == name; }), all->end());
        return absl::OkStatus();
      },
      [this, process, pin = snapshot.pin().id()](const absl::Status& status) {
        if (!status.ok()) return CutShort(process, status, "deleting a clone's snapshot");
        FrontendOf(process).DropSnapshot(pin);
        SideOf(process).busy[process.frontend] = false;
      });
}

// --- what it has ---

// Of the blocks of `range` those that some member has something of as of the pin; none: nobody can say.
std::optional<CloneWorld::Blocks> CloneWorld::PinnedBlocks(Which which, uint64_t pin, BlockRange range) {
  const auto& members = sides_[which].catalog->record().volume.members;
  for (const bool in_sync : {true, false}) {
    for (uint32_t r = 0; r < members.size(); ++r) {
      if (members[r].in_sync != in_sync) continue;
      const auto read = sides_[which].replicas[r]->store().ReadPinned(kVolume, pin, range);
      if (!read.ok()) continue;
      Blocks blocks;
      for (const store::BlockVersion& version : *read) blocks.push_back({version.block, version.zero ? "" : version.data});
      return blocks;
    }
  }
  return std::nullopt;
}

// `parent`: whom it reads from what it has nothing of itself.
std::optional<std::vector<uint64_t>> CloneWorld::CloneContentAt(uint64_t pin, const v1::ParentRecord& parent) {
  std::vector<uint64_t> sizes = {clone_blocks_};
  if (parent.pin() != 0) sizes.push_back(parent.size_bytes() / kBlockBytes);
  engine::LineRead read({0, clone_blocks_}, sizes);
  while (const std::optional<engine::LineRead::Ask> ask = read.Next()) {
    std::optional<Blocks> blocks =
        ask->level == 0 ? PinnedBlocks(kClone, pin, ask->range) : PinnedBlocks(kParent, parent.pin(), ask->range);
    if (!blocks) return std::nullopt;
    read.Came(*std::move(blocks));
  }
  std::vector<uint64_t> content(clone_blocks_);
  for (const engine::ParentBlock& block : read.Take()) content[block.block] = Shown(ValueOf(block.data, 0), block.block);
  return content;
}

// Each that the catalog has is as it was when it was taken. `readable`: and some member has it.
void CloneWorld::CheckCloneSnapshots(bool readable) {
  if (!sides_[kClone].record.volume) return;
  for (const v1::SnapshotRecord& snapshot : sides_[kClone].record.volume->snapshots()) {
    const auto taken = clone_snapshots_.find(snapshot.pin().id());
    if (taken == clone_snapshots_.end()) continue;
    const std::optional<std::vector<uint64_t>> content = CloneContentAt(snapshot.pin().id(), snapshot.parent());
    if (!content && readable) Violated(absl::StrCat("K3: no member has the clone's snapshot ", snapshot.name()));
    if (!content) continue;
    const auto differs = std::mismatch(content->begin(), content->end(), taken->second.begin());
    if (differs.first == content->end()) continue;
    Violated(absl::StrCat("K3: block ", differs.first - content->begin(), " of the clone's snapshot ", snapshot.name(), " shows ",
                          *differs.first, ", and it was ", *differs.second));
  }
}

}  // namespace weir::sim
