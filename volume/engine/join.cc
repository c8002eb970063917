// Members that are brought back while writes go on: DESIGN.md, "Join". See state.h.
//
// The joiner takes a member's history up to a position R in each lane; whatever may differ
// below it is marked invalid and copied, while live writes flow from R + 1 on. The two never conflict. It is a
// member once it has everything, has synced it, and the catalog has been asked. Breaking off at
// any point is harmless, and the next try goes on with what is still marked.
#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/base/check.h"
#include "proto/base/errno.h"
#include "volume/engine/state.h"

namespace weir::engine {
namespace {

// A step that took longer was slowed down by something else, not by us.
constexpr absl::Duration kRestMax = absl::Milliseconds(250);
// The speed of copying is an average over about so long.
constexpr absl::Duration kRateMemory = absl::Seconds(10);

bool FlushInFlight(const Target& target) {
  return std::any_of(target.inflight.begin(), target.inflight.end(), [](const auto& clone) {
    return clone.second.kind == RequestKind::kFlush;
  });
}

// Ends of a lane's history by epoch, the present one included.
std::vector<LineageEntry> HistoryOf(const SealedState::Lane& lane) {
  std::vector<LineageEntry> history = lane.lineage;
  history.push_back({lane.position.epoch(), lane.position.n()});
  return history;
}

// The newest point on both histories.
std::optional<Position> NewestCommon(const SealedState::Lane& a, const SealedState::Lane& b) {
  std::optional<Position> newest;
  const std::vector<LineageEntry> others = HistoryOf(b);
  for (const LineageEntry& mine : HistoryOf(a)) {
    for (const LineageEntry& theirs : others) {
      if (mine.epoch != theirs.epoch) continue;
      const Position common(mine.epoch, std::min(mine.n, theirs.n));
      if (!newest || common > *newest) newest = common;
    }
  }
  return newest;
}

}  // namespace

bool Engine::State::AdvanceJoin() {
  if (!IsRunning()) return false;
  if (!join_) return StartJoin();
  Target& joiner = *Find(join_->target);
  if (HoldsUpClients(joiner)) {
    FailJoin("could not keep up with the clients' writes");
    return true;
  }
  return Promote() || FlushJoiner();
}

bool Engine::State::StartJoin() {
  if (options_.leave_after == absl::InfiniteDuration()) return false;
  for (Target& target : targets_) {
    if (target.health != Target::Health::kOut || target.config.stays_out) continue;
    if (IsSucceeded(target)) continue;
    if (now_ < target.join_not_before) continue;
    const Target* source = ChooseSource(/*but=*/0);
    if (source == nullptr) return false;
    join_ = Join();
    join_->id = uint64_t{options_.epoch} << 32 | ++joins_;
    join_->target = target.id;
    join_->source = source->id;
    join_->lanes.resize(lanes_.size());
    for (TargetId who : {target.id, source->id}) {
      RunJoinStep seal;
      seal.kind = RunJoinStep::Kind::kSeal;
      seal.target = who;
      RunStep(std::move(seal));
    }
    return true;
  }
  return false;
}

const Target* Engine::State::ChooseSource(uint64_t but) const {
  const Target* best = nullptr;
  for (const Target& target : targets_) {
    if (!target.readable() || (but & Bit(target.id)) != 0) continue;
    if (best == nullptr || target.inflight.size() < best->inflight.size()) best = &target;
  }
  return best;
}

void Engine::State::RunStep(RunJoinStep step) {
  step.step = next_step_++;
  step.join_id = join_->id;
  step.target_config = Find(step.target)->config;
  step.source_config = Find(step.source)->config;
  join_->awaited.push_back({step.step, step.target, Index(step.lane), step.source});
  join_->step_begun = now_ + step.delay;
  join_->clients_came = false;
  Emit(std::move(step));
}

void Engine::State::JoinStepDone(uint64_t step, JoinStepResult result) {
  if (step == repair_step_) return RepairDone(result);
  for (Target& target : targets_) {
    if (step == target.update_step) return UpdateDone(target, result);
  }
  if (ScrubStepDone(step, result)) return;
  if (!join_) return;
  const auto found = std::find_if(join_->awaited.begin(), join_->awaited.end(),
                                  [step](const auto& awaited) { return awaited.step == step; });
  if (found == join_->awaited.end()) return;  // of a join that was broken off
  const Join::Awaited of = *found;
  join_->awaited.erase(found);
  switch (join_->stage) {
    case Join::Stage::kSealing:
      return JoinSealed(of.target, result);
    case Join::Stage::kComparing:
      return LaneCompared(of.lane, result);
    case Join::Stage::kBeginning:
      return LaneBegun(of.lane, result.status);
    case Join::Stage::kCopying:
      return Copied(of, result);
    case Join::Stage::kFinishing:
      if (!result.status.ok()) {
        return FailJoin(absl::StrCat("could not be finished: ", result.status.message()));
      }
      join_->stage = Join::Stage::kJoint;
      Find(join_->target)->joint = true;
      return;
    case Join::Stage::kConnecting:
    case Join::Stage::kJoint:
      return;
  }
}

void Engine::State::JoinSealed(TargetId who, JoinStepResult& result) {
  if (!result.status.ok()) {
    if (StatusToErrno(result.status) == ESTALE) return Fence(std::string(result.status.message()));
    Target& asked = *Find(who);
    const bool away = who == join_->target && absl::IsUnavailable(result.status);
    FailJoin(absl::StrCat(asked.config.replica, " could not be asked what it has: ",
                          result.status.message()));
    StepFailed(asked, result.status);
    // To ask again is one call, and once it is there it need not wait for long.
    if (away) {
      asked.join_delay = options_.join_delay;
      asked.join_not_before = now_ + asked.join_delay;
    }
    return;
  }
  const bool of_joiner = who == join_->target;
  if (result.sealed.lanes.size() != lanes_.size()) return FailJoin("it has other lanes");
  if (of_joiner && !result.sealed.flush_supported) return FailJoin("it cannot flush");
  (of_joiner ? join_->joiner : join_->member) = std::move(result.sealed);
  if (join_->awaited.empty()) CompareLanes();
}

// Chooses R: what every member has, no less than what the joiner has of this epoch already, and all that is kept no more: of what is held
// below min_in_sync that may be beyond `completed`.
void Engine::State::CompareLanes() {
  Target& joiner = *Find(join_->target);
  const Target& source = *Find(join_->source);
  if (!source.readable()) return FailJoin("its source has gone away");
  join_->stage = Join::Stage::kComparing;
  for (uint32_t i = 0; i < lanes_.size(); ++i) {
    Lane& lane = lanes_[i];
    Join::LanePlan& plan = join_->lanes[i];
    const SealedState::Lane& has = join_->joiner->lanes[i];
    uint64_t to = std::max(lane.completed, lane.trimmed());
    if (has.position.epoch() > options_.epoch) return Fence("a replica is in a newer epoch");
    if (has.position.epoch() == options_.epoch) to = std::max(to, has.position.n());
    if (to > lane.last()) return FailJoin("it has what nobody wrote");
    if (lane.cursor(source.id).applied < to) return FailJoin("its source has to catch up first");
    plan.to = Position(options_.epoch, to);
    plan.common = NewestCommon(join_->member->lanes[i], has);
    // Above the member's own end when that was sealed; the writes since are this engine's.
    if (has.position.epoch() == options_.epoch) plan.common = has.position;
    plan.everything = !plan.common.has_value();
    // From here on the replay buffer keeps what the joiner lacks.
    lane.cursor(joiner.id) = Cursor{.sent = to, .applied = to, .durable = to};
  }
  joiner.joining = true;
  for (uint32_t i = 0; i < lanes_.size(); ++i) {
    const Join::LanePlan& plan = join_->lanes[i];
    if (plan.everything || *plan.common == plan.to) continue;
    RunJoinStep ask;
    ask.kind = RunJoinStep::Kind::kChanges;
    ask.target = source.id;
    ask.incarnation = join_->member->incarnation;
    ask.lane = LaneId{i};
    ask.common = *plan.common;
    ask.to = plan.to;
    RunStep(std::move(ask));
  }
  if (join_->awaited.empty()) BeginLanes();
}

void Engine::State::LaneCompared(uint32_t lane, JoinStepResult& result) {
  Join::LanePlan& plan = join_->lanes[lane];
  if (absl::IsOutOfRange(result.status)) {
    plan.everything = true;
  } else if (!result.status.ok()) {
    return FailJoin(absl::StrCat("what has changed could not be told: ", result.status.message()));
  }
  plan.changes = std::move(result.changes);
  if (join_->awaited.empty()) BeginLanes();
}

void Engine::State::BeginLanes() {
  join_->stage = Join::Stage::kBeginning;
  join_->version = updates_;
  for (uint32_t i = 0; i < lanes_.size(); ++i) BeginLane(i);
}

void Engine::State::BeginLane(uint32_t lane) {
  Join::LanePlan& plan = join_->lanes[lane];
  RunJoinStep begin;
  begin.kind = RunJoinStep::Kind::kBegin;
  begin.target = join_->target;
  begin.incarnation = join_->joiner->incarnation;
  begin.lane = LaneId{lane};
  begin.expected = join_->joiner->lanes[lane].position;
  begin.to = plan.to;
  begin.lineage = join_->member->lanes[lane].lineage;
  begin.everything = plan.everything;
  FillUpdate(begin);
  plan.blocks_expected = plan.everything ? BlocksOf(lane) : 0;
  if (!plan.everything) {
    for (const BlockRange& range : plan.changes) plan.blocks_expected += range.count;
    begin.common = *plan.common;
    begin.changes = plan.changes;
  }
  RunStep(std::move(begin));
}

uint64_t Engine::State::BlocksBelow(uint32_t lane, uint64_t block) const {
  const uint64_t stripe = options_.lanes.stripe_blocks;
  const uint64_t round = stripe * options_.lanes.lanes;
  const uint64_t in_last_round = block % round;
  const uint64_t before = lane * stripe;
  const uint64_t rest = in_last_round > before ? std::min(in_last_round - before, stripe) : 0;
  return block / round * stripe + rest;
}

void Engine::State::LaneBegun(uint32_t lane, const absl::Status& status) {
  Join::LanePlan& plan = join_->lanes[lane];
  if (absl::IsOutOfRange(status) && !plan.everything) {
    plan.everything = true;  // what it has changed itself is no longer known
    return BeginLane(lane);
  }
  if (!status.ok()) {
    return FailJoin(absl::StrCat("its history could not be replaced: ", status.message()));
  }
  if (join_->awaited.empty()) ConnectJoiner();
}

void Engine::State::ConnectJoiner() {
  Target& joiner = *Find(join_->target);
  join_->stage = Join::Stage::kConnecting;
  joiner.health = Target::Health::kConnecting;
  joiner.since = joiner.asked_to_connect = now_;
  joiner.reason.clear();
  joiner.updated = join_->version;
  joiner.update_step = 0;
  joiner.update_not_before = now_;
  Emit(ConnectTarget{joiner.id, joiner.config, absl::ZeroDuration()});
}

void Engine::State::JoinerConnected(const TargetHello& hello) {
  if (hello.incarnation != join_->joiner->incarnation) {
    return FailJoin("it was started anew meanwhile");
  }
  join_->stage = Join::Stage::kCopying;
  join_->flushed = join_->copied = now_;
  CopyNext(absl::ZeroDuration());
}

void Engine::State::Copied(const Join::Awaited& of, const JoinStepResult& result) {
  if (!result.status.ok()) {
    const std::string why = absl::StrCat("blocks could not be copied: ", result.status.message());
    if (StatusToErrno(result.status) != EBADMSG) return FailJoin(why);
    // One of them is damaged: so one by one from here on, to know of which block that is said.
    if (join_->one_by_one == 0) {
      join_->one_by_one = std::max<uint64_t>(options_.join_step_bytes / kBlockBytes, 1);
      return CopyNext(absl::ZeroDuration());
    }
    // A client may have written it meanwhile, and then it is another one's turn.
    if (std::exchange(join_->damaged_block, result.first_block) != result.first_block) {
      join_->damaged_on = 0;
      join_->lost = Join::Lost::kNone;
    }
    // Another member has it well, perhaps.
    join_->damaged_on |= Bit(of.source);
    if (ChooseSource(join_->damaged_on) != nullptr) return CopyNext(absl::ZeroDuration());
    if (join_->lost != Join::Lost::kNewest && NobodyElseHasIt(join_->damaged_on)) {
      join_->lost = join_->lost == Join::Lost::kNone ? Join::Lost::kOlder : Join::Lost::kNewest;
      join_->damaged_on = 0;
      return CopyNext(absl::ZeroDuration());
    }
    return FailJoin(why);
  }
  join_->one_by_one -= std::min<uint64_t>(join_->one_by_one, 1);
  join_->damaged_on = 0;
  join_->lost = Join::Lost::kNone;
  Find(join_->target)->lost_versions += result.versions_lost;
  Join::LanePlan& plan = join_->lanes[of.lane];
  NoteCopied(plan, result);
  if (result.whole_at.epoch() == options_.epoch) {
    plan.whole_at = std::max(plan.whole_at, result.whole_at.n());
  }
  CopyNext(ClientsAreThere() ? RestBesideClients(result.bytes_copied) : absl::ZeroDuration());
}

// A member has no better copy by failing to get one: a block that is damaged on all of them is lost, and the others are to have
// as many copies as before. One that is away may have it well, and is waited for as long as anything is: then until it is back.
bool Engine::State::NobodyElseHasIt(uint64_t damaged_on) const {
  return damaged_on != 0 && std::all_of(targets_.begin(), targets_.end(), [&](const Target& target) {
    const bool comes = target.counts() && (!target.condemned() || target.unchecked);
    return !target.member() || !comes || (damaged_on & Bit(target.id)) != 0;
  });
}

bool Engine::State::ClientsAreThere() const {
  return join_->clients_came || !ops_.empty() || !queue_.empty();
}

absl::Duration Engine::State::RestBesideClients(uint64_t bytes_copied) const {
  const absl::Duration worked = now_ - join_->step_begun;
  const absl::Duration rest = std::min(worked, kRestMax);
  if (options_.join_bytes_per_second == 0) return rest;
  const absl::Duration worth =
      absl::Seconds(static_cast<double>(bytes_copied) /
                    static_cast<double>(options_.join_bytes_per_second));
  return std::max(rest, worth - worked);
}

// For whoever asks how long it will take.
void Engine::State::NoteCopied(Join::LanePlan& plan, const JoinStepResult& result) {
  const absl::Duration passed = now_ - join_->copied;
  join_->copied = now_;
  join_->bytes_copied += result.bytes_copied;
  const uint64_t left_before = plan.blocks_left.value_or(0);
  if (result.blocks_left < left_before && passed > absl::ZeroDuration()) {
    const double rate =
        static_cast<double>(left_before - result.blocks_left) / absl::ToDoubleSeconds(passed);
    const double weight = join_->blocks_per_second == 0
                              ? 1.0
                              : std::min(1.0, absl::FDivDuration(passed, kRateMemory));
    join_->blocks_per_second += weight * (rate - join_->blocks_per_second);
  }
  plan.blocks_left = result.blocks_left;
}

void Engine::State::CopyNext(absl::Duration delay) {
  const Target* source = ChooseSource(join_->damaged_on);
  for (uint32_t i = 0; i < lanes_.size(); ++i) {
    const Join::LanePlan& plan = join_->lanes[i];
    if (plan.blocks_left && *plan.blocks_left == 0) continue;
    if (source == nullptr) return FailJoin("its source has gone away");
    RunJoinStep copy;
    copy.kind = RunJoinStep::Kind::kCopy;
    copy.target = join_->target;
    copy.incarnation = join_->joiner->incarnation;
    copy.source = source->id;
    copy.source_incarnation = source->hello.incarnation;
    copy.lane = LaneId{i};
    copy.to = plan.to;
    copy.lost_too = join_->lost != Join::Lost::kNone;
    copy.newest_too = join_->lost == Join::Lost::kNewest;
    if (copy.lost_too) copy.changes = {{join_->damaged_block, 1}};
    copy.bytes_max = join_->one_by_one > 0 ? kBlockBytes
                     : ClientsAreThere()   ? options_.join_step_bytes_beside_clients
                                           : options_.join_step_bytes;
    copy.delay = delay;
    return RunStep(std::move(copy));
  }
  join_->stage = Join::Stage::kFinishing;
  RunJoinStep finish;
  finish.kind = RunJoinStep::Kind::kFinish;
  finish.target = join_->target;
  finish.incarnation = join_->joiner->incarnation;
  RunStep(std::move(finish));
}

// What is kept for it is bounded, and clients wait at the bound.
bool Engine::State::HoldsUpClients(const Target& joiner) const {
  if (!joiner.joining || replay_bytes_ < options_.replay_bytes_max) return false;
  return std::any_of(lanes_.begin(), lanes_.end(), [&](const Lane& lane) {
    return lane.cursor(joiner.id).durable == lane.trimmed() && lane.trimmed() < lane.synced;
  });
}

// Apart from the volume's flushes, which do not wait for it before it is joint; so that the replay
// buffer can let go.
bool Engine::State::FlushJoiner() {
  Target& joiner = *Find(join_->target);
  if (!joiner.joining || !joiner.connected() || now_ < joiner.backoff_until || !MayGoOnSending()) {
    return false;
  }
  const bool tail = std::any_of(lanes_.begin(), lanes_.end(), [&](const Lane& lane) {
    return lane.cursor(joiner.id).durable < lane.cursor(joiner.id).applied;
  });
  const bool due = now_ - join_->flushed >= options_.flush_interval ||
                   (replay_bytes_ >= options_.flush_bytes && tail) || join_->promote_at;
  if (FlushInFlight(joiner) || !due || (!tail && !join_->promote_at)) return false;
  if (now_ - join_->flushed < options_.requeue_delay) return false;
  join_->flushed = now_;
  for (uint32_t nr = 0; nr < joiner.hello.num_flush_requests; ++nr) SendFlush(joiner, nr, kNoRun);
  return true;
}

// Once it has synced what was acknowledged when it became joint, the catalog is asked. From the
// question on it is a member of which it is in doubt whether it is one: it is needed, and not read.
bool Engine::State::Promote() {
  if (join_->stage != Join::Stage::kJoint || change_ || now_ < change_not_before_) return false;
  Target& joiner = *Find(join_->target);
  if (!joiner.connected() || joiner.updated < updates_) return false;
  if (!join_->promote_at) {
    if (FlushInFlight(joiner)) return false;  // it was sent before the last block was copied
    std::vector<uint64_t> at;
    for (uint32_t i = 0; i < lanes_.size(); ++i) {
      at.push_back(std::max({lanes_[i].completed, join_->lanes[i].whole_at, join_->lanes[i].to.n()}));
    }
    join_->promote_at = std::move(at);
    join_->synced.assign(joiner.hello.num_flush_requests, false);
    return true;
  }
  for (uint32_t i = 0; i < lanes_.size(); ++i) {
    if (lanes_[i].cursor(joiner.id).durable < (*join_->promote_at)[i]) return false;
  }
  if (!std::all_of(join_->synced.begin(), join_->synced.end(), [](bool b) { return b; })) {
    return false;
  }
  joiner.joining = joiner.joint = false;
  joiner.in_doubt = true;
  joiner.config.state = TargetState::kInSync;
  joiner.config.boot_id = join_->joiner->boot_id;
  joiner.join_delay = absl::ZeroDuration();
  join_.reset();
  Commit(TableNow());
  return true;
}

void Engine::State::FailJoin(std::string reason) {
  Target& joiner = *Find(join_->target);
  join_.reset();
  const bool had_session = joiner.health != Target::Health::kOut;
  joiner.joining = joiner.joint = false;
  if (had_session) {
    DropSession(joiner);
    Emit(DisconnectTarget{joiner.id, reason});
  }
  if (run_) run_->TargetLeft(joiner.id);
  joiner.health = Target::Health::kOut;
  joiner.since = now_;
  joiner.reason = std::move(reason);
  joiner.join_delay = std::clamp(joiner.join_delay * 2, options_.join_delay, options_.join_delay_max);
  joiner.join_not_before = now_ + joiner.join_delay;
  AdvanceAllLanes();
  TrimReplay();
}

bool Engine::State::JoinerFlushed(Target& joiner, uint32_t flush_nr, CloneReply& reply) {
  if (reply.result.kind() == Result::Kind::kRequeue) return true;
  if (!reply.result.ok()) {
    FailJoin(absl::StrCat("failed a flush: ", reply.message));
    return false;
  }
  NoteDurable(joiner, reply);
  if (flush_nr < join_->synced.size()) join_->synced[flush_nr] = true;
  TrimReplay();
  // What it has synced since it was told last: nobody may flush again.
  if (!FlushInFlight(joiner)) TellDurablePoints(joiner);
  return true;
}

// For each lane what the member that left first may come back with. A lane of an earlier epoch
// keeps all there is.
std::vector<std::pair<LaneId, Position>> Engine::State::KeepAfter() const {
  std::vector<std::pair<LaneId, Position>> keep;
  for (uint32_t i = 0; i < lanes_.size(); ++i) {
    std::optional<Position> after;
    for (const Target& target : targets_) {
      const bool absent = !target.member() && !target.config.stays_out;
      if (!absent || target.config.left_at.size() != lanes_.size()) continue;
      const Position at = target.config.left_at[i];
      const bool of_this_epoch = at.epoch() == options_.epoch;
      const uint64_t written = of_this_epoch ? lanes_[i].last() - at.n() : lanes_[i].last();
      if (written > options_.keep_changes_max / lanes_.size()) continue;
      if (!after || at < *after) after = at;
    }
    if (after) keep.emplace_back(LaneId{i}, *after);
  }
  return keep;
}

}  // namespace weir::engine
