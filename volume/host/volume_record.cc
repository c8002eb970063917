#include "volume/host/volume_record.h"

#include <algorithm>
#include <random>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "google/protobuf/util/message_differencer.h"
#include "proto/base/position.h"
#include "proto/base/protocol.h"

namespace weir::host {

bool SameButAttributes(v1::VolumeRecord a, v1::VolumeRecord b) {
  a.clear_attributes();
  b.clear_attributes();
  return google::protobuf::util::MessageDifferencer::Equals(a, b);
}

absl::Status VolumeRecordHolder::Commit(v1::VolumeRecord next) {
  const std::string name = next.name();
  commit_.Begin(std::move(next));
  for (;;) {
    const absl::StatusOr<uint64_t> put = catalog_->PutVolume(commit_.next(), commit_.revision());
    if (commit_.Put(put)) return absl::OkStatus();
    absl::StatusOr<catalog::VersionedVolume> read = catalog_->GetVolume(name);
    const engine::CommitOutcome outcome = commit_.ReadBack(
        read.ok() ? absl::StatusOr<Versioned>({read->record, read->revision}) : read.status());
    if (outcome == engine::CommitOutcome::kAgain) continue;
    return Told(outcome, put.status(), read);
  }
}

// ABORTED is said only of a record that was seen to be another's.
absl::Status VolumeRecordHolder::Told(engine::CommitOutcome outcome, const absl::Status& put,
                                      const absl::StatusOr<catalog::VersionedVolume>& read) const {
  const std::string volume = absl::StrCat("volume ", commit_.next().name());
  switch (outcome) {
    case engine::CommitOutcome::kDone:
    case engine::CommitOutcome::kAgain:
      return absl::OkStatus();
    case engine::CommitOutcome::kDeleted:
      return absl::AbortedError(volume + " was deleted");
    case engine::CommitOutcome::kTaken:
      return absl::AbortedError(absl::StrCat(
          volume, " was changed by another frontend: epoch ", read->record.epoch(),
          read->record.epoch() == record().epoch() ? " has other members or another state by now" : " has been taken"));
    case engine::CommitOutcome::kKeepsChanging:
      return absl::UnavailableError(volume + ": the catalog keeps changing");
    case engine::CommitOutcome::kUnknown: {
      // That it was changed says nothing to who has to mend what it was changed to.
      const bool damaged = absl::IsDataLoss(read.status());
      return absl::UnavailableError(absl::StrCat(volume, ": ", damaged ? read.status().message() : put.message()));
    }
  }
  return absl::InternalError("no such outcome");
}

absl::Duration HoldDeadlineOf(const v1::VolumeRecord& record, absl::Duration of_frontend) {
  if (!record.has_hold_deadline_s()) return of_frontend;
  return record.hold_deadline_s() == 0 ? absl::InfiniteDuration() : absl::Seconds(record.hold_deadline_s());
}

absl::Status CheckEpoch(catalog::Catalog& catalog, const v1::VolumeRecord& ours) {
  const absl::StatusOr<catalog::VersionedVolume> read = catalog.GetVolume(ours.name());
  if (absl::IsNotFound(read.status())) {
    return absl::AbortedError(absl::StrCat("volume ", ours.name(), " was deleted"));
  }
  // Not ABORTED: that is said only of a record that was seen to be another's.
  if (!read.ok()) return absl::UnavailableError(read.status().message());
  if (read->record.id() == ours.id() && read->record.epoch() == ours.epoch()) return absl::OkStatus();
  return absl::AbortedError(absl::StrCat("volume ", ours.name(), " is in epoch ", read->record.epoch(),
                                         " by now, of frontend ", read->record.owner()));
}

absl::Status VolumeRecordHolder::Delete() {
  return catalog_->DeleteVolume(record().name(), revision());
}

absl::Status CheckRecord(const v1::VolumeRecord& record) {
  const auto wrong = [&record](absl::string_view what) {
    return absl::DataLossError(
        absl::StrCat("the catalog's record of volume '", record.name(), "' cannot be right: ", what,
                     "; the catalog is damaged, or not this cluster's; nothing was changed"));
  };
  const uint64_t lanes = record.lanes();
  if (record.size_bytes() == 0 || record.size_bytes() % kBlockBytes != 0) return wrong("its size");
  if (lanes == 0 || lanes > kLanesMax) return wrong("its lanes");
  if (record.stripe_blocks() == 0 || record.stripe_blocks() > kStripeBlocksMax) {
    return wrong("its stripe");
  }
  if (record.epoch() > Position::kEpochMax || record.act_epoch() > record.epoch()) {
    return wrong("its epochs");
  }
  const uint32_t members = static_cast<uint32_t>(record.members_size());
  if (members == 0 || members > kMembersMax || record.min_in_sync() > members) {
    return wrong("its members");
  }
  std::set<absl::string_view> names;
  for (const v1::Member& member : record.members()) {
    const uint64_t left_at = static_cast<uint64_t>(member.left_at_size());
    if (member.replica().empty() || !names.insert(member.replica()).second) {
      return wrong("a member's name");
    }
    if (left_at != 0 && left_at != lanes) return wrong("where a member left");
  }
  if (record.former_size() > kFormerMax) return wrong("its former members");
  for (const v1::LanePosition& floor : record.floor()) {
    if (floor.lane() >= lanes) return wrong("its floor");
  }
  std::set<absl::string_view> snapshots;
  std::set<uint64_t> pins;
  for (const v1::SnapshotRecord& snapshot : record.snapshots()) {
    if (snapshot.name().empty() || !snapshots.insert(snapshot.name()).second ||
        snapshot.pin().id() == 0 || !pins.insert(snapshot.pin().id()).second ||
        static_cast<uint64_t>(snapshot.pin().positions_size()) != lanes) {
      return wrong("a snapshot");
    }
  }
  if (pins.size() > kPinsMax) return wrong("the number of its snapshots");
  return absl::OkStatus();
}

absl::Status RefuseBehind(const v1::VolumeRecord& record) {
  if (!record.behind()) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat(
      "volume ", record.name(), " is halted: the catalog has an old record of it, since a replica has promised a "
      "later epoch, or was written to in one; the catalog was restored from a backup, or has lost data. Nothing of the "
      "volume is changed. Bring the newest state of the catalog back, or make a new one from the replicas (OPERATIONS.md, "
      "The catalog is lost), then attach it again"));
}

