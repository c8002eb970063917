#include "replica/store/testing/extras.h"

#include <algorithm>
#include <cerrno>
#include <map>
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "proto/base/crc32c.h"
#include "proto/base/errno.h"
#include "proto/base/status_macros.h"
#include "replica/store/testing/machine.h"
#include "replica/store/testing/temp_store.h"

namespace weir::store::testing {
namespace {

constexpr VolumeId kMarked{90};
constexpr VolumeId kLevelled{91};
constexpr uint64_t kBlocks = 64;
constexpr uint64_t kGrownBlocks = 128;
constexpr VolumeGeometry kGeometry{.size_blocks = kBlocks, .lanes = {.lanes = 2, .stripe_blocks = 8}};
constexpr uint64_t kLanes = 2;
constexpr uint64_t kJoin = 5;
constexpr Epoch kEpoch = 1;
constexpr uint64_t kWrites = kBlocks / 8 / kLanes;  // of each lane: one a stripe
constexpr uint64_t kDamaged = 20;
const BlockRange kInvalid[kLanes] = {{1, 3}, {9, 2}};

uint64_t StampOf(VolumeId id, uint64_t block) { return (static_cast<uint64_t>(id) << 20) + block; }
// In an adopted tail blocks 0 and 1 of the lane's first stripe are written, 2 is zeroed.
uint64_t AdoptedStampOf(uint64_t block) { return StampOf(VolumeId{92}, block); }
Position Before() { return Position(kEpoch, kWrites); }
Position Adopted() { return Position(kEpoch, kWrites + 2); }

BlockVersion VersionOf(uint64_t block, Position position, uint64_t stamp) {
  BlockVersion version{.block = block, .position = position};
  version.data = BlockOf(stamp);
  version.crc = Crc32c(version.data);
  return version;
}

absl::Status Fill(Store* store, VolumeId id) {
  Writer writer(id, kGeometry);
  RETURN_IF_ERROR(writer.Attach(store, kEpoch));
  for (uint64_t block = 0; block < kBlocks; block += 8) {
    RETURN_IF_ERROR(WriteOne(store, id, writer.Data(block, 8, StampOf(id, block))).status);
  }
  return absl::OkStatus();
}

absl::StatusOr<Position> PositionOf(Store* store, VolumeId id, uint64_t lane) {
  ASSIGN_OR_RETURN(const VolumeState state, store->GetVolume(id));
  return state.lanes[lane].position;
}

// `stamp` 0: zeros.
absl::Status CheckBlock(Store* store, VolumeId id, uint64_t block, uint64_t stamp, Leniency leniency) {
  const absl::StatusOr<ReadResult> read = store->Read(id, {block, 1});
  if (!read.ok()) return leniency.read_errors ? absl::OkStatus() : read.status();
  const std::string got = read->zeroes ? std::string(kBlockBytes, '\0') : read->data;
  if (got == (stamp == 0 ? std::string(kBlockBytes, '\0') : BlockOf(stamp))) return absl::OkStatus();
  return absl::InternalError(
      absl::StrCat("block ", block, " of volume ", static_cast<uint64_t>(id), " is not of stamp ", stamp));
}

}  // namespace

std::string Extras::RecordOf(uint64_t revision) const {
  return absl::StrCat("record ", revision, " ", BlockOf(revision).substr(0, 3000));
}

absl::Status Extras::FlushAll(Store* store) const {
  for (uint32_t i = 0; i < std::min<uint32_t>(store->num_domains(), kLanes); ++i) {
    RETURN_IF_ERROR(store->Flush(kLevelled, i).status());
  }
  return absl::OkStatus();
}

absl::Status Extras::Make(Store* store, const LaneModel& model) {
  RETURN_IF_ERROR(Fill(store, kLevelled));
  RETURN_IF_ERROR(Fill(store, kMarked));
  ASSIGN_OR_RETURN(const VolumeState marked, store->GetVolume(kMarked));
  for (uint64_t lane = 0; lane < kLanes; ++lane) {
    const LaneState& state = marked.lanes[lane];
    RETURN_IF_ERROR(store->BeginJoin(kMarked, {.lane = state.lane,
                                               .join_id = kJoin,
                                               .expected = state.position,
                                               .to = state.position,
                                               .lineage = state.lineage,
                                               .common = state.position,
                                               .invalid = {kInvalid[lane]}}));
  }
  RETURN_IF_ERROR(FlushAll(store));
  RETURN_IF_ERROR(KeepRecord(store));
  return Update(store, model);
}

bool Extras::DamageBlock(FaultFs* disk) {
  const std::string data = BlockOf(StampOf(kLevelled, kDamaged));
  for (const std::string& path : disk->Files()) {
    if (!absl::EndsWith(path, ".blob") && !absl::EndsWith(path, ".sst")) continue;
    std::string content = disk->Content(path);
    const size_t at = content.find(data);
    if (at == std::string::npos) continue;
    content[at + data.size() / 2] ^= 1;
    disk->SetContent(path, content);
    return true;
  }
  return false;
}

absl::Status Extras::KeepRecord(Store* store) {
  Begin("keep record");
  const uint64_t revision = ++records_;
  RETURN_IF_ERROR(store->KeepRecord(id_, {.epoch = kEpoch, .revision = revision, .record = RecordOf(revision)}));
  return End([&](Answered* answered) { answered->record = revision; });
}

absl::Status Extras::Update(Store* store, const LaneModel& model) {
  Begin("update volume");
  VolumeUpdate update{.version = updates_.size() + 1, .size_blocks = 0, .pins = {}};
  if (!updates_.empty()) update.pins = {updates_.back().pins.back()};
  const uint64_t comes = update.version == 1 ? 2 : 1;
  for (uint64_t i = 0; i < comes; ++i) {
    update.pins.push_back({.id = update.version + 1 - comes + i + 1, .positions = model.answered().durable});
  }
  updates_.push_back(update);
  RETURN_IF_ERROR(store->UpdateVolume(id_, update));
  return End([&](Answered* answered) { answered->update = update.version; });
}

absl::Status Extras::Grow(Store* store) {
  Begin("grow");
  RETURN_IF_ERROR(store->UpdateVolume(kLevelled, {.version = 1, .size_blocks = kGrownBlocks, .pins = {}}));
  return End([&](Answered* answered) { answered->grown = true; });
}

absl::Status Extras::Repair(Store* store) {
  Begin("repair");
  CopyPart part{.lane = kGeometry.lanes.LaneOf(kDamaged), .ranges = {{kDamaged, 1}}, .versions = {}};
  ASSIGN_OR_RETURN(part.to, PositionOf(store, kLevelled, Index(part.lane)));
  const Position written(kEpoch, kDamaged / 8 / kLanes + 1);
  part.versions = {VersionOf(kDamaged, written, StampOf(kLevelled, kDamaged))};
  RETURN_IF_ERROR(store->Repair(kLevelled, part));
  RETURN_IF_ERROR(FlushAll(store));
  return End([&](Answered* answered) { answered->repaired = true; });
}

absl::Status Extras::Adopt(Store* store) {
  Begin("adopt tail");
  ASSIGN_OR_RETURN(const VolumeState state, store->GetVolume(kLevelled));
  for (uint64_t lane = 0; lane < kLanes; ++lane) {
    const uint64_t first = lane * kGeometry.lanes.stripe_blocks;
    const Position one = Before().Next();
    Tail tail{.lane = LaneId{static_cast<uint32_t>(lane)}, .from = Before(), .to = Adopted(), .expected = Before(),
              .lineage = state.lanes[lane].lineage,
              .changes = {{one, {first, 2}}, {one.Next(), {first + 2, 1}}},
              .versions = {VersionOf(first, one, AdoptedStampOf(first)),
                           VersionOf(first + 1, one, AdoptedStampOf(first + 1)),
                           {.block = first + 2, .position = one.Next(), .zero = true, .data = ""}}};
    RETURN_IF_ERROR(store->AdoptTail(kLevelled, tail));
  }
  RETURN_IF_ERROR(FlushAll(store));
  return End([&](Answered* answered) { answered->adopted = true; });
}

absl::Status Extras::Script(Store* store, const LaneModel& model) {
  RETURN_IF_ERROR(Repair(store));
  RETURN_IF_ERROR(Adopt(store));
  RETURN_IF_ERROR(Update(store, model));
  RETURN_IF_ERROR(KeepRecord(store));
  return Grow(store);
}

Extras::Answered Extras::answered() const {
  absl::MutexLock lock(&mutex_);
  return answered_;
}

std::string Extras::stage() const {
  absl::MutexLock lock(&mutex_);
  return stage_;
}

void Extras::Begin(const std::string& stage) {
  absl::MutexLock lock(&mutex_);
  stage_ = stage;
}

absl::Status Extras::Check(Store* store, const LaneModel& model, const Answered& answered, Leniency leniency) const {
  if (answered.update == 0) return absl::OkStatus();  // not made
  RETURN_IF_ERROR(CheckRecord(store, answered, leniency));
  RETURN_IF_ERROR(CheckPins(store, model, answered, leniency));
  RETURN_IF_ERROR(CheckMarks(store, leniency));
  return CheckLevelled(store, answered, leniency);
}

absl::Status Extras::CheckRecord(Store* store, const Answered& answered, Leniency leniency) const {
  const absl::StatusOr<RecordCopy> copy = store->GetRecord(id_);
  if (!copy.ok()) return leniency.read_errors ? absl::OkStatus() : copy.status();
  if (copy->revision >= answered.record && copy->revision <= records_ && copy->record == RecordOf(copy->revision)) {
    return absl::OkStatus();
  }
  return absl::InternalError(absl::StrCat("the record's copy is of revision ", copy->revision, " or another, not of ",
                                          answered.record, " to ", records_));
}

absl::Status Extras::CheckPins(Store* store, const LaneModel& model, const Answered& answered,
                               Leniency leniency) const {
  ASSIGN_OR_RETURN(const VolumeState state, store->GetVolume(id_));
  const std::set<uint64_t> there(state.pins.begin(), state.pins.end());
  std::map<uint64_t, Pin> allowed;
  std::map<uint64_t, size_t> seen;
  const size_t updates = updates_.size() - (answered.update - 1);
  for (size_t i = answered.update - 1; i < updates_.size(); ++i) {
    for (const Pin& pin : updates_[i].pins) {
      allowed[pin.id] = pin;
      if (++seen[pin.id] == updates && there.count(pin.id) == 0) {
        return absl::InternalError(absl::StrCat("pin ", pin.id, " is gone"));
      }
    }
  }
  for (uint64_t id : there) {
    const auto pin = allowed.find(id);
    if (pin == allowed.end()) return absl::InternalError(absl::StrCat("pin ", id, " has come back"));
    RETURN_IF_ERROR(model.CheckPinned(store, pin->second, leniency));
  }
  return absl::OkStatus();
}

absl::Status Extras::CheckMarks(Store* store, Leniency leniency) const {
  ASSIGN_OR_RETURN(const VolumeState state, store->GetVolume(kMarked));
  for (uint64_t lane = 0; lane < kLanes; ++lane) {
    const BlockRange marked = kInvalid[lane];
    if (state.lanes[lane].join_id != kJoin || state.lanes[lane].invalid_blocks != marked.count) {
      return absl::InternalError(absl::StrCat("lane ", lane, " has ", state.lanes[lane].invalid_blocks,
                                              " invalid blocks of join ", state.lanes[lane].join_id));
    }
    const absl::StatusOr<InvalidPage> page = store->InvalidBlocks(kMarked, state.lanes[lane].lane, 0, 10);
    if (!page.ok() && !leniency.read_errors) return page.status();
    if (page.ok() && page->ranges != std::vector<BlockRange>{marked}) {
      return absl::InternalError(absl::StrCat("lane ", lane, " says that other blocks are invalid"));
    }
  }
  for (uint64_t block = 0; block < kBlocks; ++block) {
    const bool marked = std::any_of(std::begin(kInvalid), std::end(kInvalid), [block](const BlockRange& range) {
      return block >= range.first && block < range.end();
    });
    if (!marked) {
      RETURN_IF_ERROR(CheckBlock(store, kMarked, block, StampOf(kMarked, block), leniency));
      continue;
    }
    const absl::Status read = store->Read(kMarked, {block, 1}).status();
    if (read.ok()) return absl::InternalError(absl::StrCat("block ", block, " was invalid and is read"));
    if (!leniency.read_errors && StatusToErrno(read) != kBlockInvalid) return read;
  }
  return absl::OkStatus();
}

absl::Status Extras::CheckLevelled(Store* store, const Answered& answered, Leniency leniency) const {
  ASSIGN_OR_RETURN(const VolumeState state, store->GetVolume(kLevelled));
  const uint64_t size = state.geometry.size_blocks;
  if (size != kGrownBlocks && (size != kBlocks || answered.grown)) {
    return absl::InternalError(absl::StrCat("the volume has ", size, " blocks"));
  }
  for (const LaneState& lane : state.lanes) {
    const bool adopted = lane.position == Adopted();
    if (!adopted && (answered.adopted || lane.position != Before())) {
      return absl::InternalError(absl::StrCat("lane ", Index(lane.lane), " is at ", lane.position.ToString()));
    }
  }
  for (uint64_t block = 0; block < kBlocks; ++block) {
    const uint64_t lane = Index(kGeometry.lanes.LaneOf(block));
    const uint64_t in_stripe = block % kGeometry.lanes.stripe_blocks;
    uint64_t stamp = StampOf(kLevelled, block);
    if (state.lanes[lane].position == Adopted() && block / 8 < kLanes && in_stripe < 3) {
      stamp = in_stripe == 2 ? 0 : AdoptedStampOf(block);
    }
    Leniency here = leniency;
    here.read_errors |= block == kDamaged && !answered.repaired;
    RETURN_IF_ERROR(CheckBlock(store, kLevelled, block, stamp, here));
  }
  return absl::OkStatus();
}

absl::Status UsedStore::Make(int directories) {
  const auto flush_all = [&](Store* store) {
    for (int i = 0; i < directories; ++i) RETURN_IF_ERROR(workload.Flush(store, i));
    return absl::OkStatus();
  };
  constexpr VolumeId kDeleted{92};
  Machine first(std::make_shared<FaultFs>());
  RETURN_IF_ERROR(first.Open(directories));
  workload.model().Opened();
  RETURN_IF_ERROR(workload.Attach(first.store.get()));
  RETURN_IF_ERROR(workload.Write(first.store.get(), 16, 8));
  RETURN_IF_ERROR(flush_all(first.store.get()));
  RETURN_IF_ERROR(first.store->CreateVolume(kDeleted, kGeometry));
  RETURN_IF_ERROR(extras.Make(first.store.get(), workload.model()));
  // What is in its WALs the second life writes to tables.
  Machine second(first.fs->AfterKill());
  RETURN_IF_ERROR(second.Open(directories));
  second.store.reset();
  if (!Extras::DamageBlock(second.fs.get())) return absl::InternalError("there is no block to damage");
  RETURN_IF_ERROR(second.Open(directories));
  RETURN_IF_ERROR(workload.NotePoints(second.store.get()));
  RETURN_IF_ERROR(workload.Write(second.store.get(), 8, 8));
  RETURN_IF_ERROR(flush_all(second.store.get()));
  RETURN_IF_ERROR(second.store->DeleteVolume(kDeleted));
  RETURN_IF_ERROR(workload.Write(second.store.get(), 8, 8));
  disk = second.fs->AfterKill();
  // A record of the MANIFEST that was begun when the power went.
  const std::string database = Machine::Directory(directories - 1) + "/db/";
  const std::string manifest = database + std::string(absl::StripSuffix(disk->Content(database + "CURRENT"), "\n"));
  disk->SetContent(manifest, disk->Content(manifest) + std::string(20, '\1'));
  return absl::OkStatus();
}

}  // namespace weir::store::testing
