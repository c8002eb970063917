// Snapshots of simulated volumes, and what they have: of the clone taken while it has its parent, while it is flattened, and after that, K3 of
// README.md; of others for the sake of a clone. As host/snapshots.cc does it, but for what is one change of a record there: the frontend puts the pin
// into the record by itself, and what it is the snapshot of follows.
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
  CheckSnapshots(/*readable=*/false);
  const std::optional<Process> at = Serving(kClone);
  if (judge_ == nullptr || !at || SideOf(*at).busy[at->frontend] || DropDoubtfulPins(*at)) return;
  const auto& snapshots = AttachedOf(*at).seen.snapshots();
  // What is to be flattened in the end has none by then.
  const uint64_t drop_percent = healed_ && flattens_ ? 100 : snapshots.size() > 1 ? 60 : 25;
  if (!snapshots.empty() && dice_.Percent(drop_percent)) {
    return DropCloneSnapshot(*at, snapshots[static_cast<int>(dice_.Below(static_cast<uint64_t>(snapshots.size())))]);
  }
  if (!healed_ && dice_.Percent(40)) TakeSnapshot(*at);
}

// What was cut short may have come through late: so the record first, as it is known.
bool CloneWorld::DropDoubtfulPins(const Process& process) {
  const auto& snapshots = AttachedOf(process).seen.snapshots();
  for (const Pin& pin : FrontendOf(process).pins()) {
    if (std::any_of(snapshots.begin(), snapshots.end(), [&](const auto& one) { return one.pin().id() == pin.id; })) continue;
    SideOf(process).busy[process.frontend] = true;
    PutRecord(
        process, process.side, [](v1::VolumeRecord*) { return absl::OkStatus(); },
        [this, process, id = pin.id](const absl::Status& status) {
          if (!status.ok()) return CutShort(process, status, "dropping a pin");
          FrontendOf(process).DropSnapshot(id);
          SideOf(process).busy[process.frontend] = false;
        });
    return true;
  }
  return false;
}

// Of the clone it is judged as a read of all of it at one moment.
void CloneWorld::TakeSnapshot(const Process& process) {
  Side& side = SideOf(process);
  side.busy[process.frontend] = true;
  side.taking = {.at = process, .pin = next_pin_++, .control = next_control_++, .asked = agenda_.now()};
  if (process.side == kClone) {
    const BlockRange all{0, side.blocks};
    side.taking->op = next_op_++;
    ops_[side.taking->op] = {.kind = engine::RequestKind::kRead, .range = all, .at = process};
    judge_->clients().ReadInvoked(OpId{side.taking->op}, SessionId{process.epoch}, all);
  }
  FrontendOf(process).TakeSnapshot(engine::ControlId{side.taking->control}, side.taking->pin, absl::Seconds(1));
}

bool CloneWorld::SnapshotDone(const Process& process, const engine::CompleteControl& done) {
  Side& side = SideOf(process);
  if (!side.taking || side.taking->control != static_cast<uint64_t>(done.id)) return false;
  const Taking taking = *side.taking;
  const Attached& attached = AttachedOf(process);
  const std::optional<std::vector<uint64_t>> content =
      done.result.ok()
          ? ContentAt(process.side, taking.pin, attached.reads_parent ? attached.parent : v1::ParentRecord())
          : std::nullopt;
  if (done.result.ok() && !content) Violated("K3: no member has what a snapshot that was just taken has");
  if (taking.op != 0) {
    Op& op = ops_.at(taking.op);
    op.done = true;
    if (content) {
      judge_->ReadReturned(OpId{taking.op}, op.range, *content);
    } else {
      judge_->clients().Returned(OpId{taking.op}, {.ok = false}, {});
    }
  }
  if (!content) {
    side.busy[process.frontend] = false;
    side.taking.reset();
    return true;
  }
  taken_[taking.pin] = *content;
  if (process.side != first()) ++result_.snapshots;
  agenda_.After(absl::ZeroDuration(), [this, which = process.side, pin = taking.pin] { NameSnapshot(which, pin); });
  return true;
}

