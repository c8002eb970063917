// What must hold inside of a cluster: I1 to I7 of the simulator's README. I8, that all is well in the
// end, is Cluster::Finished's.
#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/sim/cluster.h"

namespace weir::sim {
namespace {

using engine::RequestKind;

// Where a write's part of one lane was put.
uint64_t PlaceKey(uint64_t value, uint32_t lane) { return value << 8 | lane; }

std::string Listed(const std::vector<Version>& versions) {
  std::string out;
  for (const Version& version : versions) {
    absl::StrAppend(&out, RequestIn(version.value), " at ", version.position.ToString(), ", ");
  }
  return out;
}

}  // namespace

// The catalog has it in sync, with the disk that it has, as it was; none is of a volume that is being deleted.
bool Cluster::IsMember(uint32_t r) const { return !IsDeleted() && IsInSync(r); }

bool Cluster::IsInSync(uint32_t r) const {
  const engine::TakeoverMember* member = MemberOf(r);
  return member != nullptr && member->in_sync && !HasOtherStore(r) && restored_[r] == 0;
}

// Who has left for good stays one that is out, but where members are replaced.
const engine::TakeoverMember* Cluster::MemberOf(uint32_t r) const {
  for (const engine::TakeoverMember& member : catalog_->record().volume.members) {
    if (IndexOf(member.replica) == r) return &member;
  }
  return nullptr;
}

// --- what engines do ---

void Cluster::CheckSent(uint32_t frontend, const engine::SendClone& send) {
  const engine::Clone& clone = send.clone;
  if (suspended_[frontend] && !IsWrittenUnder(frontend)) Violated("a suspended volume has sent a clone");
  const engine::TakeoverRecord& record = catalog_->record().volume;
  const bool reads = clone.kind == RequestKind::kRead || clone.kind == RequestKind::kExtents;
  if (reads && !IsDeleted() && record.epoch == frontends_[frontend]->epoch()) {
    const engine::TakeoverMember* member = MemberOf(frontends_[frontend]->node_of(send.target));
    if (member == nullptr || !member->in_sync) Violated("a read is sent to a replica that is no member");
  }
  const bool brings_data = clone.kind == RequestKind::kWrite;
  if (!brings_data && clone.kind != RequestKind::kWriteZeroes &&
      clone.kind != RequestKind::kDiscard) {
    return;
  }
  const uint64_t request = brings_data ? RequestIn(ValueOf(clone.data.bytes(), 0)) : 0;
  history_.Record(clone.range, clone.position, request);
  if (!brings_data) return;
  for (uint64_t i = 0; i < clone.range.count; ++i) Shown(ValueOf(clone.data.bytes(), i), clone.range.first + i);
  placed_[PlaceKey(request, Index(clone.lane))] = clone.position;
  if (ops_[request].kind == RequestKind::kBarrier) CheckPreFlushed(request);
}

// C9: what a barrier covers is durable before its data goes out.
void Cluster::CheckPreFlushed(uint64_t id) {
  const Op& op = ops_[id];
  if (op.done || catalog_->record().volume.epoch != op.epoch) return;
  for (uint32_t r = 0; r < replicas_.size(); ++r) {
    if (!IsMember(r)) continue;
    for (uint32_t lane = 0; lane < op.covers.size(); ++lane) {
      if (replicas_[r]->disk().durable(lane) >= op.covers[lane]) continue;
      Violated(absl::StrCat("C9: barrier ", id, " is written, and ", op.covers[lane].ToString(),
                            " is not durable on member ", replicas_[r]->name()));
    }
  }
}

// I3 for what replicas are told of each other.
void Cluster::CheckPoints(uint32_t frontend, const engine::SendDurablePoints& news) {
  for (const auto& [lane, point] : news.points) {
    told_[Index(lane)] = std::max(told_[Index(lane)], point);
  }
  if (frontends_[frontend]->epoch() != active_epoch_) return;
  if (catalog_->record().volume.epoch != active_epoch_) return;
  for (const auto& [lane, point] : news.points) {
    for (uint32_t r = 0; r < replicas_.size(); ++r) {
      if (!IsMember(r) || replicas_[r]->disk().durable(Index(lane)) >= point) continue;
      Violated(absl::StrCat("I3: replicas are told that all have synced ", point.ToString(),
                            ", replica ", replicas_[r]->name(), " has not"));
    }
  }
}

// What a member has synced in the epoch that serves it never loses here, so if it comes back it can be refilled.
void Cluster::CheckDisconnect(uint32_t frontend, const engine::DisconnectTarget& end) {
  if (frontends_[frontend]->epoch() != active_epoch_) return;
  if (!absl::StrContains(end.reason, "came back with lane")) return;
  const engine::EngineView view = frontends_[frontend]->engine().View();
  if (view.targets[static_cast<size_t>(end.target)].health == engine::TargetView::Health::kFailed) {
    Violated("what a member had not synced was not kept for it");
  }
}

// Members never differ, whatever is written, joins or takes over meanwhile; but blocks rot, no more than one copy of each.
void Cluster::CheckReport(uint32_t frontend, const engine::ReportScrub& report) {
  const engine::ScrubView scrub = frontends_[frontend]->engine().View().scrub;
  const bool nothing_rots = result_.faults[static_cast<size_t>(Fault::kBadBlocks)] == 0 &&
                            result_.faults[static_cast<size_t>(Fault::kMisdirected)] == 0;
  const bool differ = absl::StrContains(report.what, "no replica can be told") &&
                      !absl::StrContains(report.what, "damaged");
  if (differ || (nothing_rots && scrub.bad_blocks > 0)) {
    Violated(absl::StrCat("a scrub takes for bad what is good: ", report.what));
  }
}

// I7: members leave only if one stays that is not known to have failed, and has answered no error. Of whose disk was replaced nothing is left to lose.
void Cluster::CheckCommit(uint32_t frontend, const engine::CommitMembers& commit) {
  const engine::EngineView view = frontends_[frontend]->engine().View();
  // One of which it is in doubt whether it has left goes on leaving, whatever happened since.
  std::vector<bool> asked;
  for (const auto& t : commit.table.targets) asked.push_back(t.state == engine::TargetState::kInSync);
  const std::vector<bool> before = std::exchange(asked_[frontend], asked);
  bool somebody_leaves = false;
  for (size_t i = 0; i < view.targets.size(); ++i) {
    const bool stays = commit.table.targets[i].state == engine::TargetState::kInSync;
    if (stays && view.targets[i].health != engine::TargetView::Health::kFailed &&
        !frontends_[frontend]->HasAnsweredError(static_cast<uint32_t>(i))) {
      return;
    }
    const bool anew = i >= before.size() || before[i];
    somebody_leaves |= !stays && anew && view.targets[i].config.state == engine::TargetState::kInSync &&
                       !HasOtherStore(IndexOf(view.targets[i].config.replica));
  }
  if (somebody_leaves) Violated("I7: only members that have failed would be left");
}

// I7: who has answered an I/O error has failed, at the latest when the flush run that it is held against has ended.
void Cluster::CheckErrorsCount(uint32_t frontend) {
  const Frontend& at = *frontends_[frontend];
  for (uint32_t target = 0; target < at.targets(); ++target) {
    if (!at.GoesOnAfterError(target)) continue;
    const engine::EngineView view = at.engine().View();
    if (view.targets[target].health != engine::TargetView::Health::kConnected || view.flush_running) continue;
    if (!at.engine().fenced()) Violated("I7: a replica goes on as if it had answered no error");
  }
}

// I2: what is acknowledged is on every member that the catalog names, and on as many as asked for.
void Cluster::CheckAcked(uint32_t frontend, const Op& op, uint64_t id) {
  for (uint64_t b = op.range.first; b < op.range.end(); ++b) {
    const uint32_t lane = Index(geometry_.lanes.LaneOf(b));
    const auto placed = placed_.find(PlaceKey(id, lane));
    if (placed == placed_.end()) return Violated(absl::StrCat("write ", id, " was never sent"));
    const Position at = placed->second;
    acked_[frontend][lane] = std::max(acked_[frontend][lane], at);
    if (IsDeleted() || catalog_->record().volume.epoch != op.epoch) continue;
    if (at > last_acked_[lane].position) last_acked_[lane] = {at, op.invoked};
    uint32_t have = 0;
    for (uint32_t r = 0; r < replicas_.size(); ++r) {
      const ReplicaNode& replica = *replicas_[r];
      const bool excused = replica.power_cut_at() >= op.invoked;
      const bool has = excused || replica.disk().position(lane) >= at;
      have += has ? 1 : 0;
      if (!IsMember(r)) continue;
      if (!has) {
        Violated(absl::StrCat("I2: write ", id, " was acknowledged at ", at.ToString(),
                              ", replica ", replica.name(), " is at ",
                              replica.disk().position(lane).ToString()));
      } else if (op.fua && replica.disk().durable(lane) < at) {
        Violated(absl::StrCat("I3: FUA write ", id, " was acknowledged at ", at.ToString(),
                              ", replica ", replica.name(), " has synced ",
                              replica.disk().durable(lane).ToString()));
      }
    }
    if (have < engine_options_.min_in_sync) {
      Violated(absl::StrCat("I2: write ", id, " was acknowledged by ", have, " replicas, min_in_sync is ",
                            engine_options_.min_in_sync));
    }
  }
}

// What was admitted, and went with the power, had no room when it was sent again: the real store may say so.
bool Cluster::HasFailedForSpace(uint32_t frontend) const {
  const std::vector<engine::TargetView> targets = frontends_[frontend]->engine().View().targets;
  return result_.faults[static_cast<size_t>(Fault::kFull)] > 0 && std::any_of(targets.begin(), targets.end(), [](const auto& target) {
    return target.health == engine::TargetView::Health::kFailed && absl::StrContains(target.reason, "no space left");
  });
}

// Trouble is held, not failed: an error needs somebody who has answered one, or what cannot be waited for.
void Cluster::CheckError(uint32_t frontend, const Op& op, const engine::CompleteRequest& done) {
  // After these a member may fail before the deadline.
  static constexpr Fault kFatal[] = {Fault::kErrors, Fault::kBadBlocks, Fault::kMisdirected, Fault::kRequeues,
                                     Fault::kSyncFails, Fault::kReplaceDisk,
                                     Fault::kOldDisk, Fault::kLostSynced};
  const auto has_been = [this](Fault fault) { return result_.faults[static_cast<size_t>(fault)] > 0; };
  const auto id = static_cast<uint64_t>(done.id);
  const auto unexplained = [&](const char* why) {
    Violated(absl::StrCat("request ", id, " failed with errno ", done.result.error(), ", ", why, ": ", done.message));
  };
  switch (done.result.error()) {
    case ESTALE:
      if (catalog_->record().volume.epoch <= op.epoch) unexplained("and there is no newer epoch");
      break;
    case ENOSPC:
      if (!has_been(Fault::kFull)) unexplained("and no disk was full");
      break;
    case EIO:
      // For want of any of them. Clocks run up to a tenth too fast.
      if (agenda_.now() - std::min({read_[frontend], wrote_[frontend], flushed_at_[frontend]}) >=
          engine_options_.hold_deadline * 0.9) {
        break;
      }
      if (std::none_of(std::begin(kFatal), std::end(kFatal), has_been) && !HasFailedForSpace(frontend)) {
        unexplained("where it was to be held");
      }
      break;
    default:
      unexplained("of which nothing was told");
  }
}

// I3: what a flush covers is synced on every member that the catalog names.
void Cluster::CheckFlushed(const Op& op) {
  if (IsDeleted() || catalog_->record().volume.epoch != op.epoch) return;
  for (uint32_t lane = 0; lane < op.covers.size(); ++lane) {
    flushed_[lane] = std::max(flushed_[lane], op.covers[lane]);
  }
  CheckMembers();
}

void Cluster::CheckMembers() {
  const engine::TakeoverRecord& record = catalog_->record().volume;
  if (std::none_of(record.members.begin(), record.members.end(),
                   [](const auto& m) { return m.in_sync; })) {
    Violated("I7: the catalog names no member in sync");
  }
  // A join, or a takeover, has brought it up to date, or should have. A frontend that was taken from may write to it meanwhile, since it has
  // forgotten its promise.
  for (uint32_t r = 0; r < replicas_.size(); ++r) {
    if (replicas_[r]->disk().position(0).epoch() >= restored_[r]) restored_[r] = 0;
  }
  CheckSuccession();
  if (record.recovering) return;
  for (uint32_t r = 0; r < replicas_.size(); ++r) {
    if (!IsMember(r)) continue;
    const ReplicaStore& disk = replicas_[r]->disk();
    for (uint32_t lane = 0; lane < flushed_.size(); ++lane) {
      const LastAcked& acked = last_acked_[lane];
      if (disk.position(lane) < acked.position && replicas_[r]->power_cut_at() < acked.invoked) {
        Violated(absl::StrCat("I2: ", acked.position.ToString(), " of lane ", lane,
                              " is acknowledged, member ", replicas_[r]->name(), " is at ",
                              disk.position(lane).ToString()));
      }
      if (disk.durable(lane) >= flushed_[lane]) continue;
      Violated(absl::StrCat("I3: ", flushed_[lane].ToString(), " of lane ", lane,
                            " is flushed, member ", replicas_[r]->name(), " has synced ",
                            disk.durable(lane).ToString()));
    }
  }
}

// Who is drained leaves for good once its successor is in sync.
void Cluster::CheckSuccession() {
  if (!drained_ || !MemberOf(*drained_)->stays_out) return;
  const auto successor = static_cast<uint32_t>(replicas_.size() - 1);
  if (!succeeded_ && !catalog_->record().volume.members[successor].in_sync) {
    Violated(absl::StrCat("I7: replica ", replicas_[*drained_]->name(), " has left for one that is no member"));
  }
  succeeded_ = true;
}

// --- what replicas have ---

void Cluster::CheckReplicas() {
  if (IsDeleted()) return;
  for (uint32_t r = 0; r < replicas_.size(); ++r) {
    if (!HasCopy(r)) {
      if (options_.replaces && IsMember(r)) Violated(absl::StrCat("L1: member ", replicas_[r]->name(), " has no copy"));
      if (options_.replaces) continue;
    }
    const ReplicaStore& disk = replicas_[r]->disk();
    Epoch& promised = promised_[replicas_[r]->store().identity().store_id];
    if (disk.promised() < promised) {
      Violated(absl::StrCat("I4: replica ", replicas_[r]->name(), " has promised ", promised,
                            " and says ", disk.promised()));
    }
    promised = disk.promised();
    if (replicas_[r]->used_invalid_block()) {
      Violated(absl::StrCat("I6: replica ", replicas_[r]->name(), " has used a marked block"));
    }
    if (IsMember(r) && !catalog_->record().volume.recovering) CheckHistory(r);
    for (uint32_t other = 0; other < r; ++other) {
      if (!options_.replaces || HasCopy(other)) CompareReplicas(other, r);
    }
  }
  CheckSnapshots();
}

// I1: a member has, in each lane, a prefix of what was written in this epoch. I6: and all of it.
void Cluster::CheckHistory(uint32_t r) {
  const ReplicaStore& disk = replicas_[r]->disk();
  for (uint64_t block = 0; block < geometry_.size_blocks; ++block) {
    const Position at = disk.position(Index(geometry_.lanes.LaneOf(block)));
    if (at.epoch() != active_epoch_) continue;
    if (disk.invalid(block)) {
      return Violated(absl::StrCat("I6: block ", block, " of member ", replicas_[r]->name(),
                                   " is marked"));
    }
    const Version* written = history_.Newest(block, at);
    const std::vector<Version>* versions = disk.versions(block);
    if (versions == nullptr) continue;
    const std::vector<Version>& all = *versions;
    // Zeros need not be kept where nothing lies beneath.
    if (written != nullptr && written->value == 0 && all.empty()) continue;
    const bool has = !all.empty() && all.back().position.epoch() == at.epoch();
    if (written == nullptr ? !has : has && all.back() == *written) continue;
    return Violated(absl::StrCat(
        "I1: member ", replicas_[r]->name(), " is at ", at.ToString(), ", its block ", block,
        " has ", has ? all.back().position.ToString() : "nothing", ", written was ",
        written == nullptr ? "nothing" : written->position.ToString()));
  }
}

// I5: at equal positions of one history replicas are equal, and version by version as far as none
// may have been reclaimed.
void Cluster::CompareReplicas(uint32_t i, uint32_t j) {
  const ReplicaStore& a = replicas_[i]->disk();
  const ReplicaStore& b = replicas_[j]->disk();
  for (uint64_t block = 0; block < geometry_.size_blocks; ++block) {
    const uint32_t lane = Index(geometry_.lanes.LaneOf(block));
    const Position at = a.position(lane);
    if (at != b.position(lane) || a.lineage(lane) != b.lineage(lane)) continue;
    if (a.invalid(block) || b.invalid(block)) continue;
    const std::vector<Version>* of_a = a.versions(block);
    const std::vector<Version>* of_b = b.versions(block);
    if (of_a == nullptr || of_b == nullptr) continue;
    // A tail that a takeover copies has the newest versions only.
    const bool serves = !catalog_->record().volume.recovering && at.epoch() == active_epoch_;
    const Position above = serves ? std::max(told_[lane], Position(at.epoch(), 0)) : at;
    auto left = of_a->rbegin();
    auto right = of_b->rbegin();
    const uint64_t left_value = left == of_a->rend() ? 0 : left->value;
    const uint64_t right_value = right == of_b->rend() ? 0 : right->value;
    bool equal = left_value == right_value;
    for (; equal && left != of_a->rend() && left->position > above; ++left, ++right) {
      equal = right != of_b->rend() && *left == *right;
    }
    if (equal) equal = right == of_b->rend() || right->position <= above;
    // Who is being brought back has, of blocks that were written since, only what its source had not reclaimed. It is whole
    // once it has come as far as that was, which may be after its join, but is before it is a member.
    if (equal || (at < told_[lane] && !(IsMember(i) && IsMember(j)))) continue;
    return Violated(absl::StrCat("I5: at ", at.ToString(), " block ", block, " is ", left_value,
                                 " on ", replicas_[i]->name(), " and ", right_value, " on ",
                                 replicas_[j]->name(), ", or has other versions above ",
                                 above.ToString(), ": ", Listed(*of_a), "and ", Listed(*of_b)));
  }
}

}  // namespace weir::sim
