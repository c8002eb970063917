#include "tests/sim/cluster.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>
#include <variant>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "proto/base/check.h"

namespace weir::sim {
namespace {

using engine::RequestKind;

constexpr uint64_t kRequestBlocksMax = 6;
constexpr uint64_t kRequestsMax = 4096;
constexpr size_t kEffectsMax = 2000;  // of one event; more is a loop
constexpr uint64_t kLookEvery = 256;  // steps, at the whole of all replicas
constexpr absl::Duration kHealedWithin = absl::Seconds(60);

// Block contents, one page a block so that slices look like real ones. Written anew by each run.
char* PagesOf(uint64_t request) {
  static thread_local std::vector<char> pages;
  pages.resize(kRequestsMax * kRequestBlocksMax * kBlockBytes);
  return pages.data() + request % kRequestsMax * kRequestBlocksMax * kBlockBytes;
}

Payload DataOf(uint64_t request, BlockRange range) {
  static const std::shared_ptr<const void> kOwner = std::make_shared<int>(0);
  char* data = PagesOf(request);
  for (uint64_t i = 0; i < range.count; ++i) {
    const uint64_t stamp = StampOf(request, range.first + i);
    std::memcpy(data + i * kBlockBytes, &stamp, sizeof stamp);
  }
  return Payload(kOwner, {data, range.count * kBlockBytes});
}

bool BringsData(RequestKind kind) {
  return kind == RequestKind::kWrite || kind == RequestKind::kBarrier;
}

bool Writes(RequestKind kind) {
  return BringsData(kind) || kind == RequestKind::kWriteZeroes || kind == RequestKind::kDiscard;
}

}  // namespace

Cluster::Cluster(uint64_t seed, ClusterOptions options)
    : seed_(seed), options_(options), dice_(seed), ops_(1) {
  CHECK_LT(options_.requests, kRequestsMax);
  DrawShape();
  MakeReplicas();
  history_ = WriteHistory(geometry_.size_blocks);
  told_.assign(geometry_.lanes.lanes, Position());
  network_ = std::make_unique<Network>(&agenda_, &dice_, &replicas_);
  network_->set_slow_per_mille(dice_.Percent(20) ? 20 : 0);
  network_->set_duplicate_per_mille(dice_.Percent(20) ? 100 : 0);
  CatalogRecord record;
  record.volume.size_blocks = first_size_;
  for (uint32_t r = 0; r < replicas_.size(); ++r) {
    // Where it has been put it has overwritten something.
    replicas_[r]->on_misdirected([this, r](BlockRange range) {
      Damage(r, range.first);
      Damage(r, dice_.Below(geometry_.size_blocks));
    });
    replicas_[r]->on_deleted([this, r] { CopyDeleted(r); });
  }
  for (size_t r = 0; r < members_at_first_; ++r) {
    record.volume.members.push_back(
        {.replica = replicas_[r]->name(), .store_id = replicas_[r]->store().identity().store_id});
  }
  judge_ = std::make_unique<ContractJudge>(geometry_.size_blocks,
                                           ContractJudge::Order::kSubmitted);
  MakeSnapshotJudge();
  catalog_ = std::make_unique<CatalogModel>(
      &agenda_, &dice_, std::move(record), [this](const CatalogRecord& applied) {
        if (options_.replaces) CheckFormer(std::exchange(last_record_, applied));
        if (catalog_->attributes_lost()) Violated("attributes of the record are put back as they were");
        if (old_catalog_) return;
        if (IsDeleted()) return CheckDeleted();
        if (keeps_records_) records_.push_back(applied.volume);
        if (std::exchange(was_restoring_, applied.restoring) != 0 && applied.restoring == 0) used_since_restore_ = false;
        if (!applied.volume.recovering && applied.volume.epoch != active_epoch_) {
          active_epoch_ = applied.volume.epoch;
          Trace(absl::StrCat("catalog: epoch ", active_epoch_, " is ACTIVE"));
          judge_->Activated(SessionId{active_epoch_},
                            /*resumed=*/applied.volume.intact_since < active_epoch_);
          last_acked_.assign(geometry_.lanes.lanes, LastAcked());
          flushed_.assign(geometry_.lanes.lanes, Position(active_epoch_, 0));
        }
        CheckMembers();
        CheckSnapshots();
      });
  MakeFrontends();
  copied_in_.assign(replicas_.size(), 0);
  put_back_.assign(replicas_.size(), false);
  restored_.assign(replicas_.size(), 0);
  faults_left_ = options_.script != nullptr ? options_.script->faults.size() : options_.faults;
}

Cluster::~Cluster() = default;

void Cluster::DrawShape() {
  geometry_.lanes.lanes = 1 + dice_.Below(3);
  geometry_.lanes.stripe_blocks = 2 + dice_.Below(3);
  geometry_.size_blocks = 16 + dice_.Below(24);
  first_size_ = geometry_.size_blocks - (dice_.Percent(50) ? dice_.Below(12) : 0);
  engine::Options& engine = engine_options_;
  engine.size_blocks = first_size_;
  engine.lanes = geometry_.lanes;
  engine.leave_after = absl::Milliseconds(200);
  // Shorter than most faults where replicas freeze and syncs hang.
  engine.hold_deadline = absl::Milliseconds(seed_ % 4 == 2 ? 700 : 3000);
  engine.commit_retry_delay = absl::Milliseconds(50);
  engine.lease = absl::Milliseconds(500);
  engine.join_delay = absl::Milliseconds(50);
  engine.join_delay_max = absl::Milliseconds(500);
  engine.join_step_bytes = (1 + dice_.Below(4)) * kBlockBytes;
  engine.join_step_bytes_beside_clients = (1 + dice_.Below(2)) * kBlockBytes;
  engine.keep_changes_max = dice_.Percent(80) ? 1 << 20 : 10;
  engine.reconnect_delay = absl::Milliseconds(50);
  engine.requeue_deadline = absl::Seconds(1);
  engine.clone_deadline = absl::Milliseconds(300);
  engine.flush_interval = absl::Milliseconds(dice_.Percent(50) ? 200 : 20000);
  engine.replay_bytes_max = (dice_.Percent(50) ? 4096 : 256) << 10;
  engine.flush_bytes = engine.replay_bytes_max / 3;
  engine.slow_window = absl::Milliseconds(dice_.Percent(50) ? 100 : 100000);
  engine.slow_windows = 1 + dice_.Below(2);
  engine.slow_floor = absl::Milliseconds(5);
  engine.slow_factor = 2;
  engine.slow_pause = absl::Milliseconds(50);
  engine.slow_pause_max = absl::Milliseconds(200);
  engine.epoch = 1;
  // In one cluster of three; the others are what they were without it. The mutation check judges liveness by odd seeds.
  const bool scrubs = seed_ % 3 == 0;
  engine.scrub_every = scrubs ? absl::Milliseconds(300) : absl::InfiniteDuration();
  engine.scrub_first_after = absl::Milliseconds(200);
  engine.scrub_bytes_per_second = seed_ % 9 == 0 ? 1 << 20 : 0;
  CHECK_OK(engine.Validate());
}

void Cluster::MakeReplicas() {
  const uint64_t inflight_bytes = (dice_.Percent(50) ? 256 : 24) << 10;
  const bool spare = options_.script != nullptr && options_.script->spare;
  uint32_t count = dice_.Percent(80) ? 3 : static_cast<uint32_t>(1 + dice_.Below(2));
  if (spare) count = 2;
  for (uint32_t i = 0; i < count; ++i) {
    replicas_.push_back(std::make_unique<ReplicaNode>(
        i, static_cast<uint32_t>(1 + dice_.Below(3)), inflight_bytes,
        store::VolumeGeometry{first_size_, geometry_.lanes}, options_.make_store));
  }
  members_at_first_ = count;
  engine_options_.min_in_sync = 1 + static_cast<uint32_t>(dice_.Below(count));
  if (spare) engine_options_.min_in_sync = count;
  Dice dice(seed_);
  if (options_.replaces) {
    replace_after_ = dice.Micros(300000, 1500000);
    for (uint64_t spares = 1 + dice.Below(2); spares > 0; --spares) {
      replicas_.push_back(std::make_unique<ReplicaNode>(static_cast<uint32_t>(replicas_.size()), static_cast<uint32_t>(1 + dice.Below(3)),
                                                        inflight_bytes, geometry_, options_.make_store));
      replicas_.back()->Empty();
    }
    agenda_.After(dice.Micros(0, 1000000), [this] { ReplaceSome(); });
    return;
  }
  if (!spare && seed_ % 5 != 1) return;
  drained_ = static_cast<uint32_t>(dice.Below(count));
  replicas_.push_back(std::make_unique<ReplicaNode>(
      count, static_cast<uint32_t>(1 + dice.Below(3)), inflight_bytes, geometry_, options_.make_store));
  agenda_.After(dice.Micros(0, spare ? 1000000 : 3000000), [this] { DrainSome(); });
}

void Cluster::MakeFrontends() {
  Frontend::Parts parts;
  parts.agenda = &agenda_;
  parts.dice = &dice_;
  parts.network = network_.get();
  parts.catalog = catalog_.get();
  parts.copies = &copies_;
  parts.engine = engine_options_;
  parts.forgets = options_.replaces;
  parts.give_up_after = absl::Milliseconds(dice_.Percent(50) ? 20 : 400);
  // Longer than any answer takes once all is well: nobody who can tell is given up.
  keeps_records_ = options_.survivable && !options_.deletes && !options_.replaces && seed_ % 7 == 3 && parts.give_up_after > absl::Milliseconds(100);
  if (options_.trace) parts.trace = [this](std::string line) { Trace(line); };
  for (uint32_t i = 0; i < 3; ++i) {
    Frontend::Events events;
    events.serving = [this, i] { Serving(i); };
    events.refused = [this](const absl::Status& why) { Refused(why); };
    events.completed = [this, i](engine::CompleteRequest& done) { Completed(i, done); };
    events.control = [this, i](const engine::CompleteControl& done) { ControlDone(i, done); };
    events.resumes = [this, i] { suspended_[i] = false; };
    events.deletes_leftover = [this, i] { CheckWhole(i); };
    events.stepped = [this, i](const engine::Effects& effects) { Stepped(i, effects); };
    frontends_.push_back(std::make_unique<Frontend>(i, parts, std::move(events)));
    frontends_.back()->set_clock_rate(1 + (static_cast<double>(dice_.Below(201)) - 100) / 1000);
  }
  acked_.assign(frontends_.size(), std::vector<Position>(geometry_.lanes.lanes));
  pumping_.assign(frontends_.size(), 0);
  wrote_.assign(frontends_.size(), Time());
  read_ = flushed_at_ = wrote_;
  suspended_.assign(frontends_.size(), false);
  restores_.resize(frontends_.size());
  attached_to_restore_.assign(frontends_.size(), false);
}

void Cluster::Trace(const std::string& line) {
  if (!options_.trace) return;
  trace_.push_back(absl::StrCat(absl::FormatDuration(agenda_.now()), " ", line));
}

void Cluster::Violated(std::string what) {
  if (result_.violation.empty()) result_.violation = std::move(what);
}

ClusterResult Cluster::Run() {
  heal_at_ = agenda_.now() + dice_.Micros(2000000, 6000000);
  AttachSome();
  agenda_.After(dice_.Micros(0, 300000), [this] { FaultSome(); });
  agenda_.After(dice_.Micros(0, 600000), [this] { SnapshotSome(); });
  if (options_.deletes) agenda_.After(dice_.Micros(0, 5000000), [this] { DeleteSome(); });
  for (uint32_t r = 0; r < replicas_.size(); ++r) {
    agenda_.After(dice_.Micros(0, 2000000), [this, r] { CopyDisk(r); });
  }
  agenda_.At(heal_at_, [this] { Heal(); });
  bool finished = false;
  while (result_.violation.empty() && !(finished = Finished())) {
    if (agenda_.empty()) {
      Violated("nothing is due and requests are open");
    } else if (agenda_.next() > heal_at_ + kHealedWithin) {
      // What is to be deleted needs nobody who is well.
      if (options_.survivable && (options_.deletes || CanBeWell())) {
        Violated(absl::StrCat("I8: long after the last fault the volume is not well: ", awaited_, " ", awaited_which_));
      }
      break;
    } else {
      agenda_.RunNext();
      if (++result_.steps % kLookEvery == 0) CheckReplicas();
    }
    if (result_.violation.empty()) result_.violation = judge_->violation();
  }
  CheckReplicas();
  if (finished && keeps_records_ && result_.violation.empty()) RestoreOldCatalog();
  return result_;
}

// As many stores are whole as the volume asks for, and one of them has all that was flushed.
bool Cluster::CanBeWell() const {
  uint32_t whole = 0;
  bool good = false;
  for (size_t i = 0; i < replicas_.size(); ++i) {
    if (!replicas_[i]->store().health().ok()) continue;
    ++whole;
    good |= IsMember(static_cast<uint32_t>(i));
  }
  return good && whole >= engine_options_.min_in_sync;
}

// --- frontends ---

bool Cluster::AnybodyServes() const {
  return std::any_of(frontends_.begin(), frontends_.end(), [this](const auto& f) {
    return (f->healthy() && f->epoch() == active_epoch_) || f->attaching();
  });
}

// Somebody watches over the volume, as an orchestrator does: if nobody serves it, it is
// attached somewhere.
void Cluster::AttachSome() {
  if (old_catalog_) return;
  if (healed_) EndHopelessSessions();
  if (!AnybodyServes()) {
    const uint32_t f = AnyFrontend();
    const bool restore = options_.restores && dice_.Percent(catalog_->record().restoring != 0 ? 50 : 10);
    restore ? AttachToRestore(f) : AttachAt(f);
  }
  agenda_.After(dice_.Micros(50000, 400000), [this] { AttachSome(); });
}

void Cluster::AttachAt(uint32_t frontend, bool restores) {
  ++result_.attaches;
  Trace(absl::StrCat("attach at f", frontend));
  if (frontends_[frontend]->serving() || frontends_[frontend]->attaching()) {
    frontends_[frontend]->Crash();
  }
  attached_to_restore_[frontend] = restores;
  frontends_[frontend]->Attach(restores);
}

void Cluster::Refused(const absl::Status& why) { refused_ = why; }

void Cluster::Serving(uint32_t frontend) {
  if (old_catalog_) Violated("an older catalog is served from, though a member by both knows better");
  if (IsDeleted()) Violated("D4: a volume that is being deleted is served");
  const Epoch epoch = frontends_[frontend]->epoch();
  const bool restores = attached_to_restore_[frontend];
  pumping_[frontend] = restores ? 0 : epoch;
  std::fill(acked_[frontend].begin(), acked_[frontend].end(), Position());
  suspended_[frontend] = false;
  restores_[frontend] = {};
  read_[frontend] = wrote_[frontend] = flushed_at_[frontend] = agenda_.now();
  asked_[frontend].clear();
  if (restores) return ServingToRestore(frontend);
  const bool marked = frontends_[frontend]->restoring() != 0;
  if (marked || half_restored_) Violated(marked ? "V3: what is to be restored is served" : "V3: half of a restore is served");
  agenda_.After(dice_.Micros(0, 5000), [this, frontend] { SubmitSome(frontend); });
}

// What the engine has done is looked at before it is carried out.
void Cluster::Stepped(uint32_t frontend, const engine::Effects& effects) {
  if (effects.size() > kEffectsMax) Violated("an event had no end of effects");
  for (const engine::Effect& effect : effects) {
    result_.trace_hash = result_.trace_hash * 1099511628211u + effect.index() + 1;
    if (const auto* send = std::get_if<engine::SendClone>(&effect)) {
      result_.trace_hash = result_.trace_hash * 31 + send->clone.position.bits();
      CheckSent(frontend, *send);
    } else if (const auto* points = std::get_if<engine::SendDurablePoints>(&effect)) {
      CheckPoints(frontend, *points);
    } else if (const auto* commit = std::get_if<engine::CommitMembers>(&effect)) {
      CheckCommit(frontend, *commit);
    } else if (const auto* end = std::get_if<engine::DisconnectTarget>(&effect)) {
      CheckDisconnect(frontend, *end);
    } else if (const auto* step = std::get_if<engine::RunJoinStep>(&effect)) {
      CheckLost(frontend, *step);
      DisturbJoin(frontend, *step);
    } else if (const auto* report = std::get_if<engine::ReportScrub>(&effect)) {
      CheckReport(frontend, *report);
    }
  }
  CheckErrorsCount(frontend);
}

// --- clients ---

void Cluster::SubmitSome(uint32_t frontend) {
  Frontend& at = *frontends_[frontend];
  if (!at.serving() || at.epoch() != pumping_[frontend]) return;
  for (uint64_t burst = 1 + dice_.Below(8); burst > 0; --burst) SubmitOne(frontend);
  if (submitted_ >= options_.requests) return;
  const absl::Duration pause =
      dice_.Percent(10) ? dice_.Micros(0, 800000) : dice_.Micros(0, 40000);
  agenda_.After(pause, [this, frontend] { SubmitSome(frontend); });
}

engine::Request Cluster::RandomRequest(uint64_t id, uint64_t size_blocks) {
  static constexpr RequestKind kKinds[] = {
      RequestKind::kWrite, RequestKind::kWrite,   RequestKind::kWrite,       RequestKind::kWrite,
      RequestKind::kRead,  RequestKind::kRead,    RequestKind::kRead,        RequestKind::kFlush,
      RequestKind::kFlush, RequestKind::kBarrier, RequestKind::kWriteZeroes, RequestKind::kDiscard,
      RequestKind::kRead,  RequestKind::kExtents};
  engine::Request request;
  request.id = engine::RequestId{id};
  request.kind = kKinds[dice_.Below(std::size(kKinds))];
  if (request.kind == RequestKind::kFlush) return request;
  request.range.first = dice_.Below(size_blocks);
  request.range.count =
      1 + dice_.Below(std::min<uint64_t>(kRequestBlocksMax, size_blocks - request.range.first));
  request.fua = Writes(request.kind) && dice_.Percent(15);
  if (BringsData(request.kind)) FillWrite(&request);
  return request;
}

void Cluster::FillWrite(engine::Request* request) {
  request->data = DataOf(static_cast<uint64_t>(request->id), request->range);
  request->crcs.assign(request->range.count, 0);
}

void Cluster::SubmitOne(uint32_t frontend) {
  if (submitted_ >= options_.requests) return;
  ++submitted_;
  engine::Request request = RandomRequest(ops_.size(), frontends_[frontend]->size_blocks());
  Invoke(request, frontend);
  frontends_[frontend]->Submit(std::move(request));
}

void Cluster::Invoke(const engine::Request& request, uint32_t frontend) {
  const auto id = static_cast<uint64_t>(request.id);
  Op op;
  op.kind = request.kind;
  op.range = request.range;
  op.frontend = frontend;
  op.epoch = frontends_[frontend]->epoch();
  op.invoked = agenda_.now();
  op.fua = request.fua;
  const OpId judged{id};
  const SessionId session{op.epoch};
  switch (request.kind) {
    case RequestKind::kRead:
      judge_->ReadInvoked(judged, session, request.range);
      break;
    case RequestKind::kFlush:
      op.covers = acked_[frontend];
      judge_->FlushInvoked(judged, session);
      break;
    case RequestKind::kBarrier:
      op.covers = acked_[frontend];
      judge_->BarrierInvoked(judged, session, request.range, id);
      break;
    case RequestKind::kExtents:
      break;
    case RequestKind::kWrite:
      judge_->WriteInvoked(judged, session, request.range, id, request.fua);
      break;
    case RequestKind::kWriteZeroes:
    case RequestKind::kDiscard:
      judge_->WriteInvoked(judged, session, request.range, 0, request.fua);
      break;
  }
  ops_.push_back(std::move(op));
}

// The request whose data `block` shows. C10: as it wrote it there.
uint64_t Cluster::Shown(uint64_t stamp, uint64_t block) {
  if (stamp != 0 && BlockIn(stamp) != block) {
    Violated(absl::StrCat("C10: block ", block, " shows what request ", RequestIn(stamp), " wrote to block ", BlockIn(stamp)));
  }
  return RequestIn(stamp);
}

void Cluster::Completed(uint32_t frontend, engine::CompleteRequest& done) {
  const auto id = static_cast<uint64_t>(done.id);
  if (id == 0 || id >= ops_.size()) return Violated(absl::StrCat("nobody submitted ", id));
  Op& op = ops_[id];
  if (op.done) return Violated(absl::StrCat("request ", id, " was completed twice"));
  op.done = true;
  done.result.ok() ? ++result_.requests_ok : ++result_.requests_failed;
  // Who was taken over, and does not know it yet, may answer a little longer; who was stopped meanwhile, what was asked and
  // done before the volume went.
  if (done.result.ok() && IsDeleted() && (id >= ops_when_gone_ || op.epoch == catalog_->record().volume.epoch)) {
    return Violated(absl::StrCat("D1: request ", id, " was answered by a volume that is deleted"));
  }
  if (done.result.kind() == engine::Result::Kind::kRequeue) {
    return Violated(absl::StrCat("request ", id, " was completed with REQUEUE"));
  }
  if (!done.result.ok()) CheckError(frontend, op, done);
  RestoringCompleted(frontend, id, done.result.ok());
  if (op.kind == RequestKind::kExtents) return;
  Outcome outcome;
  outcome.ok = done.result.ok();
  outcome.nothing_written = absl::StrContains(done.message, "nothing was written");
  std::vector<uint64_t> values;
  if (outcome.ok && op.kind == RequestKind::kRead) {
    for (const engine::ReadPart& part : done.parts) {
      for (uint64_t i = 0; i < part.blocks; ++i) {
        values.push_back(Shown(ValueOf(part.data.bytes(), i), op.range.first + values.size()));
      }
    }
    if (values.size() != op.range.count) return Violated("a read's parts do not cover its range");
  }
  judge_->Returned(OpId{id}, outcome, values);
  if (!outcome.ok) return;
  const bool flushes = op.kind == RequestKind::kFlush || op.kind == RequestKind::kBarrier;
  if (op.kind == RequestKind::kRead) read_[frontend] = std::max(read_[frontend], op.invoked);
  if (Writes(op.kind)) wrote_[frontend] = std::max(wrote_[frontend], op.invoked);
  if (flushes) flushed_at_[frontend] = std::max(flushed_at_[frontend], op.invoked);
  if (BringsData(op.kind)) {
    if (op.epoch > acknowledged_in_) acknowledged_last_ = {};
    if (op.epoch >= acknowledged_in_) acknowledged_last_ = std::max(acknowledged_last_, op.invoked);
    acknowledged_in_ = std::max(acknowledged_in_, op.epoch);
    CheckAcked(frontend, op, id);
  }
  if (flushes) CheckFlushed(op);
}

// --- the end ---

// Once healed: whoever can be is in sync, each frontend has answered all that it was asked, and a healthy one has then
// read every block.
bool Cluster::Finished() {
  if (healed_ && options_.deletes) return DeletionFinished();
  const CatalogRecord& record = catalog_->record();
  if (healed_ && submitted_ > 0 && IsBeyondRestore()) return result_.beyond_restore = true;
  if (!healed_ || submitted_ < options_.requests) return NotYet("clients ask on, of requests there were", submitted_);
  const auto healthy = std::find_if(
      frontends_.begin(), frontends_.end(),
      [this](const auto& f) { return f->healthy() && f->epoch() == active_epoch_; });
  if (healthy == frontends_.end()) return NotYet("nobody serves epoch", active_epoch_);
  for (size_t i = 0; i < replicas_.size(); ++i) {
    const engine::TakeoverMember* member = MemberOf(static_cast<uint32_t>(i));
    const bool stays_away = member == nullptr || member->stays_out;
    const bool may_come = !stays_away && replicas_[i]->store().health().ok();
    if (may_come && !member->in_sync) return NotYet("no member is replica", i);
  }
  const auto f = static_cast<uint32_t>(healthy - frontends_.begin());
  if (record.restoring != 0 || restores_[f].number != 0) return NotYet("is being restored at frontend", f);
  if (IsToLeave((*healthy)->engine().View())) return NotYet("is to be drained replica", *drained_);
  if (options_.replaces && !ReplacedWell(**healthy)) return false;
  if (OpenRequest() != 0) return NotYet("no answer has request", OpenRequest());
  if (engine_options_.scrub_every < absl::InfiniteDuration()) {
    // Nobody reads any more, so a scrub alone finds it.
    if (!rotted_at_the_end_) {
      rotted_at_the_end_ = true;
      ++result_.faults[static_cast<size_t>(Fault::kBadBlocks)];
      DamageSome(AnyReplica());
    }
    if (IsDamagedSomewhere((*healthy)->engine().View())) return NotYet("a block is damaged");
  }
  if (read_back_) return true;
  read_back_ = true;
  ReadBack(f);
  return false;
}

uint64_t Cluster::OpenRequest() const {
  for (uint64_t id = 1; id < ops_.size(); ++id) {
    const Op& op = ops_[id];
    const Frontend& asked = *frontends_[op.frontend];
    if (!op.done && op.epoch != 0 && asked.serving() && asked.epoch() == op.epoch) return id;
  }
  return 0;
}

bool Cluster::NotYet(const char* what, uint64_t which) {
  awaited_ = what;
  awaited_which_ = which;
  return false;
}

// The drained replica: its successor is a member, and so is everybody else, and is there.
bool Cluster::IsToLeave(const engine::EngineView& view) const {
  if (!drained_ || view.targets.size() < replicas_.size()) return false;
  // Who had left already, and is ahead of those that a rebuilt record has in sync, is taken in again, as a member like any other.
  const bool is_succeeded = std::any_of(view.targets.begin(), view.targets.end(), [this](const engine::TargetView& target) {
    return target.config.succeeds == replicas_[*drained_]->name();
  });
  if (!is_succeeded && result_.faults[static_cast<size_t>(Fault::kLoseCatalog)] > 0) return false;
  for (uint32_t r = 0; r < replicas_.size(); ++r) {
    if (!IsMember(r) || view.targets[r].health != engine::TargetView::Health::kConnected) return false;
  }
  return true;
}

// And could be made good from another member: one that came in for want of a better copy (some one cluster in 100,000) is lost. One that
// has failed and may not leave is asked for nothing.
bool Cluster::IsDamagedSomewhere(const engine::EngineView& view) const {
  for (uint64_t b = 0; b < geometry_.size_blocks; ++b) {
    bool damaged = false, well = false;
    for (const engine::TargetView& target : view.targets) {
      const uint32_t r = IndexOf(target.config.replica);
      if (!IsMember(r) || target.health != engine::TargetView::Health::kConnected) continue;
      (replicas_[r]->disk().damaged(b) ? damaged : well) = true;
    }
    if (damaged && well) return true;
  }
  return false;
}

void Cluster::ReadBack(uint32_t frontend) {
  const uint64_t size_blocks = frontends_[frontend]->size_blocks();
  for (uint64_t b = 0; b < size_blocks; b += kRequestBlocksMax) {
    engine::Request request;
    request.id = engine::RequestId{ops_.size()};
    request.kind = RequestKind::kRead;
    request.range = {b, std::min(kRequestBlocksMax, size_blocks - b)};
    Invoke(request, frontend);
    frontends_[frontend]->Submit(std::move(request));
  }
}

}  // namespace weir::sim
