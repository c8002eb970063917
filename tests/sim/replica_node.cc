#include "tests/sim/replica_node.h"

#include <algorithm>
#include <cerrno>

#include "absl/strings/str_cat.h"
#include "proto/base/check.h"
#include "proto/base/crc32c.h"
#include "proto/base/errno.h"
#include "proto/base/status_macros.h"
#include "replica/server/admission.h"

namespace weir::sim {
namespace {

using engine::RequestKind;

void SetError(const absl::Status& status, engine::CloneReply* reply) {
  reply->result = engine::Result(StatusToErrno(status));
  reply->message = std::string(status.message());
}

store::WriteKind KindOf(RequestKind kind) {
  switch (kind) {
    case RequestKind::kWriteZeroes:
      return store::WriteKind::kWriteZeroes;
    case RequestKind::kDiscard:
      return store::WriteKind::kDiscard;
    default:
      return store::WriteKind::kWrite;
  }
}

}  // namespace

ReplicaNode::ReplicaNode(uint32_t index, uint32_t domains, uint64_t inflight_bytes,
                         const store::VolumeGeometry& geometry, MakeReplicaStore make_store)
    : name_(NameOfReplica(index)),
      inflight_bytes_(inflight_bytes),
      lanes_(geometry.lanes),
      make_store_(std::move(make_store)),
      disk_(make_store_(absl::StrCat("store-", name_), domains, geometry)) {
  CHECK_OK(kept().BindCluster(kCluster));
  Gated();
}

// The store may be another now. Whoever rebuilds a catalog asks also who is not up.
void ReplicaNode::Gated() {
  sessions_ = std::make_unique<replica::Sessions>();
  gate_ = std::make_unique<replica::Gate>(&kept(), sessions_.get(), [this] { return Serving(); });
}

std::string ReplicaNode::boot_id() const { return absl::StrCat(name_, "-boot-", boot_); }

void ReplicaNode::Kill() {
  up_ = false;
  ++life_;
  sessions_->EndAll(absl::UnavailableError("the process has ended"));
}

void ReplicaNode::CutPower(Dice& dice, Time now) {
  if (up_) Kill();
  disk_->CutPower(dice);
  Gated();
  ++boot_;
  power_cut_at_ = now;
}

void ReplicaNode::ReplaceDisk(Time now, bool with_volume) {
  if (up_) Kill();
  const store::VolumeGeometry geometry{std::max<uint64_t>(1, disk_->size_blocks()), lanes_};  // there may be none
  const auto domains = static_cast<uint32_t>(kept().num_domains());
  disk_ = make_store_(absl::StrCat("store-", name_, ++disks_), domains, geometry);
  CHECK_OK(kept().BindCluster(kCluster));
  if (!with_volume) Empty();
  Gated();
  power_cut_at_ = now;
}

void ReplicaNode::RestoreDisks(Time now) {
  if (up_) Kill();
  disk_ = copy_();
  Gated();
  power_cut_at_ = now;
}

void ReplicaNode::Start() {
  if (up_) return;
  up_ = true;
  ++life_;
  disk_->Restart();
  Gated();
}

absl::Status ReplicaNode::Serving() const {
  if (store().health().ok()) return absl::OkStatus();
  return ErrnoToStatus(EIO, "the store has failed");
}

std::vector<engine::SealedState::Lane> LanesOf(const store::VolumeState& volume) {
  std::vector<engine::SealedState::Lane> lanes;
  for (const store::LaneState& lane : volume.lanes) {
    lanes.push_back({lane.position, lane.durable_position, lane.lineage, lane.invalid_blocks,
                     lane.join_id != 0 ? lane.join_to : Position()});
  }
  return lanes;
}

absl::StatusOr<engine::SealedState> ReplicaNode::Seal(const v1::Fence& fence) {
  ASSIGN_OR_RETURN(const replica::Gate::Sealed sealed, gate_->Seal(fence));
  engine::SealedState state;
  state.store_id = kept().identity().store_id;
  state.incarnation = kept().identity().incarnation;
  state.boot_id = boot_id();
  state.lanes = LanesOf(sealed.volume);
  return state;
}

absl::Status ReplicaNode::Step(const v1::Fence& fence, const std::function<absl::Status()>& step) {
  return gate_->Step(fence, [&](VolumeId) { return step(); });
}

absl::StatusOr<store::Tail> ReplicaNode::ReadTail(const v1::Fence& fence, LaneId lane,
                                                  Position from, Position to) {
  absl::StatusOr<store::Tail> tail;
  RETURN_IF_ERROR(Step(fence, [&] {
    tail = kept().ReadTail(kVolume, lane, from, to);
    return tail.status();
  }));
  return tail;
}

absl::Status ReplicaNode::AdoptTail(const v1::Fence& fence, const store::Tail& tail) {
  return Step(fence, [&] { return kept().AdoptTail(kVolume, tail); });
}

absl::Status ReplicaNode::KeepRecord(const v1::Fence& fence, const store::RecordCopy& copy) {
  return gate_->Step(fence, [&](VolumeId id) { return kept().KeepRecord(id, copy); }, replica::Acquaintance::kStore);
}

absl::Status ReplicaNode::UpdateVolume(const v1::Fence& fence, const store::VolumeUpdate& update) {
  return Step(fence, [&] {
    RETURN_IF_ERROR(replica::CheckUpdate(update, fence));
    return kept().UpdateVolume(kVolume, update);
  });
}

absl::Status ReplicaNode::TakeBase(const v1::Fence& fence, Epoch act_epoch, const std::vector<Position>& expected) {
  std::vector<std::pair<LaneId, Position>> lanes;
  for (uint32_t lane = 0; lane < expected.size(); ++lane) lanes.emplace_back(LaneId{lane}, expected[lane]);
  return Step(fence, [&] { return kept().TakeBase(kVolume, fence.epoch(), act_epoch, lanes); });
}

absl::StatusOr<ReplicaNode::Told> ReplicaNode::Tell() const {
  return Told{store().identity().store_id, store().identity().incarnation, gate_->volume_changes(kVolume)};
}

absl::Status ReplicaNode::DeleteVolume(const v1::Fence& fence, uint64_t volume_changes) {
  ASSIGN_OR_RETURN(const bool deleted, gate_->DeleteVolume(fence, volume_changes));
  if (deleted) deleted_();
  return absl::OkStatus();
}

// --- joins: as replica/server's join calls ---

engine::JoinStepResult ReplicaNode::RunJoinStep(const v1::Fence& fence,
                                                const engine::RunJoinStep& step) {
  using Kind = engine::RunJoinStep::Kind;
  engine::JoinStepResult result;
  if (step.kind == Kind::kSeal) {
    auto sealed = Seal(fence);
    result.status = sealed.status();
    if (sealed.ok()) result.sealed = *std::move(sealed);
  } else if (step.kind == Kind::kChanges) {
    result.status = Step(fence, [&]() -> absl::Status {
      ASSIGN_OR_RETURN(result.changes,
                       kept().ReadChanges(kVolume, step.lane, step.common, step.to));
      return absl::OkStatus();
    });
  } else if (step.kind == Kind::kBegin) {
    store::JoinLane join;
    join.lane = step.lane;
    join.join_id = step.join_id;
    join.expected = step.expected;
    join.to = step.to;
    join.lineage = step.lineage;
    join.common = step.common;
    join.changes = step.changes;
    join.everything = step.everything;
    result.status = Step(fence, [&] {
      RETURN_IF_ERROR(replica::CheckJoin(join, fence));
      return kept().BeginJoin(kVolume, join);
    });
  } else if (step.kind == Kind::kUpdate) {
    result.status = UpdateVolume(fence, {step.version, step.size_blocks, step.pins});
  } else if (step.kind == Kind::kDigest) {
    result.status = Step(fence, [&]() -> absl::Status {
      ASSIGN_OR_RETURN(result.digests, kept().Digests(kVolume, step.lane, step.changes.front(),
                                                      step.to, step.bytes_max));
      return absl::OkStatus();
    });
  } else {
    result.status = Step(fence, [&] { return kept().FinishJoin(kVolume, step.join_id); });
  }
  return result;
}

absl::Status ReplicaNode::StillToCopy(const v1::Fence& fence, const engine::RunJoinStep& step,
                                      std::vector<BlockRange>* ranges, uint64_t* blocks) {
  return Step(fence, [&]() -> absl::Status {
    ASSIGN_OR_RETURN(const store::InvalidPage page,
                     kept().InvalidBlocks(kVolume, step.lane, 0, 4));
    if (page.join_id != step.join_id) return absl::AbortedError("of another join");
    *ranges = page.ranges;
    *blocks = page.invalid_blocks;
    return absl::OkStatus();
  });
}

absl::StatusOr<store::VersionsPart> ReplicaNode::ReadVersions(
    const v1::Fence& fence, const engine::RunJoinStep& step,
    const std::vector<BlockRange>& ranges) {
  absl::StatusOr<store::VersionsPart> part;
  RETURN_IF_ERROR(Step(fence, [&] {
    part = kept().ReadVersions(kVolume, step.lane, ranges, step.to, step.bytes_max,
                               step.lost_too ? store::Damaged::kAsLost : store::Damaged::kRefused);
    if (part.ok()) NoteUsed(ranges);
    return part.status();
  }));
  return part;
}

engine::JoinStepResult ReplicaNode::CopyIn(const v1::Fence& fence, const engine::RunJoinStep& step,
                                           const store::VersionsPart& part) {
  engine::JoinStepResult result;
  result.status = Step(fence, [&]() -> absl::Status {
    const store::CopyPart copy{step.lane, step.join_id, step.to, part.ranges, part.versions};
    if (step.kind == engine::RunJoinStep::Kind::kRepair) return kept().Repair(kVolume, copy);
    RETURN_IF_ERROR(kept().CopyIn(kVolume, copy));
    ASSIGN_OR_RETURN(const store::InvalidPage page,
                     kept().InvalidBlocks(kVolume, step.lane, 0, 1));
    result.blocks_left = page.invalid_blocks;
    result.bytes_copied = part.versions.size() * kBlockBytes;
    result.versions_lost = static_cast<uint64_t>(
        std::count_if(part.versions.begin(), part.versions.end(), [](const auto& version) { return version.lost; }));
    result.whole_at = part.position;
    return absl::OkStatus();
  });
  return result;
}

absl::StatusOr<ReplicaNode::Opened> ReplicaNode::Hello(
    const v1::Fence& fence, uint64_t number, std::shared_ptr<replica::SessionOwner> owner) {
  Opened opened;
  const auto keep = [&opened](std::shared_ptr<replica::Session> session) {
    opened.session = std::move(session);
    return absl::OkStatus();
  };
  ASSIGN_OR_RETURN(const store::VolumeState volume, gate_->Open(fence, number, owner, keep));
  opened.hello.incarnation = kept().identity().incarnation;
  opened.hello.num_flush_requests =
      replica::NumFlushRequests(kept().num_domains(), volume.geometry.lanes);
  opened.hello.inflight_bytes_max = inflight_bytes_;
  opened.hello.space_exhausted = !kept().HasSpaceFor(0);
  for (const store::LaneState& lane : volume.lanes) {
    opened.hello.lanes.push_back({lane.position, lane.durable_position, lane.domain});
  }
  return opened;
}

void ReplicaNode::NoteDurablePoints(replica::Session& session,
                                    const engine::SendDurablePoints& news) {
  if (!up_ || !session.Enter()) return;
  (void)kept().KeepChanges(kVolume, news.keep_after);  // fails only once the store has
  (void)kept().NoteDurablePoints(kVolume, news.points);  // the same
  session.Leave();
}

int ReplicaNode::InjectedError(const engine::Clone& clone, Dice& dice) {
  if (dice.PerMille(faults_.requeue_per_mille)) return EAGAIN;
  if (dice.PerMille(faults_.error_per_mille)) return EIO;
  if (clone.kind == RequestKind::kRead && dice.PerMille(faults_.bad_block_per_mille)) {
    return EBADMSG;
  }
  return 0;
}

bool ReplicaNode::Serve(replica::Session& session, const engine::Clone& clone, Dice& dice,
                        engine::CloneReply* reply) {
  if (!up_ || !session.Enter()) return false;
  const int injected = InjectedError(clone, dice);
  if (injected != 0) {
    SetError(ErrnoToStatus(injected, "injected"), reply);
  } else if (clone.kind == RequestKind::kRead || clone.kind == RequestKind::kExtents) {
    Read(clone, reply);
  } else if (clone.kind == RequestKind::kFlush) {
    Flush(clone, reply);
  } else {
    Write(clone, reply);
    if (reply->result.ok() && dice.PerMille(faults_.misdirect_per_mille)) misdirected_(clone.range);
  }
  session.Leave();
  return !dice.PerMille(faults_.drop_per_mille);
}

void ReplicaNode::Write(const engine::Clone& clone, engine::CloneReply* reply) {
  store::WriteOp op;
  op.kind = KindOf(clone.kind);
  op.lane = clone.lane;
  op.range = clone.range;
  op.position = clone.position;
  op.fua = clone.fua;
  op.overlay = clone.overlay;
  op.data = clone.data.bytes();
  std::vector<uint32_t> crcs;
  if (disk_->verifies_checksums() && op.kind == store::WriteKind::kWrite) {
    crcs = BlockChecksums(op.data);
    op.crcs = crcs;
  }
  const store::WriteResult result = kept().Write(kVolume, {&op, 1})[0];
  reply->position = result.lane_position;
  if (!result.status.ok()) return SetError(result.status, reply);
  if (clone.fua) reply->durable.emplace_back(clone.lane, result.durable_position);
}

void ReplicaNode::Read(const engine::Clone& clone, engine::CloneReply* reply) {
  if (clone.kind == RequestKind::kExtents) {
    const auto extents = kept().Extents(kVolume, clone.range);
    if (!extents.ok()) return SetError(extents.status(), reply);
    reply->position = extents->newest;
    for (const auto& [blocks, allocated] : extents->runs) {
      reply->extents.push_back({blocks, allocated});
    }
    return;
  }
  auto read = kept().Read(kVolume, clone.range);
  if (!read.ok()) return SetError(read.status(), reply);
  NoteUsed({clone.range});
  reply->position = read->newest;
  if (clone.overlay) reply->absent = std::move(read->absent);
  reply->zeroes = read->zeroes;
  if (read->zeroes) return;
  auto data = std::make_shared<const std::string>(std::move(read->data));
  const absl::string_view bytes = *data;
  reply->data = Payload(std::move(data), bytes);
}

void ReplicaNode::NoteUsed(const std::vector<BlockRange>& ranges) {
  for (const BlockRange& range : ranges) {
    for (uint64_t b = range.first; b < range.end(); ++b) {
      used_invalid_block_ = used_invalid_block_ || disk_->invalid(b);
    }
  }
}

void ReplicaNode::Flush(const engine::Clone& clone, engine::CloneReply* reply) {
  auto durable = kept().Flush(kVolume, clone.flush_nr);
  if (!durable.ok()) return SetError(durable.status(), reply);
  reply->durable = *std::move(durable);
}

}  // namespace weir::sim