absl::Status RefuseRestoring(const v1::VolumeRecord& record) {
  if (record.restoring().empty()) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      "volume ", record.name(), " is being restored from snapshot ", record.restoring(),
      "; if that was cut short: weirctl volume restore ", record.name(), "@", record.restoring(),
      ", or from another snapshot"));
}

engine::TakeoverRecord ToTakeover(const v1::VolumeRecord& record) {
  engine::TakeoverRecord takeover;
  takeover.recovering = record.state() == v1::VolumeRecord::RECOVERING;
  takeover.epoch = record.epoch();
  takeover.act_epoch = record.act_epoch();
  takeover.owner = record.owner();
  for (const v1::Member& member : record.members()) {
    engine::TakeoverMember& one = takeover.members.emplace_back();
    one.replica = member.replica();
    one.store_id = member.store_id();
    one.boot_id = member.boot_id();
    one.in_sync = member.in_sync();
    one.stays_out = member.stays_out();
    one.succeeds = member.succeeds();
    for (uint64_t position : member.left_at()) {
      one.left_at.push_back(Position::FromBits(position));
    }
  }
  takeover.min_in_sync = record.min_in_sync();
  takeover.detached = record.state() == v1::VolumeRecord::DETACHED;
  takeover.intact_since = record.intact_since();
  takeover.pins = PinsOf(record);
  takeover.size_blocks = record.size_bytes() / kBlockBytes;
  if (record.lease_ms() > 0) takeover.lease = absl::Milliseconds(record.lease_ms());
  if (record.floor_size() > 0) takeover.floor.resize(record.lanes());
  for (const v1::LanePosition& floor : record.floor()) {
    takeover.floor[floor.lane()] = Position::FromBits(floor.position());
  }
  return takeover;
}

v1::VolumeRecord WithTakeover(v1::VolumeRecord record,
                              const engine::TakeoverRecord& takeover) {
  record.set_state(takeover.recovering ? v1::VolumeRecord::RECOVERING
                                       : v1::VolumeRecord::ACTIVE);
  record.set_epoch(takeover.epoch);
  record.set_act_epoch(takeover.act_epoch);
  record.set_owner(takeover.owner);
  record.set_intact_since(takeover.intact_since);
  record.set_lease_ms(takeover.lease == absl::InfiniteDuration()
                          ? 0
                          : static_cast<uint64_t>(absl::ToInt64Milliseconds(takeover.lease)));
  for (size_t i = 0; i < takeover.members.size(); ++i) {
    const engine::TakeoverMember& from = takeover.members[i];
    v1::Member* member = record.mutable_members(static_cast<int>(i));
    member->set_store_id(from.store_id);
    member->set_boot_id(from.boot_id);
    member->set_in_sync(from.in_sync);
    member->set_stays_out(from.stays_out);
    member->clear_left_at();
    for (Position position : from.left_at) member->add_left_at(position.bits());
  }
  record.clear_floor();
  for (size_t lane = 0; lane < takeover.floor.size(); ++lane) {
    v1::LanePosition* floor = record.add_floor();
    floor->set_lane(static_cast<uint32_t>(lane));
    floor->set_position(takeover.floor[lane].bits());
  }
  return record;
}

