// A frontend's takeover, and how it changes the record.
#include <algorithm>
#include <memory>
#include <optional>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/sim/frontend_calls.h"

namespace weir::sim {
// --- the takeover ---

void Frontend::Attach(bool restores) {
  if (deletion_) return events_.refused(absl::FailedPreconditionError("it is just being deleted here"));
  reading_ = true;
  parts_.catalog->Get(index_, [this, life = life_, restores](absl::StatusOr<CatalogRecord> record) {
    Enter(life, [this, restores, record = std::move(record)] {
      reading_ = false;
      if (!record.ok()) return events_.refused(record.status());
      if (record->gone) return events_.refused(absl::NotFoundError("there is no such volume"));
      if (record->deleting) return events_.refused(absl::FailedPreconditionError("it is being deleted"));
      if ((record->restoring != 0) != restores) return events_.refused(absl::FailedPreconditionError("it is being restored, or is not"));
      TakeOver(*record);
    });
  });
}

void Frontend::TakeOver(CatalogRecord read) {
  const uint64_t revision = read.revision;
  held_ = HeldRecord({std::move(read), revision});
  sealed_.assign(record().volume.members.size(), {});
  attempt_ = absl::StrCat("f", index_, ".", life_, ".", ++attempts_);
  engine::TakeoverOptions options;
  options.lanes = parts_.engine.lanes.lanes;
  options.owner = attempt_;
  options.deadline = parts_.attach_deadline;
  options.give_up_after = parts_.give_up_after;
  options.lease = parts_.engine.lease;
  options.fresh = parts_.dice->Percent(20);
  takeover_ = std::make_unique<engine::Takeover>(record().volume, options, Clock());
  engine::TakeoverEffects effects;
  takeover_->Start(effects);
  CarryOutTakeover(effects);
}

// What was asked for by one that has ended is answered to nobody.
bool Frontend::IsAttempt(const std::string& owner) const { return takeover_ != nullptr && attempt_ == owner; }

void Frontend::CarryOutTakeover(const engine::TakeoverEffects& effects) {
  for (const engine::TakeoverEffect& effect : effects) {
    if (takeover_ == nullptr) return;
    if (const auto* commit = std::get_if<engine::CommitRecord>(&effect)) {
      Trace("takes epoch ", commit->record.epoch,
                         commit->record.recovering ? " RECOVERING" : " ACTIVE");
      CatalogRecord next = record();
      next.volume = commit->record;
      Commit(&held_, std::move(next), [this, attempt = attempt_](absl::Status status) {
        if (!IsAttempt(attempt)) return;
        engine::TakeoverEffects effects;
        takeover_->RecordCommitted(status, Clock(), effects);
        CarryOutTakeover(effects);
      });
    } else if (const auto* seal = std::get_if<engine::SealMember>(&effect)) {
      Later(seal->delay, [this, seal = *seal, attempt = attempt_] {
        if (IsAttempt(attempt)) Seal(seal);
      });
    } else if (const auto* copy = std::get_if<engine::CopyLane>(&effect)) {
      Copy(*copy, 0);
    } else if (const auto* take = std::get_if<engine::TakeBaseOn>(&effect)) {
      TakeBase(*take, 0);
    } else if (const auto* wait = std::get_if<engine::WaitFor>(&effect)) {
      Later(wait->delay / clock_rate_, [this, attempt = attempt_] { Wake(attempt); });
    } else if (const auto* given_up = std::get_if<engine::GiveUpMember>(&effect)) {
      Trace("gives up ", given_up->member, ": ", given_up->reason);
    } else if (const auto* failed = std::get_if<engine::TakeoverFailed>(&effect)) {
      const absl::Status why = failed->status;
      Trace("attach failed: ", why.ToString());
      takeover_.reset();
      return events_.refused(why);
    } else {
      takeover_.reset();
      return Serve();
    }
  }
}

v1::Fence Frontend::FenceOf(const std::string& store_id, uint64_t incarnation, Epoch epoch) {
  v1::Fence fence;
  fence.set_cluster_id(kCluster);
  fence.set_volume_id(static_cast<uint64_t>(kVolume));
  fence.set_store_id(store_id);
  fence.set_incarnation(incarnation);
  fence.set_epoch(epoch);
  return fence;
}

void Frontend::Seal(const engine::SealMember& seal) {
  const uint32_t member = seal.member;
  Call<absl::StatusOr<engine::SealedState>>(
      NodeOf(member), [fence = FenceOf(member, 0)](ReplicaNode& node) { return node.Seal(fence); },
      [this, member, attempt = attempt_](absl::StatusOr<engine::SealedState> state) {
        if (!IsAttempt(attempt)) return;
        if (state.ok()) sealed_[member] = *state;
        engine::TakeoverEffects effects;
        takeover_->MemberSealed(member, state, Clock(), effects);
        CarryOutTakeover(effects);
      });
}

// One call after the other, as the effect says, until one fails.
void Frontend::Copy(const engine::CopyLane& copy, size_t nth) {
  if (nth == 0) {
    Trace(absl::StrCat("copies lane ", Index(copy.lane), " (", copy.from.ToString(), ", ",
                       copy.to.ToString(), "] from ", copy.source, " to ", copy.target));
  }
  if (nth == std::size(engine::CopyLane::kCalls)) return Copied(copy, absl::OkStatus());
  const auto next = [this, copy, nth, attempt = attempt_](const absl::Status& status) {
    if (!IsAttempt(attempt)) return;
    status.ok() ? Copy(copy, nth + 1) : Copied(copy, status);
  };
  const v1::Fence fence = FenceOf(copy.target, copy.target_incarnation);
  if (engine::CopyLane::kCalls[nth] == engine::CopyLane::Call::kKeepRecord) {
    return Call<absl::Status>(
        NodeOf(copy.target), [fence, kept = CopyOf(record().volume)](ReplicaNode& node) { return node.KeepRecord(fence, kept); }, next);
  }
  Call<absl::StatusOr<store::Tail>>(
      NodeOf(copy.source),
      [copy, from = FenceOf(copy.source, copy.source_incarnation)](ReplicaNode& node) {
        return node.ReadTail(from, copy.lane, copy.from, copy.to);
      },
      [this, copy, fence, next, attempt = attempt_](absl::StatusOr<store::Tail> tail) {
        if (!IsAttempt(attempt)) return;
        if (!tail.ok()) return next(tail.status());
        tail->expected = copy.expected;
        Call<absl::Status>(
            NodeOf(copy.target), [tail = *std::move(tail), fence](ReplicaNode& node) { return node.AdoptTail(fence, tail); }, next);
      });
}

void Frontend::Copied(const engine::CopyLane& copy, const absl::Status& status) {
  engine::TakeoverEffects effects;
  takeover_->LaneCopied(copy, status, Clock(), effects);
  CarryOutTakeover(effects);
}

void Frontend::TakeBase(const engine::TakeBaseOn& take, size_t nth) {
  if (nth == std::size(engine::TakeBaseOn::kCalls)) return BaseTaken(take.member, absl::OkStatus());
  const auto next = [this, take, nth, attempt = attempt_](const absl::Status& status) {
    if (!IsAttempt(attempt)) return;
    status.ok() ? TakeBase(take, nth + 1) : BaseTaken(take.member, status);
  };
  const v1::Fence fence = FenceOf(take.member, take.incarnation);
  std::function<absl::Status(ReplicaNode&)> call;
  switch (engine::TakeBaseOn::kCalls[nth]) {
    case engine::TakeBaseOn::Call::kUpdateVolume:
      call = [fence, update = store::VolumeUpdate{uint64_t{record().volume.epoch} << 32, take.size_blocks, take.pins}](
                 ReplicaNode& node) { return node.UpdateVolume(fence, update); };
      break;
    case engine::TakeBaseOn::Call::kTakeBase:
      call = [fence, take](ReplicaNode& node) { return node.TakeBase(fence, take.act_epoch, take.expected); };
      break;
    case engine::TakeBaseOn::Call::kKeepRecord:
      call = [fence, copy = CopyOf(take.next)](ReplicaNode& node) { return node.KeepRecord(fence, copy); };
      break;
  }
  Call<absl::Status>(NodeOf(take.member), call, next);
}

void Frontend::BaseTaken(uint32_t member, absl::Status status) {
  engine::TakeoverEffects effects;
  takeover_->BaseTaken(member, status, Clock(), effects);
  CarryOutTakeover(effects);
}

store::RecordCopy Frontend::CopyOf(const engine::TakeoverRecord& volume) {
  parts_.copies->push_back({.volume = volume, .restoring = record().restoring});
  return {record().volume.epoch, held_.revision(), absl::StrCat(parts_.copies->size() - 1)};
}

// As far as they hear of it before the catalog is lost.
void Frontend::TellCopies() {
  if (parts_.dice->Percent(50)) return;
  const store::RecordCopy copy = CopyOf(record().volume);
  for (uint32_t i = 0; i < record().volume.members.size(); ++i) {
    if (!record().volume.members[i].in_sync) continue;
    Call<absl::Status>(
        NodeOf(i), [fence = FenceOf(i, 0), copy](ReplicaNode& node) { return node.KeepRecord(fence, copy); },
        [](absl::Status) {});
  }
}

void Frontend::TellNow(std::function<void(absl::Status)> done) {
  const store::RecordCopy copy = CopyOf(record().volume);
  struct Asked {
    size_t left = 0;
    absl::Status status = absl::UnavailableError("nobody has it");
  };
  auto asked = std::make_shared<Asked>();
  for (uint32_t i = 0; i < record().volume.members.size(); ++i) {
    if (!record().volume.members[i].in_sync) continue;
    ++asked->left;
    Call<absl::Status>(
        NodeOf(i), [fence = FenceOf(i, 0), copy](ReplicaNode& node) { return node.KeepRecord(fence, copy); },
        [asked, done](const absl::Status& status) {
          if (status.ok()) asked->status = status;
          if (--asked->left == 0) done(asked->status);
        });
  }
}

void Frontend::Wake(const std::string& attempt) {
  if (!IsAttempt(attempt)) return;
  engine::TakeoverEffects effects;
  takeover_->Woken(Clock(), effects);
  CarryOutTakeover(effects);
}

// --- the catalog ---

void Frontend::Commit(HeldRecord* held, CatalogRecord next, std::function<void(absl::Status)> done) {
  held->Begin(std::move(next));
  Put(held, std::move(done));
}

void Frontend::Put(HeldRecord* held, std::function<void(absl::Status)> done) {
  CatalogRecord next = held->next();
  next.revision = held->revision();
  parts_.catalog->Put(index_, next, [this, life = life_, held, done](absl::StatusOr<uint64_t> put) {
    Enter(life, [this, held, done, put] { held->Put(put) ? done(absl::OkStatus()) : ReadBack(held, done); });
  });
}

void Frontend::ReadBack(HeldRecord* held, std::function<void(absl::Status)> done) {
  parts_.catalog->Get(index_, [this, life = life_, held, done](const absl::StatusOr<CatalogRecord>& read) {
    Enter(life, [this, held, done, read] {
      absl::StatusOr<HeldRecord::Versioned> found = absl::NotFoundError("there is no such volume");
      if (!read.ok()) found = read.status();
      if (read.ok() && !read->gone) found = HeldRecord::Versioned{*read, read->revision};
      switch (held->ReadBack(std::move(found))) {
        case engine::CommitOutcome::kDone:
          return done(absl::OkStatus());
        case engine::CommitOutcome::kAgain:
          return Put(held, done);
        case engine::CommitOutcome::kDeleted:
          return done(absl::AbortedError("it was deleted"));
        case engine::CommitOutcome::kTaken:
          return done(absl::AbortedError("another frontend has taken over"));
        case engine::CommitOutcome::kUnknown:
        case engine::CommitOutcome::kKeepsChanging:
          return done(absl::UnavailableError("unknown"));
      }
    });
  });
}

}  // namespace weir::sim