void CloneWorld::NameSnapshot(Which which, uint64_t pin) {
  Side& side = sides_[which];
  if (!side.taking || side.taking->pin != pin) return;
  const Process process = side.taking->at;
  if (!Alive(process) || agenda_.now() - side.taking->asked > kPinIsThereWithin) {
    side.taking.reset();
    return CutShort(process, absl::UnavailableError("the pin is in doubt"), "a snapshot");
  }
  if (FrontendOf(process).commits() || !HasPin(FrontendOf(process).pins(), pin)) {
    return agenda_.After(kLookAgainAfter, [this, which, pin] { NameSnapshot(which, pin); });
  }
  side.taking.reset();
  PutRecord(
      process, which,
      [pin, blocks = side.blocks](v1::VolumeRecord* record) {
        v1::SnapshotRecord snapshot;
        snapshot.set_name(absl::StrCat("s", pin));
        snapshot.mutable_pin()->set_id(pin);
        snapshot.set_size_bytes(blocks * kBlockBytes);
        host::TakeParent(*record, &snapshot);
        *record->add_snapshots() = snapshot;
        return absl::OkStatus();
      },
      [this, process](const absl::Status& status) {
        if (!status.ok()) return CutShort(process, status, "a snapshot");
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

// --- what they have ---

// Of the blocks of `range` those that some member has something of as of the pin; none: nobody can say.
std::optional<CloneWorld::Blocks> CloneWorld::PinnedBlocks(const Level& level, BlockRange range, std::optional<uint32_t> member) {
  const Side& side = sides_[level.side];
  const auto& members = side.catalog->record().volume.members;
  for (const bool in_sync : {true, false}) {
    for (uint32_t r = 0; r < members.size(); ++r) {
      if (members[r].in_sync != in_sync || (member && *member != r)) continue;
      const auto read = side.replicas[r]->store().ReadPinned(kVolume, level.pin, range);
      if (!read.ok()) continue;
      Blocks blocks;
      for (const store::BlockVersion& version : *read) blocks.push_back({version.block, version.zero ? "" : version.data});
      return blocks;
    }
  }
  return std::nullopt;
}

std::optional<std::vector<uint64_t>> CloneWorld::ContentAt(Which which, uint64_t pin, const v1::ParentRecord& parent,
                                                           std::optional<uint32_t> member) {
  const uint64_t blocks = sides_[which].blocks;
  std::optional<std::vector<Level>> levels = LineOf(parent);
  if (!levels) return std::nullopt;
  levels->insert(levels->begin(), {which, pin, blocks});
  // Not by engine::LineRead, which is what is judged.
  std::vector<uint64_t> content(blocks);
  std::vector<bool> found(blocks, false);
  for (const Level& level : *levels) {
    const std::optional<Blocks> has = PinnedBlocks(level, {0, std::min(level.blocks, blocks)}, level.side == which ? member : std::nullopt);
    if (!has) return std::nullopt;
    for (const engine::ParentBlock& block : *has) {
      if (found[block.block]) continue;
      found[block.block] = true;
      if (!block.data.empty()) content[block.block] = Shown(ValueOf(block.data, 0), block.block);
    }
  }
  return content;
}

// Each that the catalog has is as it was when it was taken. `readable`: and some member has it.
void CloneWorld::CheckSnapshots(bool readable) {
  for (const Which which : line_) {
    const Side& side = sides_[which];
    if (!side.record.volume) continue;
    for (const v1::SnapshotRecord& snapshot : side.record.volume->snapshots()) {
      const auto taken = taken_.find(snapshot.pin().id());
      if (taken == taken_.end()) continue;
      const std::optional<std::vector<uint64_t>> content = ContentAt(which, snapshot.pin().id(), snapshot.parent());
      if (!content && readable) Violated(absl::StrCat("K3: no member has the ", side.name, "'s snapshot ", snapshot.name()));
      if (!content) continue;
      const auto differs = std::mismatch(content->begin(), content->end(), taken->second.begin());
      if (differs.first == content->end()) continue;
      Violated(absl::StrCat("K3: block ", differs.first - content->begin(), " of the ", side.name, "'s snapshot ", snapshot.name(),
                            " shows ", *differs.first, ", and it was ", *differs.second));
    }
  }
}

}  // namespace weir::sim