namespace {

// By no lane below what the record has: all of its members are known to have come that far.
void RaiseFloor(const std::vector<Position>& floor, v1::VolumeRecord* record) {
  if (floor.empty()) return;  // nothing is known
  std::vector<uint64_t> raised(record->lanes());
  for (const v1::LanePosition& old : record->floor()) raised[old.lane()] = old.position();
  record->clear_floor();
  for (size_t lane = 0; lane < floor.size(); ++lane) {
    v1::LanePosition* next = record->add_floor();
    next->set_lane(static_cast<uint32_t>(lane));
    next->set_position(std::max(raised[lane], floor[lane].bits()));
  }
}

}  // namespace

v1::VolumeRecord WithFloor(v1::VolumeRecord record, const std::vector<Position>& floor) {
  RaiseFloor(floor, &record);
  return record;
}

v1::Fence NewFence(const std::string& cluster_id) {
  v1::Fence fence;
  fence.set_protocol(kProtocol);
  fence.set_cluster_id(cluster_id);
  return fence;
}

v1::KeepRecordRequest CopyOf(const v1::VolumeRecord& record, uint64_t revision, uint32_t epoch) {
  v1::KeepRecordRequest keep;
  *keep.mutable_fence() = NewFence("");
  keep.mutable_fence()->set_volume_id(record.id());
  keep.mutable_fence()->set_epoch(epoch);
  keep.set_revision(revision);
  keep.set_record(record.SerializeAsString());
  return keep;
}

engine::Table ToTable(const v1::VolumeRecord& record) {
  engine::Table table;
  for (const v1::Member& member : record.members()) {
    engine::TargetConfig target;
    target.replica = member.replica();
    target.address = member.address();
    target.store_id = member.store_id();
    target.state =
        member.in_sync() ? engine::TargetState::kInSync : engine::TargetState::kOut;
    target.stays_out = member.stays_out();
    target.succeeds = member.succeeds();
    for (uint64_t position : member.left_at()) {
      target.left_at.push_back(Position::FromBits(position));
    }
    table.targets.push_back(std::move(target));
  }
  return table;
}

v1::VolumeRecord WithoutFormer(v1::VolumeRecord record, const std::string& store_id) {
  auto* former = record.mutable_former();
  former->erase(std::remove_if(former->begin(), former->end(),
                               [&](const v1::FormerMember& one) { return one.store_id() == store_id; }),
                former->end());
  return record;
}

v1::VolumeRecord WithFormer(v1::VolumeRecord record, const v1::Member& member) {
  record = WithoutFormer(std::move(record), member.store_id());
  v1::FormerMember* former = record.add_former();
  former->set_replica(member.replica());
  former->set_address(member.address());
  former->set_store_id(member.store_id());
  // What is forgotten here keeps its space until its store is erased.
  while (record.former_size() > kFormerMax) record.mutable_former()->erase(record.former().begin());
  return record;
}

v1::VolumeRecord WithMembers(v1::VolumeRecord record, const engine::CommitMembers& commit) {
  // By their stores: a member's place may have been given to another one, or given up.
  const auto before = std::move(*record.mutable_members());
  record.clear_members();
  for (const engine::TargetConfig& target : commit.table.targets) {
    if (target.gone) continue;
    v1::Member& member = *record.add_members();
    for (const v1::Member& known : before) {
      if (known.store_id() == target.store_id) member.set_boot_id(known.boot_id());
    }
    member.set_replica(target.replica);
    member.set_store_id(target.store_id);
    member.set_in_sync(target.state == engine::TargetState::kInSync);
    member.set_address(target.address);
    member.set_stays_out(target.stays_out);
    member.set_succeeds(target.succeeds);
    for (Position position : target.left_at) member.add_left_at(position.bits());
    if (!target.boot_id.empty()) member.set_boot_id(target.boot_id);
  }
  for (const engine::TargetConfig& target : commit.table.targets) {
    if (!target.gone) record = WithoutFormer(std::move(record), target.store_id);
  }
  for (const v1::Member& member : before) {
    const bool stays = std::any_of(record.members().begin(), record.members().end(),
                                   [&](const v1::Member& one) { return one.store_id() == member.store_id(); });
    if (!stays) record = WithFormer(std::move(record), member);
  }
  RaiseFloor(commit.floor, &record);
  return record;
}

