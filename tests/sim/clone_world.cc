#include "tests/sim/clone_world.h"

#include <algorithm>
#include <cstring>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "proto/base/check.h"

namespace weir::sim {
namespace {

using engine::RequestKind;

constexpr uint64_t kRequestBlocksMax = 6;
constexpr uint64_t kRequestsMax = 1 << 28;  // of a parent's clients
constexpr uint32_t kReplicas = 2;
constexpr uint32_t kFrontends = 2;
constexpr const char* kNames[] = {"base", "parent", "clone"};
// Of a snapshot: a clone may have more.
constexpr uint64_t kBlocksMin = 24;
constexpr absl::Duration kHealedWithin = absl::Seconds(60);
// A volume whose last good copy was silent for its hold deadline has failed until it is attached anew, as people then do.
constexpr absl::Duration kAttachedAnewAfter = absl::Seconds(20);

Payload DataOf(uint64_t request, BlockRange range) {
  std::string data(range.count * kBlockBytes, '\0');
  for (uint64_t i = 0; i < range.count; ++i) {
    const uint64_t stamp = StampOf(request, range.first + i);
    std::memcpy(data.data() + i * kBlockBytes, &stamp, sizeof stamp);
  }
  return Payload::CopyOf(std::move(data));
}

engine::Request WriteOf(uint64_t id, BlockRange range) {
  engine::Request request;
  request.id = engine::RequestId{id};
  request.kind = RequestKind::kWrite;
  request.range = range;
  request.data = DataOf(id, range);
  request.crcs.assign(range.count, 0);
  return request;
}

}  // namespace

void CloneWorldResult::Add(const CloneWorldResult& other) {
  requests_ok += other.requests_ok;
  requests_failed += other.requests_failed;
  fallen_through += other.fallen_through;
  held_for_parents += other.held_for_parents;
  copied += other.copied;
  cut_short += other.cut_short;
  refused += other.refused;
  clones += other.clones;
  flattened += other.flattened;
  deleted += other.deleted;
  snapshots += other.snapshots;
  lines_of_three += other.lines_of_three;
  steps += other.steps;
}

CloneWorld::CloneWorld(uint64_t seed, CloneWorldOptions options)
    : seed_(seed), options_(options), dice_(seed) {
  DrawEngine();
  line_ = dice_.Percent(40) ? std::vector<Which>{kBase, kParent, kClone} : std::vector<Which>{kParent, kClone};
  result_.lines_of_three = line_.size() == 3 ? 1 : 0;
  flattens_ = dice_.Percent(75);
  for (const Which which : line_) MakeSide(which);
  Side& side = sides_[first()];
  side.record.volume.emplace().set_state(v1::VolumeRecord::DETACHED);
  side.record.volume->set_name(side.name);
  side.made = side.watched = true;
  faults_left_ = options_.faults;
}

CloneWorld::~CloneWorld() = default;

void CloneWorld::DrawEngine() {
  lanes_.lanes = 1 + dice_.Below(3);
  lanes_.stripe_blocks = 2 + dice_.Below(3);
  engine::Options& engine = engine_options_;
  engine.lanes = lanes_;
  engine.size_blocks = 1;  // of the record, in the end
  engine.leave_after = absl::Milliseconds(200);
  engine.hold_deadline = absl::Seconds(3);
  engine.commit_retry_delay = absl::Milliseconds(50);
  engine.lease = absl::Milliseconds(500);
  engine.join_delay = absl::Milliseconds(50);
  engine.join_delay_max = absl::Milliseconds(500);
  engine.join_step_bytes = 4 * kBlockBytes;
  engine.join_step_bytes_beside_clients = kBlockBytes;
  engine.reconnect_delay = absl::Milliseconds(50);
  engine.requeue_deadline = absl::Seconds(1);
  engine.clone_deadline = absl::Milliseconds(300);
  engine.flush_interval = absl::Milliseconds(dice_.Percent(50) ? 200 : 20000);
  engine.epoch = 1;
  CHECK_OK(engine.Validate());
}

void CloneWorld::MakeSide(Which which) {
  Side& side = sides_[which];
  side.name = kNames[which];
  side.blocks = which == first()    ? kBlocksMin + dice_.Below(41)
                : dice_.Percent(30) ? sides_[ParentOf(which)].blocks + dice_.Below(8)
                                    : sides_[ParentOf(which)].blocks;
  const store::VolumeGeometry geometry{.size_blocks = side.blocks, .lanes = lanes_};
  CatalogRecord record;
  record.volume.size_blocks = geometry.size_blocks;
  for (uint32_t r = 0; r < kReplicas; ++r) {
    side.replicas.push_back(std::make_unique<ReplicaNode>(r, static_cast<uint32_t>(1 + dice_.Below(2)),
                                                          uint64_t{256} << 10, geometry, MakeModelStore));
    record.volume.members.push_back({.replica = side.replicas.back()->name(),
                                     .store_id = side.replicas.back()->store().identity().store_id});
  }
  side.network = std::make_unique<Network>(&agenda_, &dice_, &side.replicas);
  side.network->set_slow_per_mille(dice_.Percent(20) ? 20 : 0);
  side.network->set_duplicate_per_mille(dice_.Percent(20) ? 100 : 0);
  side.catalog = std::make_unique<CatalogModel>(
      &agenda_, &dice_, std::move(record), [this, which](const CatalogRecord& applied) {
        WriteAsKnown(which, applied.volume.epoch);
        CheckRecords();
        if (which != kClone || applied.volume.recovering || applied.volume.epoch == active_epoch_) return;
        active_epoch_ = applied.volume.epoch;
        judge_->clients().Activated(SessionId{active_epoch_},
                                    /*resumed=*/applied.volume.intact_since < active_epoch_);
      });
  MakeFrontends(which);
}

uint32_t CloneWorld::AsAsker(Which asker, Which asked, uint32_t frontend) {
  return kFrontends * static_cast<uint32_t>(asker - asked) + frontend;
}

void CloneWorld::MakeFrontends(Which which) {
  Side& side = sides_[which];
  Frontend::Parts parts;
  parts.agenda = &agenda_;
  parts.dice = &dice_;
  parts.network = side.network.get();
  parts.catalog = side.catalog.get();
  parts.copies = &side.copies;
  parts.engine = engine_options_;
  side.lives.assign(kFrontends, 0);
  side.busy.assign(kFrontends, false);
  side.attached.resize(kFrontends);
  for (uint32_t f = 0; f < kFrontends; ++f) {
    if (options_.trace) {
      parts.trace = [this, name = side.name](const std::string& line) { Trace(absl::StrCat(name, " ", line)); };
    }
    if (which != first()) parts.overlay = [this, which] { return sides_[which].record.volume->has_parent(); };
    const auto process = [this, which, f] {
      const Side& at = sides_[which];
      return Process{which, f, at.lives[f], at.frontends[f]->epoch()};
    };
    Frontend::Events events;
    events.serving = [this, which, f] { Serves(which, f); };
    events.refused = [](const absl::Status&) {};
    events.completed = [this, process](engine::CompleteRequest& done) { Completed(process(), done); };
    events.control = [this, process](const engine::CompleteControl& done) { ControlDone(process(), done); };
    events.resumes = [] {};
    events.stepped = [this](const engine::Effects& effects) {
      for (const engine::Effect& effect : effects) {
        result_.trace_hash = result_.trace_hash * 1099511628211u + effect.index() + 1;
        const auto* send = std::get_if<engine::SendClone>(&effect);
        if (send != nullptr) result_.trace_hash = result_.trace_hash * 31 + send->clone.position.bits();
      }
    };
    side.frontends.push_back(std::make_unique<Frontend>(f, parts, std::move(events)));
  }
}

void CloneWorld::Trace(const std::string& line) {
  if (options_.trace) trace_.push_back(absl::StrCat(absl::FormatDuration(agenda_.now()), " ", line));
}

void CloneWorld::Violated(std::string what) {
  if (result_.violation.empty()) result_.violation = std::move(what);
}

CloneWorldResult CloneWorld::Run() {
  heal_at_ = agenda_.now() + dice_.Micros(3000000, 8000000);
  for (const Which which : line_) {
    AttachSome(which);
    if (which == kClone) break;
    agenda_.After(dice_.Micros(0, 1000000), [this, which] { CloneSome(which); });
    agenda_.After(dice_.Micros(0, 1000000), [this, which] { DeleteSome(which); });
    if (flattens_) agenda_.After(dice_.Micros(0, 4000000), [this, which] { FlattenSome(CloneOf(which)); });
  }
  if (dice_.Percent(60)) agenda_.After(dice_.Micros(0, 1000000), [this] { SnapshotCloneSome(); });
  agenda_.After(dice_.Micros(0, 300000), [this] { FaultSome(); });
  agenda_.At(heal_at_, [this] { Heal(); });
  while (result_.violation.empty() && !Finished()) {
    if (agenda_.next() > heal_at_ + kHealedWithin) {
      Violated(absl::StrCat("long after the last fault it is not over: ", awaited_));
      break;
    }
    agenda_.RunNext();
    ++result_.steps;
    if (judge_ != nullptr && result_.violation.empty()) result_.violation = judge_->violation();
  }
  return result_;
}

// --- frontends ---

bool CloneWorld::Alive(const Process& process) {
  return SideOf(process).lives[process.frontend] == process.life && FrontendOf(process).healthy() &&
         FrontendOf(process).epoch() == process.epoch;
}

std::optional<CloneWorld::Process> CloneWorld::Serving(Which which) {
  Side& side = sides_[which];
  for (uint32_t f = 0; f < kFrontends; ++f) {
    const Process process{which, f, side.lives[f], side.frontends[f]->epoch()};
    if (Alive(process) && process.epoch == side.catalog->record().volume.epoch) return process;
  }
  return std::nullopt;
}

void CloneWorld::AttachSome(Which which) {
  Side& side = sides_[which];
  agenda_.After(dice_.Micros(50000, 400000), [this, which] { AttachSome(which); });
  if (!side.watched || Serving(which)) return;
  if (std::any_of(side.frontends.begin(), side.frontends.end(), [](const auto& f) { return f->attaching(); })) return;
  const auto f = static_cast<uint32_t>(dice_.Below(kFrontends));
  Crash(which, f);
  side.frontends[f]->Attach();
}

void CloneWorld::Crash(Which which, uint32_t frontend) {
  Side& side = sides_[which];
  Trace(absl::StrCat(side.name, " f", frontend, " ends"));
  ++side.lives[frontend];
  side.busy[frontend] = false;
  side.attached[frontend] = Attached();
  side.frontends[frontend]->Crash();
  if (side.taking && side.taking->at.frontend == frontend) side.taking.reset();
  if (!side.flattening || side.flattening->at.frontend != frontend) return;
  side.flattening.reset();
  ++result_.cut_short;
}

void CloneWorld::Serves(Which which, uint32_t frontend) {
  Side& side = sides_[which];
  const Process process{which, frontend, side.lives[frontend], side.frontends[frontend]->epoch()};
  const v1::VolumeRecord& record = *side.record.volume;
  const std::optional<std::vector<Level>> line = LineOf(record.parent());
  if (!line) return Violated(absl::StrCat("K2: the ", side.name, " is attached, and one that it reads from is gone"));
  side.attached[frontend] = {.epoch = process.epoch, .seen = record, .parent = record.parent(), .line = *line,
                             .reads_parent = record.has_parent()};
  if (which != kClone) return agenda_.After(dice_.Micros(0, 5000), [this, process] { WriteToParent(process); });
  agenda_.After(dice_.Micros(0, 5000), [this, process] { SubmitSome(process); });
}

void CloneWorld::ControlDone(const Process& process, const engine::CompleteControl& done) {
  if (SnapshotDone(process, done)) return;
  std::optional<Flattening>& flattening = SideOf(process).flattening;
  const auto id = static_cast<uint64_t>(done.id);
  if (!flattening || id != flattening->awaited || flattening->step.act != engine::Flatten::Act::kLock) return;
  const absl::Status status =
      done.result.ok() ? absl::OkStatus() : absl::UnavailableError(absl::StrCat("lock: ", done.message));
  flattening->locked = status.ok();
  // Not at once: the engine is still at work on what has brought this.
  agenda_.After(absl::ZeroDuration(), [this, which = process.side, id, status] {
    if (sides_[which].flattening && sides_[which].flattening->awaited == id) FlattenDid(which, status);
  });
}

// --- clients ---

// It goes on as long as the world does: what it writes now no clone may ever show.
void CloneWorld::WriteToParent(const Process& process) {
  if (!Alive(process)) return;
  Side& side = SideOf(process);
  const uint64_t first = dice_.Below(side.blocks);
  const BlockRange range{first, 1 + dice_.Below(std::min(kRequestBlocksMax, side.blocks - first))};
  engine::Request request = WriteOf(kOfParent + process.side * kRequestsMax + ++side.requests, range);
  if (dice_.Percent(25)) {
    request.kind = dice_.Percent(50) ? RequestKind::kDiscard : RequestKind::kFlush;
    request.data = Payload();
    request.crcs.clear();
    if (request.kind == RequestKind::kFlush) request.range = BlockRange();
  }
  FrontendOf(process).Submit(std::move(request));
  agenda_.After(dice_.Micros(0, 60000), [this, process] { WriteToParent(process); });
}

void CloneWorld::SubmitSome(const Process& process) {
  if (!Alive(process)) return;
  for (uint64_t burst = 1 + dice_.Below(6); burst > 0; --burst) SubmitOne(process);
  if (submitted_ >= options_.requests) return;
  agenda_.After(dice_.Percent(10) ? dice_.Micros(0, 800000) : dice_.Micros(0, 60000),
                [this, process] { SubmitSome(process); });
}

void CloneWorld::SubmitOne(const Process& process) {
  static constexpr RequestKind kKinds[] = {
      RequestKind::kWrite, RequestKind::kWrite, RequestKind::kRead,        RequestKind::kRead,   RequestKind::kRead,
      RequestKind::kRead,  RequestKind::kFlush, RequestKind::kWriteZeroes, RequestKind::kDiscard, RequestKind::kBarrier};
  if (submitted_ >= options_.requests) return;
  ++submitted_;
  const uint64_t id = next_op_++;
  const uint64_t blocks = SideOf(process).blocks;
  const uint64_t first = dice_.Below(blocks);
  engine::Request request =
      WriteOf(id, {first, 1 + dice_.Below(std::min(kRequestBlocksMax, blocks - first))});
  request.kind = kKinds[dice_.Below(std::size(kKinds))];
  request.fua = request.kind == RequestKind::kWrite && dice_.Percent(15);
  if (request.kind != RequestKind::kWrite && request.kind != RequestKind::kBarrier) {
    request.data = Payload();
    request.crcs.clear();
  }
  if (request.kind == RequestKind::kFlush) request.range = BlockRange();
  Invoke(request, process);
  FrontendOf(process).Submit(std::move(request));
}

void CloneWorld::Invoke(const engine::Request& request, const Process& process) {
  const auto id = static_cast<uint64_t>(request.id);
  const OpId op{id};
  const SessionId session{process.epoch};
  ops_[id] = {.kind = request.kind, .range = request.range, .at = process,
              .falls_through = request.kind == RequestKind::kRead && AttachedOf(process).reads_parent,
              .submitted = agenda_.now()};
  ContractJudge& judge = judge_->clients();
  if (request.kind == RequestKind::kRead) return judge.ReadInvoked(op, session, request.range);
  if (request.kind == RequestKind::kFlush) return judge.FlushInvoked(op, session);
  if (request.kind == RequestKind::kBarrier) return judge.BarrierInvoked(op, session, request.range, id);
  judge.WriteInvoked(op, session, request.range, request.kind == RequestKind::kWrite ? id : 0, request.fua);
}

void CloneWorld::Completed(const Process& process, engine::CompleteRequest& done) {
  const auto id = static_cast<uint64_t>(done.id);
  const std::optional<Flattening>& flattening = SideOf(process).flattening;
  if (flattening && id == flattening->awaited) return FlattenWrote(process.side, done);
  if (process.side != kClone) return;
  const auto op = ops_.find(id);
  if (op == ops_.end()) return;  // of a flattening that was given up
  // As host/volume_runner_parent.cc.
  if (op->second.falls_through && done.result.ok() && !done.absent.empty()) {
    return FillRead(process, id, std::move(done));
  }
  Returned(id, done);
}

void CloneWorld::Returned(uint64_t id, const engine::CompleteRequest& done) {
  Op& op = ops_.at(id);
  if (op.done) return Violated(absl::StrCat("request ", id, " was completed twice"));
  op.done = true;
  op.ok = done.result.ok();
  done.result.ok() ? ++result_.requests_ok : ++result_.requests_failed;
  if (!done.result.ok() || op.kind != RequestKind::kRead) {
    return judge_->clients().Returned(OpId{id}, {.ok = done.result.ok()}, {});
  }
  std::vector<uint64_t> values;
  for (const engine::ReadPart& part : done.parts) {
    for (uint64_t i = 0; i < part.blocks; ++i) {
      values.push_back(Shown(ValueOf(part.data.bytes(), i), op.range.first + values.size()));
    }
  }
  if (values.size() != op.range.count) return Violated("a read's parts do not cover its range");
  judge_->ReadReturned(OpId{id}, op.range, values);
}

// The request whose data `block` shows: as it wrote it there.
uint64_t CloneWorld::Shown(uint64_t stamp, uint64_t block) {
  if (stamp != 0 && BlockIn(stamp) != block) {
    Violated(absl::StrCat("block ", block, " of the clone shows what was written to block ", BlockIn(stamp)));
  }
  return RequestIn(stamp);
}

// --- faults and the end ---

void CloneWorld::FaultSome() {
  if (healed_ || faults_left_ == 0) return;
  --faults_left_;
  Inject(line_[dice_.Below(line_.size())]);
  agenda_.After(dice_.Micros(1000, 900000), [this] { FaultSome(); });
}

void CloneWorld::Inject(Which which) {
  Side& side = sides_[which];
  const auto r = static_cast<uint32_t>(dice_.Below(kReplicas));
  const auto f = static_cast<uint32_t>(dice_.Below(kFrontends));
  // Clones' frontends ask its replicas too.
  const uint32_t from = which != kClone && dice_.Percent(50) ? AsAsker(CloneOf(which), which, f) : f;
  const Time until = agenda_.now() + dice_.Micros(10000, 1500000);
  const uint64_t kind = dice_.Below(10);
  Trace(absl::StrCat("fault ", kind, " of the ", side.name, ", replica ", r, ", f", f));
  switch (kind) {
    case 0:
    case 1:
      return Down(which, r, /*power_cut=*/kind == 1);
    case 2:
      side.network->CutToReplica(from, r, until);
      return side.network->CutToFrontend(from, r, until);
    case 3:
      return side.network->CutToFrontend(from, r, until);
    case 4:
      side.replicas[r]->faults().requeue_per_mille = 300;
      side.replicas[r]->faults().drop_per_mille = dice_.Percent(50) ? 100 : 0;
      return agenda_.At(until, [this, which, r] { sides_[which].replicas[r]->faults() = ReplicaFaults(); });
    case 5:
      return side.catalog->set_loss_percent(dice_.Below(40));
    case 6:
      side.network->set_replica_delay(r, dice_.Micros(1000, 200000));
      return agenda_.At(until,
                        [this, which, r] { sides_[which].network->set_replica_delay(r, absl::ZeroDuration()); });
    case 7:
      for (const auto& replica : side.replicas) replica->disk().Reclaim(dice_);
      return;
    case 8:  // it is attached elsewhere while the other one thinks it serves
      if (!side.watched || side.frontends[f]->serving() || side.frontends[f]->attaching()) return;
      return side.frontends[f]->Attach();
    default:
      if (side.watched) Crash(which, f);
  }
}

void CloneWorld::Down(Which which, uint32_t r, bool power_cut) {
  ReplicaNode& replica = *sides_[which].replicas[r];
  if (!replica.up()) return;
  sides_[which].network->ReplicaGone(r);
  power_cut ? replica.CutPower(dice_, agenda_.now()) : replica.Kill();
  agenda_.After(dice_.Micros(1000, 1500000), [this, which, r] { sides_[which].replicas[r]->Start(); });
}

void CloneWorld::Heal() {
  Trace("healed");
  healed_ = true;
  for (const Which which : line_) {
    Side& side = sides_[which];
    side.network->Heal();
    side.catalog->set_loss_percent(0);
    for (const auto& replica : side.replicas) {
      replica->faults() = ReplicaFaults();
      replica->Start();
    }
  }
  agenda_.After(kAttachedAnewAfter, [this] {
    for (const Which which : line_) {
      for (uint32_t f = 0; f < kFrontends; ++f) Crash(which, f);
    }
  });
}

// Once the clone is what it is to be, its clients have been answered and a read of all of it is right: if it was
// flattened with the parent gone for good.
bool CloneWorld::Finished() {
  const auto not_yet = [this](const char* what) {
    awaited_ = what;
    return false;
  };
  if (!healed_) return not_yet("faults");
  if (judge_ == nullptr) return not_yet("there is no clone");
  if (submitted_ < options_.requests) return not_yet("the clone's clients ask on");
  for (const Which which : line_) {
    if (!flattens_) break;
    if (sides_[which].record.volume->has_parent()) return not_yet("a clone is to be flattened");
    if (!sides_[which].record.volume->snapshots().empty()) return not_yet("a snapshot is to be deleted");
  }
  const std::optional<Process> serving = Serving(kClone);
  if (!serving) return not_yet("nobody serves the clone");
  for (const auto& [id, op] : ops_) {
    if (!op.done && Alive(op.at)) return not_yet("a request is not answered");
  }
  if (read_back_ && ops_.at(*read_back_).ok) {
    CheckSnapshots(/*readable=*/true);
    return true;
  }
  if (!read_back_ || ops_.at(*read_back_).done || !Alive(ops_.at(*read_back_).at)) ReadBack(*serving);
  return not_yet("the last read is not answered");
}

void CloneWorld::ReadBack(const Process& process) {
  for (const Which which : line_) {
    if (!flattens_ || which == kClone) break;
    for (uint32_t r = 0; r < kReplicas; ++r) {
      sides_[which].network->ReplicaGone(r);
      sides_[which].replicas[r]->Kill();
    }
    sides_[which].watched = false;
  }
  read_back_ = next_op_++;
  engine::Request request;
  request.id = engine::RequestId{*read_back_};
  request.range = {0, sides_[kClone].blocks};
  Invoke(request, process);
  FrontendOf(process).Submit(std::move(request));
}

// The pins are in the CatalogModel's part.
void CloneWorld::CheckRecords() {
  for (const Which which : line_) {
    const std::optional<v1::VolumeRecord>& record = sides_[which].record.volume;
    if (which == first() || !record) continue;
    const Side& parent = sides_[ParentOf(which)];
    if (!parent.record.volume) return;
    const std::string wrong = CheckParentIsThere(record, *parent.record.volume);
    if (!wrong.empty()) Violated(wrong);
    if (!sides_[which].made) return;
    const std::vector<Pin>& pins = parent.catalog->record().volume.pins;
    const auto check = [&](uint64_t needed, const char* who) {
      if (needed == 0 || std::any_of(pins.begin(), pins.end(), [needed](const Pin& pin) { return pin.id == needed; })) return;
      Violated(absl::StrCat("K2: pin ", needed, " of the ", parent.name, " is gone, and ", who, " reads from it"));
    };
    check(record->parent().pin(), "a clone");
    for (const v1::SnapshotRecord& snapshot : record->snapshots()) check(snapshot.parent().pin(), "a clone's snapshot");
  }
}

}  // namespace weir::sim
