// The faults of a simulated cluster, and how they end.
#include <algorithm>
#include <cerrno>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "proto/base/check.h"
#include "tests/sim/cluster.h"

namespace weir::sim {

const char* NameOf(Fault fault) {
  static constexpr const char* kNames[] = {
      "kill replica",  "power cut",       "power cut of all", "cut to replica", "cut to frontend",
      "cut both ways", "slow replica",    "requeues",         "dropped replies", "bad blocks",
      "misdirected writes",
      "I/O errors",    "sync failure",    "full disk",        "catalog outage", "catalog losses",
      "catalog cut",   "kill frontend",   "pause frontend",   "attach elsewhere", "split", "late answers",
      "leave in doubt", "suspend",        "reclaim",          "replace disk",   "old disk",
      "lost what it had synced", "lost catalog", "frozen replica", "hanging sync", "slow catalog", "detach",
      "forgotten seal", "lost catalog at a delete"};
  static_assert(std::size(kNames) == static_cast<size_t>(Fault::kFaultKinds));
  return kNames[static_cast<size_t>(fault)];
}

namespace {

// Prime to the number of kinds, so that as many seeds as there are pairs have each pair once, and a few have many kinds in
// either place.
constexpr uint64_t kScriptStride = 389;

}  // namespace

const std::vector<Script>& Scripts() {
  static const auto* scripts = new std::vector<Script>{
      {"any-two", {kAnyFault, kAnyFault}},
      // What a subset of the members has missed or forgotten shows when it is taken over without the others.
      {"any-two-and-a-split", {kAnyFault, kAnyFault, Fault::kSplit}},
      // One is away, and the only other one has answered an error to a flush that waits for the first.
      {"sync-fails-beside-a-cut", {Fault::kCutBoth, Fault::kSyncFails}},
      // Whoever counts a lease from the answer takes itself for the one that serves, beside the next.
      {"late-answers", {Fault::kLateAnswers}},
      // A write that one member lacks, whose leave cannot be committed; then that member alone is taken over.
      {"write-fails-without-catalog", {Fault::kErrors, Fault::kCatalogCut, Fault::kSplit}},
      // A spare comes, so the one that lacks a write may leave, but not yet; then that one alone is taken over.
      {"write-fails-and-a-spare-comes", {Fault::kErrors, Fault::kCatalogCut, Fault::kSplit}, /*spare=*/true},
      // The catalog may say that nobody serves, while somebody goes on.
      {"detach-in-doubt", {Fault::kCatalogLoss, Fault::kDetach, Fault::kSplit}},
      // Who was out at the attach comes in, then the others leave; of neither there is a copy of the record.
      {"catalog-lost-after-a-join", {Fault::kDoubt, Fault::kCutBoth, Fault::kLoseCatalog}},
      // Whoever was taken over has its members again: one that nobody has told, one that has forgotten.
      {"forgotten-seal", {Fault::kForgetSeal}},
      // What is written below min_in_sync fails at last, and its only member has it, before the new one is brought up to date.
      {"new-disk-out-of-reach", {Fault::kReplaceDisk, Fault::kCutBoth}},
      // It is not known whether one has come back in, and then it fails, and the others.
      {"fails-while-it-comes-in", {Fault::kCutBoth, Fault::kCatalogLoss, Fault::kErrors, Fault::kErrors}},
      // Who was out is told that a snapshot has gone; the record that the others have copies of has it still.
      {"catalog-lost-at-a-delete", {Fault::kCutBoth, Fault::kLoseCatalogAtDelete}},
  };
  return *scripts;
}

std::vector<std::string> ScriptNames() {
  std::vector<std::string> names;
  for (const Script& script : Scripts()) names.push_back(script.name);
  return names;
}

const Script* FindScript(const std::string& name) {
  for (const Script& script : Scripts()) {
    if (name == script.name) return &script;
  }
  return nullptr;
}

uint32_t Cluster::ServingFrontend() {
  for (uint32_t f = 0; f < frontends_.size(); ++f) {
    if (frontends_[f]->serving() && frontends_[f]->epoch() == active_epoch_) return f;
  }
  return AnyFrontend();
}

Fault Cluster::ScriptedFault(uint64_t number) const {
  constexpr auto kKinds = static_cast<uint64_t>(kChanceKinds);
  const std::vector<Fault>& faults = options_.script->faults;
  if (faults[number] != kAnyFault) return faults[number];
  const auto before = std::count(faults.begin(), faults.begin() + number, kAnyFault);
  uint64_t which = seed_ * kScriptStride;
  for (auto i = before; i > 0; --i) which /= kKinds;
  return static_cast<Fault>(which % kKinds);
}

Fault Cluster::NextFault(uint64_t number) {
  if (options_.script != nullptr) return ScriptedFault(number);
  // What is final for a store is rare, or there would be nothing left to judge.
  static constexpr Fault kRare[] = {Fault::kSyncFails, Fault::kErrors, Fault::kPowerCutAll,
                                    Fault::kReplaceDisk, Fault::kLostSynced, Fault::kLoseCatalog};
  // The last kinds in every other cluster; the others are what they were without them.
  const Fault kinds = seed_ % 2 == 0 ? kChanceKinds : Fault::kFreezeReplica;
  const auto fault = static_cast<Fault>(dice_.Below(static_cast<uint64_t>(kinds)));
  const bool rare = std::find(std::begin(kRare), std::end(kRare), fault) != std::end(kRare);
  return rare && dice_.Percent(70) ? Fault::kReclaim : fault;
}

void Cluster::FaultSome() {
  if (healed_ || faults_left_ == 0) return;
  const uint64_t number = faults_injected_++;
  --faults_left_;
  // Each has its own chance, so that one can be left out and the others stay what they are.
  const Dice usual = std::exchange(dice_, Dice(seed_ * 1000003 + number + 1));
  const Fault fault = NextFault(number);
  const absl::Duration pause = dice_.Micros(1000, 700000);
  const bool skipped = number < 64 && (options_.skipped_faults >> number & 1) != 0;
  if (!skipped) Inject(fault, number);
  dice_ = usual;
  agenda_.After(pause, [this] { FaultSome(); });
}

void Cluster::Inject(Fault fault, uint64_t number) {
  uint64_t& happened = result_.faults[static_cast<size_t>(fault)];
  ++happened;
  const uint32_t r = AnyReplica();
  const uint32_t f = options_.script != nullptr ? ServingFrontend() : AnyFrontend();
  ReplicaNode& replica = *replicas_[r];
  const Time until = agenda_.now() + dice_.Micros(10000, 3000000);
  Trace(absl::StrCat("fault ", number, ": ", NameOf(fault), ", replica ", replica.name(), ", f", f));
  auto for_a_while = [&](std::function<void()> undo) { agenda_.At(until, std::move(undo)); };
  switch (fault) {
    case Fault::kKillReplica:
      Down(r, /*power_cut=*/false);
      break;
    case Fault::kPowerCut:
      Down(r, /*power_cut=*/true);
      break;
    case Fault::kPowerCutAll:
      for (uint32_t i = 0; i < replicas_.size(); ++i) Down(i, /*power_cut=*/true);
      break;
    case Fault::kCutToReplica:
      network_->CutToReplica(f, r, until);
      break;
    case Fault::kCutToFrontend:
      network_->CutToFrontend(f, r, until);
      break;
    case Fault::kCutBoth:
      network_->CutToReplica(f, r, until);
      network_->CutToFrontend(f, r, until);
      break;
    case Fault::kSlowReplica:
      network_->set_replica_delay(r, dice_.Micros(1000, 200000));
      for_a_while([this, r] { network_->set_replica_delay(r, absl::ZeroDuration()); });
      break;
    case Fault::kBadBlocks:
      DamageSome(r);
      Misbehave(fault, replica.faults(), until);
      break;
    case Fault::kMisdirected:
    case Fault::kRequeues:
    case Fault::kDrops:
    case Fault::kErrors:
      Misbehave(fault, replica.faults(), until);
      break;
    case Fault::kSyncFails:
      FailSync(r);
      break;
    case Fault::kFull:
      SetFull(r, true);
      for_a_while([this, r] { SetFull(r, false); });
      break;
    case Fault::kReclaim:
      replica.disk().Reclaim(dice_);
      break;
    case Fault::kReplaceDisk:
      happened -= ReplaceDisk(r) ? 0 : 1;
      break;
    case Fault::kOldDisk:
      happened -= RestoreOldDisk(r) ? 0 : 1;
      break;
    case Fault::kLostSynced:
      happened -= LoseSynced(r) ? 0 : 1;
      break;
    case Fault::kLoseCatalog:
      happened -= LoseCatalog() ? 0 : 1;
      break;
    case Fault::kFreezeReplica:
      network_->FreezeReplica(r, until);
      break;
    case Fault::kSyncHangs:
      network_->HangSyncs(r, until);
      break;
    default:
      InjectOnFrontend(fault, f, r, until);
  }
}

void Cluster::InjectOnFrontend(Fault fault, uint32_t f, uint32_t r, Time until) {
  switch (fault) {
    case Fault::kCatalogOutage:
      catalog_->OutageUntil(until);
      break;
    case Fault::kCatalogLoss:
      catalog_->set_loss_percent(dice_.Below(60));
      agenda_.At(until, [this] { catalog_->set_loss_percent(0); });
      break;
    case Fault::kCatalogCut:
      catalog_->CutUntil(f, until);
      break;
    case Fault::kCrashFrontend:
      frontends_[f]->Crash();
      break;
    case Fault::kPauseFrontend:
      frontends_[f]->PauseUntil(until);
      break;
    case Fault::kAttachElsewhere:
      AttachAt(options_.script != nullptr ? (f + 1) % static_cast<uint32_t>(frontends_.size()) : f);
      break;
    case Fault::kSplit:
      Split(f, r, until);
      break;
    case Fault::kLateAnswers:
      LateAnswers(f, r);
      break;
    case Fault::kDoubt:
      Doubt(f, r);
      break;
    case Fault::kForgetSeal:
      ForgetSeal(f, r);
      break;
    case Fault::kLoseCatalogAtDelete:
      lose_at_delete_ = true;
      break;
    case Fault::kSuspend:
      SuspendSome(f);
      break;
    case Fault::kCatalogSlow:
      catalog_->SlowUntil(until);
      break;
    case Fault::kDetach:
      DetachSome(f);
      break;
    default:
      break;
  }
}

// One frontend keeps nothing but replica `r`, another one is to have the rest, and the volume.
void Cluster::Split(uint32_t f, uint32_t r, Time until) {
  const auto elsewhere = static_cast<uint32_t>((f + 1) % frontends_.size());
  network_->CutToReplica(elsewhere, r, until);
  network_->CutToFrontend(elsewhere, r, until);
  for (uint32_t other = 0; other < replicas_.size(); ++other) {
    if (other != r) network_->CutToFrontend(f, other, until);
  }
  AttachAt(elsewhere);
}

// A lease counts from when it was asked for, however late the answer is.
void Cluster::LateAnswers(uint32_t f, uint32_t r) {
  auto delay = [this, f, r](auto by) {
    for (uint32_t other = 0; other < replicas_.size(); ++other) {
      if (other != r) network_->set_answer_delay(f, other, by());
    }
  };
  // Close below the clone deadline.
  delay([this] { return dice_.Micros(100000, 290000); });
  const absl::Duration split_for = dice_.Micros(500000, 3000000);
  agenda_.After(dice_.Micros(20000, 600000), [this, f, r, split_for, delay] {
    delay([] { return absl::ZeroDuration(); });
    if (healed_) return;
    const Time until = agenda_.now() + split_for;
    catalog_->CutUntil(f, until);
    Split(f, r, until);
  });
}

void Cluster::DisturbJoin(uint32_t frontend, const engine::RunJoinStep& step) {
  if (lose_at_delete_ && step.kind == engine::RunJoinStep::Kind::kCopy) {
    agenda_.After(absl::ZeroDuration(),
                  [this, frontend, r = IndexOf(step.target_config.replica)] { LoseCatalogAtDelete(frontend, r); });
  }
  if (healed_ || !dice_.Percent(2)) return;
  const bool power_cut = dice_.Percent(70);
  const uint32_t r = IndexOf(step.target_config.replica);
  ++result_.faults[static_cast<size_t>(power_cut ? Fault::kPowerCut : Fault::kKillReplica)];
  agenda_.After(dice_.Micros(0, 4000), [this, r, power_cut] { Down(r, power_cut); });
}

// The replica is away until its leave is committed, of which the frontend does not hear; it is back
// when another frontend attaches, for which it is no member.
void Cluster::Doubt(uint32_t f, uint32_t r) {
  const Time now = agenda_.now();
  const Time back = now + engine_options_.leave_after + dice_.Micros(10000, 100000);
  network_->CutToReplica(f, r, back);
  network_->CutToFrontend(f, r, back);
  catalog_->DeafUntil(f, now + dice_.Micros(1000000, 2000000));
  const auto elsewhere = static_cast<uint32_t>((f + 1) % frontends_.size());
  agenda_.At(back + dice_.Micros(0, 400000), [this, elsewhere] {
    if (!healed_) AttachAt(elsewhere);
  });
}

// A third of the members leaves. Then another frontend takes over: without the second, which is cut off from it, and by the first,
// whose disk is put back from before. The old frontend reaches those two again, and the catalog not.
void Cluster::ForgetSeal(uint32_t f, uint32_t r) {
  if (replicas_.size() < 3) return;
  const auto forgets = static_cast<uint32_t>((r + 1) % replicas_.size());
  const auto elsewhere = static_cast<uint32_t>((f + 1) % frontends_.size());
  auto cut = [this](uint32_t frontend, uint32_t replica, Time until) {
    network_->CutToReplica(frontend, replica, until);
    network_->CutToFrontend(frontend, replica, until);
  };
  for (uint32_t other = 0; other < replicas_.size(); ++other) {
    if (other != r && other != forgets) cut(f, other, heal_at_);
  }
  const Time gone = agenda_.now() + engine_options_.leave_after + dice_.Micros(50000, 200000);
  const Time back = gone + dice_.Micros(800000, 2000000);
  agenda_.At(gone, [this, f, r, forgets, elsewhere, back, cut] {
    if (healed_) return;
    CopyDisk(forgets);
    catalog_->CutUntil(f, heal_at_);
    cut(f, forgets, back);
    cut(elsewhere, r, heal_at_);
    AttachAt(elsewhere);
  });
  agenda_.At(back, [this, forgets] {
    if (!healed_) RestoreOldDisk(forgets);
  });
}

// The replica, which is on its way in, is the only one to hear that a snapshot has gone.
void Cluster::LoseCatalogAtDelete(uint32_t f, uint32_t r) {
  const std::vector<Pin>& pins = catalog_->record().volume.pins;
  if (healed_ || pins.empty() || !frontends_[f]->serving()) return;
  lose_at_delete_ = false;
  for (uint32_t other = 0; other < replicas_.size(); ++other) {
    if (other != r) network_->CutToReplica(f, other, agenda_.now() + absl::Milliseconds(30));
  }
  frontends_[f]->DropSnapshot(pins[dice_.Below(pins.size())].id);
  agenda_.After(dice_.Micros(1000, 20000), [this, r] {
    if (healed_) return;
    replicas_[r]->disk().Reclaim(dice_);
    if (LoseCatalog()) ++result_.faults[static_cast<size_t>(Fault::kLoseCatalog)];
  });
}

// The replica answers some clones wrongly for a while.
void Cluster::Misbehave(Fault fault, ReplicaFaults& faults, Time until) {
  uint32_t* chance = &faults.error_per_mille;
  uint64_t most = 30;
  if (fault == Fault::kRequeues || fault == Fault::kBadBlocks) {
    chance = fault == Fault::kRequeues ? &faults.requeue_per_mille : &faults.bad_block_per_mille;
    most = 300;
  } else if (fault == Fault::kDrops) {
    chance = &faults.drop_per_mille;
  } else if (fault == Fault::kMisdirected) {
    chance = &faults.misdirect_per_mille;
    most = 100;
  }
  *chance = static_cast<uint32_t>(dice_.Below(most));
  agenda_.At(until, [chance] { *chance = 0; });
}

void Cluster::Down(uint32_t r, bool power_cut) {
  ReplicaNode& replica = *replicas_[r];
  if (!replica.up()) return;
  network_->ReplicaGone(r);
  if (power_cut) {
    replica.CutPower(dice_, agenda_.now());
  } else {
    replica.Kill();
  }
  agenda_.After(dice_.Micros(1000, 2500000), [this, r] { replicas_[r]->Start(); });
}

void Cluster::FailSync(uint32_t r) {
  if (options_.survivable && (store_failed_ || IsOnlyGoodCopy(r))) return;  // one is enough
  store_failed_ = true;
  failing_ = r;
  replicas_[r]->disk().FailNextSync(
      static_cast<uint32_t>(dice_.Below(replicas_[r]->store().num_domains())));
}

// Another good copy is there, and none was lost before.
bool Cluster::MayLose(uint32_t r) const {
  if (!options_.survivable) return true;
  if (IsOnlyGoodCopy(r)) return false;
  for (uint32_t i = 0; i < replicas_.size(); ++i) {
    if (i != r && IsInSync(i) && replicas_[i]->store().health().ok()) return !store_failed_;
  }
  return false;
}

bool Cluster::LoseSynced(uint32_t r) {
  if (!MayLose(r)) return false;
  store_failed_ = true;
  failing_ = r;
  replicas_[r]->disk().LoseSynced();
  Down(r, /*power_cut=*/true);
  return true;
}

void Cluster::CopyDisk(uint32_t r) {
  if (!HasCopy(r)) return;
  replicas_[r]->CopyDisks();
  copied_in_[r] = catalog_->record().volume.epoch;
}

// One from the epoch that serves could pass for a disk that lost nothing: if it were the only one to be reached,
// nobody could tell.
bool Cluster::RestoreOldDisk(uint32_t r) {
  if (copied_in_[r] == 0 || copied_in_[r] >= active_epoch_ || !MayLose(r)) return false;
  store_failed_ = true;
  const bool had_none = !HasCopy(r);
  network_->ReplicaGone(r);
  replicas_[r]->RestoreDisks(agenda_.now());
  promised_.erase(replicas_[r]->store().identity().store_id);
  restored_[r] = active_epoch_;
  put_back_[r] = had_none || !IsNamed(replicas_[r]->store().identity().store_id);
  agenda_.After(dice_.Micros(1000, 500000), [this, r] { replicas_[r]->Start(); });
  return true;
}

bool Cluster::ReplaceDisk(uint32_t r) {
  if (!MayLose(r)) return false;
  store_failed_ = true;
  network_->ReplicaGone(r);
  replicas_[r]->ReplaceDisk(agenda_.now(), /*with_volume=*/!options_.replaces);
  agenda_.After(dice_.Micros(1000, 500000), [this, r] { replicas_[r]->Start(); });
  if (!options_.replaces) TellOfDisks();
  return true;
}

bool Cluster::HasOtherStore(uint32_t r) const {
  const engine::TakeoverMember* member = MemberOf(r);
  return member != nullptr && member->store_id != replicas_[r]->store().identity().store_id;
}

void Cluster::DrainSome() {
  for (uint32_t f = 0; f < frontends_.size(); ++f) {
    if (!frontends_[f]->healthy() || IsWrittenUnder(f) || !TableWithSpare(frontends_[f]->engine().View())) continue;
    frontends_[f]->Suspend(engine::ControlId{next_control_++}, /*noflush=*/true,
                      absl::Milliseconds(500));
  }
  agenda_.After(absl::Milliseconds(300), [this] { DrainSome(); });
}

std::optional<engine::Table> Cluster::TableWithSpare(const engine::EngineView& view) const {
  if (!drained_ || view.targets.empty() || view.targets.size() == replicas_.size()) {
    return std::nullopt;
  }
  engine::Table table;
  for (const engine::TargetView& target : view.targets) table.targets.push_back(target.config);
  engine::TargetConfig spare;
  spare.replica = replicas_.back()->name();
  spare.address = "address";
  spare.store_id = replicas_.back()->store().identity().store_id;
  spare.state = engine::TargetState::kOut;
  spare.succeeds = replicas_[*drained_]->name();
  table.targets.push_back(std::move(spare));
  return table;
}

void Cluster::TellOfDisks() {
  for (uint32_t f = 0; f < frontends_.size(); ++f) {
    if (!frontends_[f]->healthy() || IsWrittenUnder(f) || !TableWithNewStores(frontends_[f]->engine().View())) continue;
    frontends_[f]->Suspend(engine::ControlId{next_control_++}, /*noflush=*/true,
                      absl::Milliseconds(500));
  }
  agenda_.After(dice_.Micros(100000, 600000), [this] { TellOfDisks(); });
}

std::optional<engine::Table> Cluster::TableWithNewStores(const engine::EngineView& view) const {
  if (view.targets.empty() || options_.replaces) return std::nullopt;
  engine::Table table;
  bool other = false;
  for (uint32_t r = 0; r < view.targets.size(); ++r) {
    engine::TargetConfig config = view.targets[r].config;
    if (config.gone) continue;
    const std::string store_id = replicas_[r]->store().identity().store_id;
    if (config.store_id != store_id) {
      other = true;
      config.replaces = config.replica;
      config.store_id = store_id;
      config.state = engine::TargetState::kOut;
    }
    table.targets.push_back(std::move(config));
  }
  if (!other) return std::nullopt;
  return table;
}

void Cluster::SetFull(uint32_t r, bool full) {
  replicas_[r]->disk().set_full(full);
  network_->TellSpace(r);
}

// Suspends, perhaps loads a table, and resumes: each step once the one before is answered.
void Cluster::SuspendSome(uint32_t f) {
  if (!frontends_[f]->serving() || IsRestoring(f) || frontends_[f]->replacing()) return;
  const bool noflush = dice_.Percent(50);
  if (!noflush) SuspendInvoked(f);
  frontends_[f]->Suspend(engine::ControlId{next_control_++}, noflush,
                         dice_.Micros(1000, 1500000));
}

// The next control: it is a flush, and is judged as one.
void Cluster::SuspendInvoked(uint32_t f) {
  suspend_flushes_[next_control_] = ops_.size();
  Op flush{.frontend = f, .epoch = frontends_[f]->epoch(), .covers = acked_[f]};
  judge_->SuspendInvoked(OpId{ops_.size()}, SessionId{flush.epoch});
  ops_.push_back(std::move(flush));
}

void Cluster::DetachSome(uint32_t f) {
  if (!frontends_[f]->serving() || frontends_[f]->detaching() || suspended_[f] || IsRestoring(f)) return;
  SuspendInvoked(f);
  const engine::ControlId suspend{next_control_++}, resume{next_control_++};
  frontends_[f]->Detach(suspend, resume, dice_.Micros(1000, 1500000));
}

void Cluster::ControlDone(uint32_t f, const engine::CompleteControl& done) {
  if (SnapshotDone(done)) return;
  const auto flush = suspend_flushes_.find(static_cast<uint64_t>(done.id));
  if (flush != suspend_flushes_.end()) {
    Op& op = ops_[flush->second];
    op.done = true;
    judge_->Returned(OpId{flush->second}, {.ok = done.result.ok()}, {});
    if (done.result.ok()) CheckFlushed(op);
  }
  if (RestoreDone(f, done)) return;
  // The table with a new disk was refused: no member is good any more in this session.
  if (healed_ && done.result == engine::Result(EINVAL)) {
    agenda_.After(absl::Microseconds(1), [this, f] { frontends_[f]->Crash(); });
    return;
  }
  const engine::EngineView view = frontends_[f]->engine().View();
  if (view.state != engine::EngineView::State::kSuspended) return;
  // Who was refused has not suspended it, though somebody else may have, whose own answer is still to come; or has not
  // resumed it, since the catalog did not take the table.
  if (!done.result.ok()) {
    if (!suspended_[f]) ResumeSome(f);
    return;
  }
  if (suspended_[f]) return;  // this was a load
  suspended_[f] = true;
  for (const engine::TargetView& target : view.targets) {
    if (target.inflight_clones > 0) Violated("suspended with a clone in flight");
  }
  if (frontends_[f]->DetachesBy(done.id)) return;
  if (options_.restores && restores_[f].number == 0 && dice_.Percent(50)) {
    agenda_.After(dice_.Micros(1, 100000), [this, f] { StartRestore(f); });
    return;
  }
  if (TableWithSpare(view)) {
    agenda_.After(absl::Microseconds(1), [this, f] {
      if (!frontends_[f]->healthy()) return;
      const auto table = TableWithSpare(frontends_[f]->engine().View());
      if (table) frontends_[f]->LoadTable(engine::ControlId{next_control_++}, *table);
    });
  } else if (dice_.Percent(50)) {
    agenda_.After(absl::Microseconds(1), [this, f] {
      if (!frontends_[f]->healthy()) return;
      const auto table = TableWithNewStores(frontends_[f]->engine().View());
      if (table) frontends_[f]->LoadTable(engine::ControlId{next_control_++}, *table);
    });
  }
  TakeOneOut(f, done.id);
  ResumeSome(f);
}

// An operator's table has one member out, now and then; it comes back by itself. By dice of its own, so that all else stays what it is.
void Cluster::TakeOneOut(uint32_t f, engine::ControlId suspend) {
  Dice dice(seed_ * 1000003 + static_cast<uint64_t>(suspend) + 1000);
  if (healed_ || !dice.Percent(20)) return;
  agenda_.After(absl::Microseconds(2), [this, f, which = dice.Below(replicas_.size())] {
    if (!frontends_[f]->healthy()) return;
    engine::Table table;
    for (const engine::TargetView& target : frontends_[f]->engine().View().targets) {
      if (target.config.gone) continue;
      table.targets.push_back(target.config);
      if (static_cast<uint64_t>(target.id) == which) table.targets.back().state = engine::TargetState::kOut;
    }
    if (!healed_) frontends_[f]->LoadTable(engine::ControlId{next_control_++}, std::move(table));
  });
}

// Not in the middle of a detach, which has its turn first.
void Cluster::ResumeSome(uint32_t f) {
  agenda_.After(dice_.Micros(0, 300000), [this, f] {
    if (!frontends_[f]->serving()) return;
    if (frontends_[f]->detaching() || frontends_[f]->replacing()) return ResumeSome(f);
    frontends_[f]->Resume(engine::ControlId{next_control_++});
  });
}

void Cluster::Heal() {
  Trace("healed");
  healed_ = true;
  network_->Heal();
  catalog_->OutageUntil(Time());
  catalog_->CutUntil(0, Time());
  catalog_->set_loss_percent(0);
  for (uint32_t r = 0; r < replicas_.size(); ++r) {
    replicas_[r]->faults() = ReplicaFaults();
    SetFull(r, false);
    replicas_[r]->Start();
  }
  EndHopelessSessions();
}

// A session whose last good member has failed, also at a start that it does not hear of, or has got an older copy of its disk, or another one,
// is over, and its operator attaches anew.
void Cluster::EndHopelessSessions() {
  for (const auto& frontend : frontends_) {
    if (!frontend->healthy()) continue;
    const engine::EngineView view = frontend->engine().View();
    const bool over = std::all_of(view.targets.begin(), view.targets.end(), [this](const auto& t) {
      const uint32_t r = IndexOf(t.config.replica);
      return t.config.state != engine::TargetState::kInSync ||
             t.health == engine::TargetView::Health::kFailed || restored_[r] != 0 ||
             !replicas_[r]->store().health().ok() || (options_.replaces && HasOtherStore(r));
    });
    if (over) frontend->Crash();
  }
}

}  // namespace weir::sim
