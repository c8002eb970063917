#include "tests/sim/replica_node.h"

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
    : name_(std::string(1, static_cast<char>('a' + index))),
      inflight_bytes_(inflight_bytes),
      lanes_(geometry.lanes),
      make_store_(std::move(make_store)),
      disk_(make_store_(absl::StrCat("store-", name_), domains, geometry)) {
  CHECK_OK(kept().BindCluster(kCluster));
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
  ++boot_;
  power_cut_at_ = now;
}

void ReplicaNode::ReplaceDisk(Time now) {
  if (up_) Kill();
  const store::VolumeGeometry geometry{disk_->size_blocks(), lanes_};
  const auto domains = static_cast<uint32_t>(kept().num_domains());
  disk_ = make_store_(absl::StrCat("store-", name_, ++disks_), domains, geometry);
  CHECK_OK(kept().BindCluster(kCluster));
  power_cut_at_ = now;
}

void ReplicaNode::RestoreDisks(Time now) {
  if (up_) Kill();
  disk_ = copy_();
  power_cut_at_ = now;
}

void ReplicaNode::Start() {
  if (up_) return;
  up_ = true;
  ++life_;
  sessions_ = std::make_unique<replica::Sessions>();
  disk_->Restart();
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

// In the order of Service::DoSeal.
absl::StatusOr<engine::SealedState> ReplicaNode::Seal(const v1::Fence& fence) {
  RETURN_IF_ERROR(Serving());
  RETURN_IF_ERROR(
      replica::CheckIdentity(kept().identity(), fence, replica::Acquaintance::kStranger));
  ASSIGN_OR_RETURN(store::VolumeState volume, kept().GetVolume(kVolume));
  RETURN_IF_ERROR(replica::CheckEpochNotBelow(volume.promised_epoch, fence));
  RETURN_IF_ERROR(kept().Promise(kVolume, fence.epoch()));
  sessions_->Raise(kVolume, fence.epoch());
  ASSIGN_OR_RETURN(volume, kept().GetVolume(kVolume));
  engine::SealedState state;
  state.store_id = kept().identity().store_id;
  state.incarnation = kept().identity().incarnation;
  state.boot_id = boot_id();
  state.lanes = LanesOf(volume);
  return state;
}

// As replica/server/tail_calls.cc's TakeoverStep.
absl::Status ReplicaNode::Step(const v1::Fence& fence, const std::function<absl::Status()>& step) {
  RETURN_IF_ERROR(Serving());
  RETURN_IF_ERROR(
      replica::CheckIdentity(kept().identity(), fence, replica::Acquaintance::kProcess));
  ASSIGN_OR_RETURN(const auto held, sessions_->Hold(kVolume, fence.epoch()));
  RETURN_IF_ERROR(replica::CheckEpochIs(disk_->promised(), fence));
  return step();
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

absl::Status ReplicaNode::KeepRecord(v1::Fence fence, const store::RecordCopy& copy) {
  fence.set_incarnation(kept().identity().incarnation);  // it is not looked at
  return Step(fence, [&] { return kept().KeepRecord(kVolume, copy); });
}

absl::Status ReplicaNode::TakeBase(const v1::Fence& fence, Epoch act_epoch,
                                   const std::vector<std::pair<LaneId, Position>>& expected,
                                   const store::VolumeUpdate& update) {
  return Step(fence, [&] {
    RETURN_IF_ERROR(kept().UpdateVolume(kVolume, update));
    return kept().TakeBase(kVolume, fence.epoch(), act_epoch, expected);
  });
}

// As host/provision.cc's DeleteCopy asks for it, and Service::DoDeleteVolume does it.
absl::Status ReplicaNode::DeleteVolume(const v1::Fence& fence) {
  if (fence.store_id() != kept().identity().store_id) return absl::OkStatus();
  RETURN_IF_ERROR(Serving());
  RETURN_IF_ERROR(replica::CheckIdentity(kept().identity(), fence, replica::Acquaintance::kStranger));
  const absl::StatusOr<store::VolumeState> volume = kept().GetVolume(kVolume);
  if (absl::IsNotFound(volume.status())) return absl::OkStatus();
  RETURN_IF_ERROR(volume.status());
  RETURN_IF_ERROR(replica::CheckEpochNotBelow(volume->promised_epoch, fence));
  const absl::Status gone = absl::NotFoundError("the volume was deleted");
  sessions_->EndVolume(kVolume, gone);
  RETURN_IF_ERROR(kept().DeleteVolume(kVolume));
  sessions_->EndVolume(kVolume, gone);
  deleted_();
  return absl::OkStatus();
}

// --- joins: as replica/server's join calls ---

engine::JoinStepResult ReplicaNode::RunJoinStep(const v1::Fence& fence,
                                                const engine::RunJoinStep& step) {
  using Kind = engine::RunJoinStep::Kind;
  const store::VolumeUpdate update{step.version, step.size_blocks, step.pins};
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
      RETURN_IF_ERROR(kept().UpdateVolume(kVolume, update));
      return kept().BeginJoin(kVolume, join);
    });
  } else if (step.kind == Kind::kUpdate) {
    result.status = Step(fence, [&] { return kept().UpdateVolume(kVolume, update); });
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
    part = kept().ReadVersions(kVolume, step.lane, ranges, step.to, step.bytes_max);
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
    result.whole_at = part.position;
    return absl::OkStatus();
  });
  return result;
}

// As IoStream::AdmitHello.
absl::StatusOr<ReplicaNode::Opened> ReplicaNode::Hello(
    const v1::Fence& fence, uint64_t number, std::shared_ptr<replica::SessionOwner> owner) {
  RETURN_IF_ERROR(Serving());
  RETURN_IF_ERROR(replica::CheckIdentity(kept().identity(), fence, replica::Acquaintance::kStore));
  ASSIGN_OR_RETURN(store::VolumeState volume, kept().GetVolume(kVolume));
  RETURN_IF_ERROR(replica::CheckEpochIs(volume.promised_epoch, fence));
  RETURN_IF_ERROR(replica::CheckBaseTaken(volume, fence.epoch()));
  Opened opened;
  ASSIGN_OR_RETURN(opened.session, sessions_->Open(kVolume, fence.epoch(), number, owner));
  ASSIGN_OR_RETURN(volume, kept().GetVolume(kVolume));
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
