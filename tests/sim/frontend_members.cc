// Who is a member of a volume for good, as host/replace.cc, leftovers.cc and volume_record.cc have it, in the order that the engine's
// replacement.h and leftovers.h say.
#include <algorithm>
#include <utility>

#include "tests/sim/frontend_calls.h"

namespace weir::sim {
namespace {

constexpr absl::Duration kSuspendDeadline = absl::Milliseconds(500);
constexpr int kAttemptsMax = 8;
// So that no operator's control has the same.
constexpr uint64_t kOwnControls = uint64_t{1} << 63;

bool HasMember(const CatalogRecord& record, const FormerMember& store) {
  const std::vector<engine::TakeoverMember>& members = record.volume.members;
  return std::any_of(members.begin(), members.end(), [&](const engine::TakeoverMember& one) { return one.store_id == store.store_id; });
}

bool IsActive(const CatalogRecord& record) { return RecordKind::IsServed(record); }

}  // namespace

// --- the record ---

CatalogRecord Frontend::WithFormer(CatalogRecord record, const FormerMember& store) {
  record = WithoutFormer(std::move(record), store.store_id);
  record.former.push_back(store);
  return record;
}

CatalogRecord Frontend::WithoutFormer(CatalogRecord record, const std::string& store_id) {
  std::erase_if(record.former, [&](const FormerMember& one) { return one.store_id == store_id; });
  return record;
}

// By their stores: a member's place may have been given to another one, or given up.
CatalogRecord Frontend::WithMembers(CatalogRecord record, const engine::CommitMembers& commit) const {
  const std::vector<engine::TakeoverMember> before = std::exchange(record.volume.members, {});
  for (const engine::TargetConfig& target : commit.table.targets) {
    if (target.gone && parts_.forgets) continue;
    engine::TakeoverMember& member = record.volume.members.emplace_back();
    for (const engine::TakeoverMember& known : before) {
      if (known.store_id == target.store_id) member.boot_id = known.boot_id;
    }
    member.replica = target.replica;
    member.succeeds = target.succeeds;
    member.store_id = target.store_id;
    member.in_sync = target.state == engine::TargetState::kInSync;
    member.stays_out = target.stays_out;
    member.left_at = target.left_at;
    if (!target.boot_id.empty()) member.boot_id = target.boot_id;
  }
  const std::vector<engine::TakeoverMember> members = record.volume.members;
  for (const engine::TakeoverMember& member : members) record = WithoutFormer(std::move(record), member.store_id);
  for (const engine::TakeoverMember& member : before) {
    const bool stays = std::any_of(members.begin(), members.end(),
                                   [&](const engine::TakeoverMember& one) { return one.store_id == member.store_id; });
    if (!stays && parts_.forgets) record = WithFormer(std::move(record), {member.replica, member.store_id});
  }
  std::vector<Position>& floor = record.volume.floor;
  for (size_t i = 0; i < floor.size(); ++i) floor[i] = std::max(floor[i], commit.floor[i]);
  return record;
}

// --- a member's place is given away ---

void Frontend::Replace(const std::string& member, uint32_t node, bool make_before_break) {
  if (engine_ == nullptr || replacing_ || leftovers_ || engine_->View().state != engine::EngineView::State::kActive) return;
  Trace(NameOfReplica(node), make_before_break ? " is to take" : " takes", " the place of ", member);
  replacing_ = Replacing{.member = member, .with = {.replica = NameOfReplica(node), .address = "address"},
                         .make_before_break = make_before_break};
  Call<absl::StatusOr<ReplicaNode::Told>>(
      node, [](ReplicaNode& replica) { return replica.Tell(); },
      [this](const absl::StatusOr<ReplicaNode::Told>& told) {
        if (!told.ok()) return EndReplacing("it does not answer");
        replacing_->with.store_id = told->store_id;
        for (const engine::TakeoverMember& known : members()) {
          if (known.store_id == told->store_id) return EndReplacing("it has a member's store");
        }
        ReplaceNext();
      });
}

void Frontend::ReplaceNext() {
  const FormerMember store{replacing_->with.replica, replacing_->with.store_id};
  if (replacing_->nth == std::size(engine::kReplaceSteps)) return EndReplacing("it has");
  switch (engine::kReplaceSteps[replacing_->nth++]) {
    case engine::ReplaceStep::kAsk:
      return AskToReplace();
    case engine::ReplaceStep::kNote:
      return CommitChange([store](CatalogRecord next) { return HasMember(next, store) ? next : WithFormer(std::move(next), store); },
                          [this, store](const absl::Status& status) {
                            ReplaceNextOrEnd(HasMember(record(), store) ? absl::FailedPreconditionError("it has become a member") : status);
                          });
    case engine::ReplaceStep::kMakeCopy:
      return Call<absl::Status>(
          IndexOf(store.replica),
          [fence = FenceOf(replacing_->with, replacing_->told.incarnation), size = size_blocks(),
           changes = replacing_->told.volume_changes](ReplicaNode& node) { return node.CreateVolume(fence, size, changes); },
          [this](const absl::Status& status) {
            const bool anew = absl::IsAborted(status) && ++replacing_->attempts < kAttemptsMax;
            if (anew) replacing_->nth = 0;
            ReplaceNextOrEnd(anew ? absl::OkStatus() : status);
          });
    case engine::ReplaceStep::kSwapIn:
      return Later(absl::ZeroDuration(), [this] { SwapIn(); });
  }
}

void Frontend::AskToReplace() {
  Call<absl::StatusOr<ReplicaNode::Told>>(
      IndexOf(replacing_->with.replica), [](ReplicaNode& replica) { return replica.Tell(); },
      [this](const absl::StatusOr<ReplicaNode::Told>& told) {
        if (told.ok()) replacing_->told = *told;
        ReplaceNextOrEnd(told.status());
      });
}

void Frontend::ReplaceNextOrEnd(const absl::Status& status) {
  status.ok() ? ReplaceNext() : EndReplacing(std::string(status.message()));
}

void Frontend::EndReplacing(const std::string& why) {
  Trace("replaced: ", why);
  replacing_.reset();
}

void Frontend::SwapIn() {
  if (engine_->View().state != engine::EngineView::State::kActive) return EndReplacing("it is suspended, or about to be");
  replacing_->control = engine::ControlId{kOwnControls + ++own_controls_};
  Suspend(replacing_->control, /*noflush=*/true, kSuspendDeadline);
}

bool Frontend::SwapStepDone(const engine::CompleteControl& control) {
  if (static_cast<uint64_t>(control.id) < kOwnControls) return false;
  // Not at once: the engine is still at work on what has brought this.
  Later(absl::ZeroDuration(), [this, id = control.id, ok = control.result.ok()] {
    if (!replacing_ || replacing_->control != id) return;
    using Swap = Replacing::Swap;
    const Swap done = replacing_->swap;
    if (done == Swap::kResumes && ok) return ReplaceNext();
    if ((done == Swap::kSuspends && !ok) || done == Swap::kResumesAnyway) return EndReplacing("the members are as they were");
    replacing_->swap = static_cast<Swap>(static_cast<int>(done) + 1);
    replacing_->control = engine::ControlId{kOwnControls + ++own_controls_};
    if (done != Swap::kSuspends) return Resume(replacing_->control);
    LoadTable(replacing_->control, engine::TableWith(engine_->View(), replacing_->member, replacing_->with, replacing_->make_before_break));
  });
  return true;
}

// --- what others than members have ---

void Frontend::LookForLeftovers() {
  Later(parts_.dice->Micros(30000, 300000), [this] { LookForLeftovers(); });
  if (replacing_ || leftovers_ || record().former.empty() || !engine::IsWhole(record().volume, IsActive(record()))) return;
  std::vector<std::string> stores;
  for (const FormerMember& former : record().former) stores.push_back(former.store_id);
  leftovers_.emplace(LookingAtLeftovers{.stores = record().former, .decides = engine::Leftovers(std::move(stores)), .told = {}});
  LeftoversNext();
}

void Frontend::LeftoversNext() {
  using Act = engine::Leftovers::Act;
  const engine::Leftovers::Step step = leftovers_->decides.Next();
  if (step.act == Act::kDone) return leftovers_.reset();
  const FormerMember& store = leftovers_->stores[step.store];
  switch (step.act) {
    case Act::kAsk:
      return AskForCopy(store);
    case Act::kConfirm:
      return ConfirmRecord();
    case Act::kDeleteCopy:
      return DeleteLeftover(store);
    case Act::kForget:
      return CommitChange([id = store.store_id](CatalogRecord next) { return WithoutFormer(std::move(next), id); },
                          [this](const absl::Status& status) { LeftoversNextOrFailed(status); });
    case Act::kDone:
      break;
  }
}

void Frontend::LeftoversNextOrFailed(const absl::Status& status) {
  if (!status.ok()) leftovers_->decides.Failed();
  LeftoversNext();
}

void Frontend::AskForCopy(const FormerMember& store) {
  Call<absl::StatusOr<ReplicaNode::Told>>(
      IndexOf(store.replica), [](ReplicaNode& node) { return node.Tell(); },
      [this, id = store.store_id](const absl::StatusOr<ReplicaNode::Told>& told) {
        engine::Deletion::Replica found{.silent = !told.ok()};
        if (told.ok()) {
          leftovers_->told = *told;
          found.store_id = told->store_id;
        }
        leftovers_->decides.Asked(engine::Deletion::LeftAt(found, id));
        LeftoversNext();
      });
}

void Frontend::ConfirmRecord() {
  CommitChange([](CatalogRecord same) { return same; }, [this](const absl::Status& status) {
    if (status.ok()) leftovers_->decides.Confirmed(record().volume, IsActive(record()), engine_->View());
    LeftoversNextOrFailed(status);
  });
}

void Frontend::DeleteLeftover(const FormerMember& store) {
  if (events_.deletes_leftover) events_.deletes_leftover();
  const ReplicaNode::Told& told = leftovers_->told;
  Call<absl::Status>(
      IndexOf(store.replica),
      [fence = FenceOf(store.store_id, told.incarnation, epoch()), changes = told.volume_changes](ReplicaNode& node) {
        return node.DeleteVolume(fence, changes);
      },
      [this](const absl::Status& status) { LeftoversNextOrFailed(status); });
}

}  // namespace weir::sim
