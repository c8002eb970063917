// A frontend's takeover, and how it changes the record.
#include <algorithm>
#include <memory>
#include <optional>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/sim/frontend.h"

namespace weir::sim {
namespace {

bool SameRecord(const CatalogRecord& one, const CatalogRecord& other) {
  const engine::TakeoverRecord& a = one.volume;
  const engine::TakeoverRecord& b = other.volume;
  return one.restoring == other.restoring && a.recovering == b.recovering && a.epoch == b.epoch && a.act_epoch == b.act_epoch &&
         a.detached == b.detached && a.owner == b.owner && a.pins == b.pins && a.size_blocks == b.size_blocks &&
         std::equal(a.members.begin(), a.members.end(), b.members.begin(), b.members.end(),
                    [](const auto& x, const auto& y) {
                      return x.in_sync == y.in_sync && x.store_id == y.store_id &&
                             x.succeeds == y.succeeds;
                    });
}

}  // namespace

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

void Frontend::TakeOver(CatalogRecord record) {
  record_ = std::move(record);
  sealed_.assign(record_.volume.members.size(), {});
  attempt_ = absl::StrCat("f", index_, ".", life_, ".", ++attempts_);
  engine::TakeoverOptions options;
  options.lanes = parts_.engine.lanes.lanes;
  options.owner = attempt_;
  options.deadline = parts_.attach_deadline;
  options.give_up_after = parts_.give_up_after;
  options.lease = parts_.engine.lease;
  options.fresh = parts_.dice->Percent(20);
  takeover_ = std::make_unique<engine::Takeover>(record_.volume, options, Clock());
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
      CatalogRecord next = record_;
      next.volume = commit->record;
      Commit(std::move(next), [this, attempt = attempt_](absl::Status status) {
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
      Copy(*copy);
    } else if (const auto* take = std::get_if<engine::TakeBaseOn>(&effect)) {
      TakeBase(*take);
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

v1::Fence Frontend::FenceOf(const engine::TakeoverRecord& record, uint32_t member, uint64_t incarnation) {
  v1::Fence fence;
  fence.set_cluster_id(kCluster);
  fence.set_volume_id(static_cast<uint64_t>(kVolume));
  fence.set_store_id(record.members[member].store_id);
  fence.set_incarnation(incarnation);
  fence.set_epoch(record.epoch);
  return fence;
}

void Frontend::Seal(const engine::SealMember& seal) {
  const uint32_t member = seal.member;
  Call<absl::StatusOr<engine::SealedState>>(
      member, [fence = FenceOf(member, 0)](ReplicaNode& node) { return node.Seal(fence); },
      [this, member, attempt = attempt_](absl::StatusOr<engine::SealedState> state) {
        if (!IsAttempt(attempt)) return;
        if (state.ok()) sealed_[member] = *state;
        engine::TakeoverEffects effects;
        takeover_->MemberSealed(member, state, Clock(), effects);
        CarryOutTakeover(effects);
      });
}

void Frontend::Copy(const engine::CopyLane& copy) {
  Trace(absl::StrCat("copies lane ", Index(copy.lane), " (", copy.from.ToString(), ", ",
                     copy.to.ToString(), "] from ", copy.source, " to ", copy.target));
  auto fail = [this, copy](const absl::Status& status) {
    engine::TakeoverEffects effects;
    takeover_->LaneCopied(copy, status, Clock(), effects);
    CarryOutTakeover(effects);
  };
  Call<absl::StatusOr<store::Tail>>(
      copy.source,
      [copy, fence = FenceOf(copy.source, copy.source_incarnation)](ReplicaNode& node) {
        return node.ReadTail(fence, copy.lane, copy.from, copy.to);
      },
      [this, copy, fail, attempt = attempt_](absl::StatusOr<store::Tail> tail) {
        if (!IsAttempt(attempt)) return;
        if (!tail.ok()) return fail(tail.status());
        Call<absl::Status>(
            copy.target,
            [fence = FenceOf(copy.target, copy.target_incarnation), kept = CopyOf(record_.volume)](ReplicaNode& node) {
              return node.KeepRecord(fence, kept);
            },
            [this, copy, fail, attempt, tail = *std::move(tail)](absl::Status kept) mutable {
              if (!IsAttempt(attempt)) return;
              if (!kept.ok()) return fail(kept);
              Adopt(copy, std::move(tail));
            });
      });
}

void Frontend::Adopt(const engine::CopyLane& copy, store::Tail tail) {
  tail.expected = copy.expected;
  Call<absl::Status>(
      copy.target,
      [tail = std::move(tail), fence = FenceOf(copy.target, copy.target_incarnation)](ReplicaNode& node) {
        return node.AdoptTail(fence, tail);
      },
      [this, copy, attempt = attempt_](absl::Status status) {
        if (!IsAttempt(attempt)) return;
        engine::TakeoverEffects effects;
        takeover_->LaneCopied(copy, status, Clock(), effects);
        CarryOutTakeover(effects);
      });
}

void Frontend::TakeBase(const engine::TakeBaseOn& take) {
  std::vector<std::pair<LaneId, Position>> expected;
  for (uint32_t i = 0; i < take.expected.size(); ++i) {
    expected.emplace_back(LaneId{i}, take.expected[i]);
  }
  Call<absl::Status>(
      take.member,
      [fence = FenceOf(take.member, take.incarnation), act = take.act_epoch,
       expected, update = store::VolumeUpdate{uint64_t{record_.volume.epoch} << 32,
                                              take.size_blocks, take.pins}](ReplicaNode& node) {
        return node.TakeBase(fence, act, expected, update);
      },
      [this, take, attempt = attempt_](absl::Status status) {
        if (!IsAttempt(attempt)) return;
        if (!status.ok()) return BaseTaken(take.member, status);
        Call<absl::Status>(
            take.member,
            [fence = FenceOf(take.member, 0), copy = CopyOf(take.next)](ReplicaNode& node) {
              return node.KeepRecord(fence, copy);
            },
            [this, member = take.member, attempt](absl::Status kept) {
              if (IsAttempt(attempt)) BaseTaken(member, kept);
            });
      });
}

void Frontend::BaseTaken(uint32_t member, absl::Status status) {
  engine::TakeoverEffects effects;
  takeover_->BaseTaken(member, status, Clock(), effects);
  CarryOutTakeover(effects);
}

store::RecordCopy Frontend::CopyOf(const engine::TakeoverRecord& record) {
  parts_.copies->push_back(record);
  return {record_.volume.epoch, record_.revision, absl::StrCat(parts_.copies->size() - 1)};
}

// As far as they hear of it before the catalog is lost.
void Frontend::TellCopies() {
  if (parts_.dice->Percent(50)) return;
  const store::RecordCopy copy = CopyOf(record_.volume);
  for (uint32_t i = 0; i < record_.volume.members.size(); ++i) {
    if (!record_.volume.members[i].in_sync) continue;
    Call<absl::Status>(
        i, [fence = FenceOf(i, 0), copy](ReplicaNode& node) { return node.KeepRecord(fence, copy); },
        [](absl::Status) {});
  }
}

void Frontend::Wake(const std::string& attempt) {
  if (!IsAttempt(attempt)) return;
  engine::TakeoverEffects effects;
  takeover_->Woken(Clock(), effects);
  CarryOutTakeover(effects);
}

// --- the catalog: as host::VolumeRecordHolder ---

void Frontend::Commit(CatalogRecord next, std::function<void(absl::Status)> done) {
  next.revision = record_.revision;
  parts_.catalog->Put(index_, next, [this, life = life_, next, done](absl::StatusOr<uint64_t> put) {
    Enter(life, [this, next, done, put] {
      if (!put.ok()) return ReadBack(next, done);
      record_ = next;
      record_.revision = *put;
      done(absl::OkStatus());
    });
  });
}

void Frontend::ReadBack(CatalogRecord next, std::function<void(absl::Status)> done) {
  parts_.catalog->Get(index_, [this, life = life_, next, done](absl::StatusOr<CatalogRecord> read) {
    Enter(life, [this, next, done, read] {
      if (!read.ok() || read->revision == record_.revision) {
        return done(absl::UnavailableError("unknown"));
      }
      if (read->gone || read->deleting) return done(absl::AbortedError("it was deleted, or is being"));
      if (SameRecord(*read, next)) {
        record_ = *read;
        return done(absl::OkStatus());
      }
      // An earlier attempt of ours, whose answer never came: on top of it.
      if (read->volume.owner == next.volume.owner && read->volume.epoch == next.volume.epoch) {
        record_ = *read;
        return Commit(next, done);
      }
      done(absl::AbortedError("another frontend has taken over"));
    });
  });
}

}  // namespace weir::sim