std::vector<Pin> PinsOf(const v1::VolumeRecord& record) {
  std::vector<Pin> pins;
  for (const v1::SnapshotRecord& snapshot : record.snapshots()) {
    Pin& pin = pins.emplace_back();
    pin.id = snapshot.pin().id();
    for (uint64_t bits : snapshot.pin().positions()) {
      pin.positions.push_back(Position::FromBits(bits));
    }
  }
  return pins;
}

void PinToProto(const Pin& pin, v1::Pin* wire) {
  wire->set_id(pin.id);
  wire->clear_positions();
  for (Position position : pin.positions) wire->add_positions(position.bits());
}

v1::VolumeRecord WithSnapshot(v1::VolumeRecord record, const v1::SnapshotRecord& snapshot) {
  std::vector<Position> floor;
  for (uint64_t bits : snapshot.pin().positions()) floor.push_back(Position::FromBits(bits));
  RaiseFloor(floor, &record);
  *record.add_snapshots() = snapshot;
  return record;
}

v1::ParentRecord AsParent(const v1::VolumeRecord& record, const v1::SnapshotRecord& snapshot) {
  v1::ParentRecord parent;
  parent.set_volume(record.name());
  parent.set_volume_id(record.id());
  parent.set_snapshot(snapshot.name());
  parent.set_pin(snapshot.pin().id());
  parent.set_size_bytes(snapshot.size_bytes());
  return parent;
}

const v1::SnapshotRecord* FindSnapshot(const v1::VolumeRecord& record, const std::string& name) {
  for (const v1::SnapshotRecord& snapshot : record.snapshots()) {
    if (snapshot.name() == name) return &snapshot;
  }
  return nullptr;
}

absl::StatusOr<engine::Table> TableFromWire(const v1::Table& wire,
                                            const v1::VolumeRecord& record) {
  engine::Table table;
  std::set<std::string> seen;
  for (const v1::Target& target : wire.targets()) {
    const v1::Member* member = nullptr;
    for (const v1::Member& one : record.members()) {
      if (one.replica() == target.replica()) member = &one;
    }
    const std::string who = absl::StrCat("table: replica '", target.replica());
    if (member == nullptr) {
      return absl::InvalidArgumentError(absl::StrCat(
          who, "' is no member of volume ", record.name(),
          "; members may leave a table, none may come"));
    }
    if (!seen.insert(target.replica()).second) {
      return absl::InvalidArgumentError(who + "' is named twice");
    }
    if (target.state() != "in_sync" && target.state() != "joining" && target.state() != "out") {
      return absl::InvalidArgumentError(
          absl::StrCat(who, "': the state '", target.state(),
                       "' is none of in_sync, joining and out"));
    }
    const bool in_sync = target.state() == "in_sync";
    if (in_sync && !member->in_sync()) {
      return absl::InvalidArgumentError(absl::StrCat(
          who, "' has left and misses what was written since; give it the state joining to "
          "bring it back"));
    }
    if (!target.store_id().empty() && target.store_id() != member->store_id()) {
      return absl::InvalidArgumentError(absl::StrCat(
          who, "' has store ", member->store_id(), ", not ", target.store_id()));
    }
    engine::TargetConfig& next = table.targets.emplace_back();
    next.replica = member->replica();
    next.address = target.address().empty() ? member->address() : target.address();
    next.store_id = member->store_id();
    next.state = in_sync ? engine::TargetState::kInSync : engine::TargetState::kOut;
    next.stays_out = target.state() == "out";
    next.succeeds = member->succeeds();
  }
  return table;
}

std::string NewNonce() {
  std::random_device random;
  std::string nonce;
  for (int i = 0; i < 4; ++i) absl::StrAppendFormat(&nonce, "%08x", random());
  return nonce;
}

uint64_t NewVolumeId() {
  std::random_device random;
  uint64_t id = 0;
  while (id == 0) id = uint64_t{random()} << 32 | random();
  return id;
}

}  // namespace weir::host
