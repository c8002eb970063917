#include "tests/sim/frontend.h"
#include "tests/sim/frontend_calls.h"

#include <algorithm>
#include <cerrno>
#include <optional>
#include <type_traits>
#include <utility>
#include <variant>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "proto/base/errno.h"
#include "tests/sim/show.h"

namespace weir::sim {
namespace {

constexpr absl::Duration kDetachRetryDelay = absl::Milliseconds(300);
constexpr absl::Duration kConnectDeadline = absl::Milliseconds(300);

bool HasPin(const CatalogRecord& record, uint64_t id) {
  const std::vector<Pin>& pins = record.volume.pins;
  return std::any_of(pins.begin(), pins.end(), [id](const Pin& pin) { return pin.id == id; });
}

}  // namespace

Frontend::Frontend(uint32_t index, Parts parts, Events events)
    : index_(index), parts_(std::move(parts)), events_(std::move(events)) {}

// --- the process ---

void Frontend::Wait(Agenda::What what) {
  waiting_.push_back(std::move(what));
  if (waiting_.size() == 1) WakeUp();
}

// In the order in which it came in, also when one pause follows another.
void Frontend::WakeUp() {
  parts_.agenda->At(paused_until_, [this, life = life_] {
    if (life != life_) return;
    if (paused()) return WakeUp();
    while (life == life_ && !waiting_.empty() && !paused()) {
      Agenda::What what = std::move(waiting_.front());
      waiting_.pop_front();
      what();
    }
    if (life == life_ && !waiting_.empty()) WakeUp();
  });
}

Time Frontend::Clock() const { return parts_.agenda->now() * clock_rate_; }

void Frontend::Crash() {
  Trace("crash");
  ++life_;
  reading_ = false;
  takeover_.reset();
  engine_.reset();
  for (Session& session : sessions_) parts_.network->LetGo(session.stream);
  sessions_.clear();
  armed_ = absl::InfiniteDuration();
  changes_.clear();
  detaching_.reset();
  deletion_.reset();
  replacing_.reset();
  leftovers_.reset();
  asked_pins_.clear();
  asked_sizes_.clear();
  doubtful_pins_.clear();
  paused_until_ = Time();
  waiting_.clear();
}

// --- the engine ---

void Frontend::Serve() {
  engine::Options options = parts_.engine;
  options.epoch = record().volume.epoch;
  options.pins = record().volume.pins;
  options.size_blocks = record().volume.size_blocks;
  if (parts_.overlay) options.overlay = parts_.overlay();
  engine::Table table;
  for (const engine::TakeoverMember& member : record().volume.members) {
    engine::TargetConfig target;
    target.replica = member.replica;
    target.address = "address";
    target.store_id = member.store_id;
    target.state = member.in_sync ? engine::TargetState::kInSync : engine::TargetState::kOut;
    target.stays_out = member.stays_out;
    target.left_at = member.left_at;
    target.succeeds = member.succeeds;
    table.targets.push_back(std::move(target));
  }
  sessions_.assign(table.targets.size(), Session());
  Trace("serves epoch ", options.epoch);
  engine::Effects effects;
  engine_ = std::make_unique<engine::Engine>(options, std::move(table), Clock(), effects);
  for (engine::Effect& effect : effects) CarryOut(effect);
  ArmTimer();
  if (parts_.forgets) LookForLeftovers();
  events_.serving();
}

template <typename Event>
void Frontend::Feed(const char* name, const Event& event) {
  if (engine_ == nullptr) return;
  Trace("> ", name);
  engine::Effects effects = std::move(spare_effects_);
  event(*engine_, effects);
  if (events_.stepped) events_.stepped(effects);
  for (engine::Effect& effect : effects) CarryOut(effect);
  ArmTimer();
  effects.clear();
  spare_effects_ = std::move(effects);
}

template <typename Event>
void Frontend::FeedSession(uint32_t target, uint64_t number, const char* name,
                           const Event& event) {
  if (engine_ == nullptr || sessions_[target].number != number) return;
  Feed(name, event);
}

void Frontend::Submit(engine::Request request) {
  Enter(life_, [this, request = std::move(request)]() mutable {
    Feed("submit", [&](auto& engine, auto& effects) {
      engine.Submit(std::move(request), Clock(), effects);
    });
  });
}

void Frontend::Suspend(engine::ControlId id, bool noflush, absl::Duration deadline) {
  Enter(life_, [this, id, noflush, deadline] {
    Feed(noflush ? "suspend noflush" : "suspend", [&](auto& engine, auto& effects) {
      engine.Suspend(id, noflush, deadline, Clock(), effects);
    });
  });
}

void Frontend::Resume(engine::ControlId id) {
  Enter(life_, [this, id] {
    events_.resumes();
    Feed("resume", [&](auto& engine, auto& effects) { engine.Resume(id, Clock(), effects); });
  });
}

void Frontend::StartRestore(engine::ControlId id, absl::Duration deadline) {
  Enter(life_, [this, id, deadline] {
    Feed("restore", [&](auto& engine, auto& effects) { engine.StartRestore(id, deadline, Clock(), effects); });
  });
}

void Frontend::EndRestore(engine::ControlId id, absl::Duration deadline) {
  Enter(life_, [this, id, deadline] {
    Feed("restored", [&](auto& engine, auto& effects) { engine.EndRestore(id, deadline, Clock(), effects); });
  });
}

void Frontend::MarkRestoring(uint64_t pin, std::function<void(absl::Status)> done) {
  Enter(life_, [this, pin, done = std::move(done)] {
    // The host does one thing at a time with a volume; here a deletion may still be under way.
    if (!changes_.empty() || (pin != 0 && !HasPin(record(), pin))) return done(absl::NotFoundError("it is gone, or going"));
    auto change = [pin](CatalogRecord next) {
      next.restoring = pin;
      return next;
    };
    CommitChange(std::move(change), std::move(done));
  });
}

void Frontend::MarkUnattached(uint64_t pin, std::function<void(absl::Status)> done) {
  parts_.catalog->Get(index_, [this, life = life_, pin, done = std::move(done)](absl::StatusOr<CatalogRecord> read) {
    Enter(life, [this, pin, done, read = std::move(read), life] {
      if (!read.ok()) return done(read.status());
      if (IsElsewhere(*read) || read->restoring != 0 || !HasPin(*read, pin)) {
        return done(absl::FailedPreconditionError("it is attached, or being restored, or has no such snapshot"));
      }
      CatalogRecord next = *read;
      next.restoring = pin;
      parts_.catalog->Put(index_, next, [this, life, done](absl::StatusOr<uint64_t> put) {
        Enter(life, [done, put = std::move(put)] { done(put.status()); });
      });
    });
  });
}

void Frontend::AskMember(uint32_t member, std::function<absl::Status(ReplicaNode&, const v1::Fence&)> call,
                         std::function<void(absl::Status)> done) {
  const auto ask = [fence = FenceOf(member, 0), call = std::move(call)](ReplicaNode& node) { return call(node, fence); };
  Call<absl::Status>(NodeOf(member), ask, std::move(done));
}

bool Frontend::IsElsewhere(const CatalogRecord& record) const {
  const engine::TakeoverRecord& volume = record.volume;
  const bool attached = !volume.owner.empty() && !volume.detached && !record.deleting;
  // What an earlier life of this process had attached nobody has any more.
  return attached && !absl::StartsWith(volume.owner, absl::StrCat("f", index_, "."));
}

void Frontend::Detach(engine::ControlId suspend, engine::ControlId resume, absl::Duration deadline) {
  detaching_ = {suspend, resume};
  Enter(life_, [this, suspend, deadline] {
    Feed("detach", [&](auto& engine, auto& effects) {
      engine.Suspend(suspend, /*noflush=*/false, deadline, Clock(), effects);
    });
  });
}

void Frontend::SuspendedToDetach(const engine::CompleteControl& control) {
  if (!detaching_ || detaching_->first != control.id) return;
  if (!control.result.ok()) return detaching_.reset();
  // Not at once: the engine is still at work on what has brought this.
  Later(absl::ZeroDuration(), [this, resume = detaching_->second] {
    auto change = [durable = engine_->View().durable](CatalogRecord next) {
      std::vector<Position>& floor = next.volume.floor;
      next.volume.detached = true;
      for (size_t i = 0; i < floor.size(); ++i) floor[i] = std::max(floor[i], durable[i]);
      return next;
    };
    CommitChange(change, [this, resume](absl::Status status) {
      if (!status.ok() && !absl::IsAborted(status)) return StayAttached(resume);
      Later(absl::ZeroDuration(), [this] { Crash(); });
    });
  });
}

// As host/attach.cc: not before the catalog is known to have it as it was.
void Frontend::StayAttached(engine::ControlId resume) {
  Later(kDetachRetryDelay, [this, resume] {
    CommitChange([](CatalogRecord same) { return same; }, [this, resume](absl::Status status) {
      if (absl::IsAborted(status)) return Later(absl::ZeroDuration(), [this] { Crash(); });
      if (!status.ok()) return StayAttached(resume);
      detaching_.reset();
      Resume(resume);
    });
  });
}

void Frontend::LoadTable(engine::ControlId id, engine::Table table) {
  Enter(life_, [this, id, table] {
    Feed("load", [&](auto& engine, auto& effects) {
      engine.LoadTable(id, table, Clock(), effects);
    });
  });
}

void Frontend::CarryOut(engine::Effect& effect) {
  if (parts_.trace) Trace("  ", Show(effect));
  if (auto* send = std::get_if<engine::SendClone>(&effect)) {
    Session& session = sessions_[static_cast<uint32_t>(send->target)];
    if (session.stream) parts_.network->Send(session.stream, std::move(send->clone));
  } else if (auto* points = std::get_if<engine::SendDurablePoints>(&effect)) {
    Session& session = sessions_[static_cast<uint32_t>(points->target)];
    if (session.stream) parts_.network->SendDurablePoints(session.stream, *points);
  } else if (auto* ping = std::get_if<engine::PingTarget>(&effect)) {
    Session& session = sessions_[static_cast<uint32_t>(ping->target)];
    if (session.stream) parts_.network->Ping(session.stream, ping->ping);
  } else if (auto* done = std::get_if<engine::CompleteRequest>(&effect)) {
    events_.completed(*done);
  } else if (auto* connect = std::get_if<engine::ConnectTarget>(&effect)) {
    Connect(*connect);
  } else if (auto* end = std::get_if<engine::DisconnectTarget>(&effect)) {
    Disconnect(end->target);
  } else if (auto* control = std::get_if<engine::CompleteControl>(&effect)) {
    if (SwapStepDone(*control)) return;
    events_.control(*control);
    PinIsSet(*control);
    HasRoom(*control);
    SuspendedToDetach(*control);
  } else if (auto* commit = std::get_if<engine::CommitMembers>(&effect)) {
    CommitMembers(*commit);
  } else if (std::holds_alternative<engine::CheckEpoch>(effect)) {
    CheckEpoch();
  } else if (auto* step = std::get_if<engine::RunJoinStep>(&effect)) {
    Later(step->delay, [this, step = std::move(*step)] { JoinStep(step); });
  }
}

void Frontend::Connect(const engine::ConnectTarget& connect) {
  const auto target = static_cast<uint32_t>(connect.target);
  if (target >= sessions_.size()) sessions_.resize(target + 1);
  Disconnect(connect.target);
  sessions_[target].answered_error = false;
  sessions_[target].config = connect.config;
  const uint64_t number = sessions_[target].number;
  Later(connect.delay, [this, target, number] {
    if (engine_ == nullptr || sessions_[target].number != number) return;
    const engine::TargetConfig& config = sessions_[target].config;
    sessions_[target].stream = parts_.network->Open(
        index_, IndexOf(config.replica), FenceOf(config, 0), next_session_++, EventsOf(target, number));
    sessions_[target].connected = false;
    Later(kConnectDeadline, [this, target, number] { GiveUpConnecting(target, number); });
  });
}

// As host::TargetSession does.
void Frontend::GiveUpConnecting(uint32_t target, uint64_t number) {
  if (engine_ == nullptr || sessions_[target].number != number || sessions_[target].connected) {
    return;
  }
  FeedSession(target, number, "not connected", [&](auto& engine, auto& effects) {
    engine.TargetLost(engine::TargetId{target}, engine::Result(EIO), "no answer", Clock(), effects);
  });
}

Network::StreamEvents Frontend::EventsOf(uint32_t target, uint64_t number) {
  const engine::TargetId id{target};
  Network::StreamEvents events;
  events.connected = [this, life = life_, target, number, id](const engine::TargetHello& hello) {
    Enter(life, [this, target, number, id, hello] {
      if (sessions_[target].number == number) sessions_[target].connected = true;
      FeedSession(target, number, "connected", [&](auto& engine, auto& effects) {
        engine.TargetConnected(id, hello, Clock(), effects);
      });
    });
  };
  events.replied = [this, life = life_, target, number, id](engine::CloneId clone,
                                                            engine::CloneReply reply) {
    Enter(life, [this, target, number, id, clone, reply = std::move(reply)] {
      if (engine_ != nullptr && sessions_[target].number == number) {
        sessions_[target].answered_error |= reply.result == engine::Result(EIO);
      }
      FeedSession(target, number, "replied", [&](auto& engine, auto& effects) {
        Trace("  ", target, " c", static_cast<uint64_t>(clone), " ",
                           reply.result.error());
        engine.CloneCompleted(id, clone, reply, Clock(), effects);
      });
    });
  };
  events.space_changed = [this, life = life_, target, number, id](bool exhausted) {
    Enter(life, [this, target, number, id, exhausted] {
      FeedSession(target, number, "space", [&](auto& engine, auto& effects) {
        engine.TargetSpaceChanged(id, exhausted, Clock(), effects);
      });
    });
  };
  events.ponged = [this, life = life_, target, number, id](uint64_t ping) {
    Enter(life, [this, target, number, id, ping] {
      FeedSession(target, number, "pong", [&](auto& engine, auto& effects) {
        engine.TargetPonged(id, ping, Clock(), effects);
      });
    });
  };
  events.ended = [this, life = life_, target, number, id](engine::Result result,
                                                          std::string reason) {
    Enter(life, [this, target, number, id, result, reason] {
      FeedSession(target, number, "lost", [&](auto& engine, auto& effects) {
        engine.TargetLost(id, result, reason, Clock(), effects);
      });
    });
  };
  return events;
}

void Frontend::Disconnect(engine::TargetId id) {
  Session& session = sessions_[static_cast<uint32_t>(id)];
  parts_.network->LetGo(session.stream);
  session.stream = nullptr;
  ++session.number;
}

void Frontend::CommitMembers(const engine::CommitMembers& commit) {
  auto change = [this, commit](CatalogRecord record) { return WithMembers(std::move(record), commit); };
  CommitChange(std::move(change), [this](absl::Status status) {
    Feed("committed", [&](auto& engine, auto& effects) {
      engine.MembersCommitted(status, Clock(), effects);
    });
  });
}

void Frontend::CheckEpoch() {
  parts_.catalog->Get(index_, [this, life = life_, epoch = epoch()](absl::StatusOr<CatalogRecord> read) {
    Enter(life, [this, epoch, read] {
      if (epoch != this->epoch()) return;
      const bool taken = read.ok() && (read->volume.epoch != epoch || read->gone);
      const absl::Status status = taken ? absl::AbortedError("it was taken over, or deleted") : read.status();
      Feed("checked", [&](auto& engine, auto& effects) { engine.EpochChecked(status, Clock(), effects); });
    });
  });
}

void Frontend::CommitChange(Change change, std::function<void(absl::Status)> done) {
  changes_.emplace_back(std::move(change), std::move(done));
  if (changes_.size() == 1) CommitNext();
}

void Frontend::CommitNext() {
  Commit(&held_, changes_.front().first(record()), [this](absl::Status status) {
    const auto done = changes_.front().second;
    // What is known by now not to be there.
    if (status.ok()) {
      TellCopies();
      for (const Pin& pin : record().volume.pins) std::erase(doubtful_pins_, pin.id);
      for (uint64_t pin : std::exchange(doubtful_pins_, {})) DropPin(pin);
    }
    done(status);
    // Not before: what that has asked for waits its turn.
    changes_.pop_front();
    if (!changes_.empty()) CommitNext();
  });
}

// --- snapshots ---

void Frontend::TakeSnapshot(engine::ControlId id, uint64_t pin, absl::Duration deadline) {
  Enter(life_, [this, id, pin, deadline] {
    asked_pins_[static_cast<uint64_t>(id)] = pin;
    Feed("pin", [&](auto& engine, auto& effects) {
      engine.SetPin(id, pin, deadline, Clock(), effects);
    });
  });
}

void Frontend::PinIsSet(const engine::CompleteControl& control) {
  const auto asked = asked_pins_.find(static_cast<uint64_t>(control.id));
  if (asked == asked_pins_.end()) return;
  const Pin pin{asked->second, control.pinned};
  asked_pins_.erase(asked);
  if (!control.result.ok()) return;
  auto change = [pin](CatalogRecord next) {
    std::vector<Position>& floor = next.volume.floor;
    next.volume.pins.push_back(pin);
    for (size_t i = 0; i < floor.size(); ++i) floor[i] = std::max(floor[i], pin.positions[i]);
    return next;
  };
  // Not at once: the engine is still at work on what has brought this.
  Later(absl::ZeroDuration(), [this, change, id = pin.id] {
    CommitChange(change, [this, id](absl::Status status) {
      if (!status.ok()) doubtful_pins_.push_back(id);
    });
  });
}

void Frontend::Grow(engine::ControlId id, uint64_t size_blocks) {
  Enter(life_, [this, id, size_blocks] {
    asked_sizes_[static_cast<uint64_t>(id)] = size_blocks;
    Feed("grow", [&](auto& engine, auto& effects) {
      engine.Grow(id, size_blocks, Clock(), effects);
    });
  });
}

void Frontend::LockRange(engine::ControlId id, BlockRange range) {
  Enter(life_, [this, id, range] {
    Feed("lock", [&](auto& engine, auto& effects) { engine.LockRange(id, range, Clock(), effects); });
  });
}

void Frontend::UnlockRange() {
  Enter(life_, [this] {
    Feed("unlock", [&](auto& engine, auto& effects) { engine.UnlockRange(Clock(), effects); });
  });
}

void Frontend::HasRoom(const engine::CompleteControl& control) {
  const auto asked = asked_sizes_.find(static_cast<uint64_t>(control.id));
  if (asked == asked_sizes_.end()) return;
  const uint64_t size = asked->second;
  asked_sizes_.erase(asked);
  if (!control.result.ok()) return;
  auto change = [size](CatalogRecord next) {
    next.volume.size_blocks = std::max(next.volume.size_blocks, size);
    return next;
  };
  Later(absl::ZeroDuration(), [this, change] { CommitChange(change, [](const absl::Status&) {}); });
}

void Frontend::DropSnapshot(uint64_t pin) {
  Enter(life_, [this, pin] {
    auto change = [pin](CatalogRecord next) {
      std::erase_if(next.volume.pins, [pin](const Pin& known) { return known.id == pin; });
      return next;
    };
    CommitChange(std::move(change), [this, pin](absl::Status status) {
      if (status.ok()) DropPin(pin);
    });
  });
}

void Frontend::DropPin(uint64_t pin) {
  Feed("unpin", [&](auto& engine, auto& effects) { engine.DropPin(pin, Clock(), effects); });
}

// --- joins ---

void Frontend::JoinStepDone(uint64_t step, engine::JoinStepResult result) {
  Feed("join step", [&](auto& engine, auto& effects) {
    Trace("  step ", step, " ", result.status.ToString(), " left ",
                       result.blocks_left);
    engine.JoinStepDone(step, result, Clock(), effects);
  });
}

void Frontend::JoinStep(const engine::RunJoinStep& step) {
  if (step.kind == engine::RunJoinStep::Kind::kCopy) return CopyStep(step);
  if (step.kind == engine::RunJoinStep::Kind::kRepair) return CopyFrom(step, step.changes);
  if (step.kind == engine::RunJoinStep::Kind::kBegin) return UpdateToBegin(step);
  JoinCall(step);
}

// Two calls, as host/join_runner.cc's.
void Frontend::UpdateToBegin(const engine::RunJoinStep& step) {
  Call<absl::Status>(
      IndexOf(step.target_config.replica),
      [fence = FenceOf(step.target_config, step.incarnation),
       update = store::VolumeUpdate{step.version, step.size_blocks, step.pins}](ReplicaNode& node) {
        return node.UpdateVolume(fence, update);
      },
      [this, step](const absl::Status& updated) {
        if (updated.ok()) return JoinCall(step);
        engine::JoinStepResult result;
        result.status = updated;
        JoinStepDone(step.step, std::move(result));
      });
}

void Frontend::JoinCall(const engine::RunJoinStep& step) {
  Call<engine::JoinStepResult>(
      IndexOf(step.target_config.replica),
      [fence = FenceOf(step.target_config, step.incarnation), step](ReplicaNode& node) {
        return node.RunJoinStep(fence, step);
      },
      [this, step](engine::JoinStepResult result) { JoinStepDone(step.step, std::move(result)); });
}

void Frontend::CopyStep(const engine::RunJoinStep& step) {
  struct Left {
    absl::Status status;
    std::vector<BlockRange> ranges;
    uint64_t blocks = 0;
  };
  Call<Left>(
      IndexOf(step.target_config.replica),
      [fence = FenceOf(step.target_config, step.incarnation), step](ReplicaNode& node) {
        Left left;
        left.status = node.StillToCopy(fence, step, &left.ranges, &left.blocks);
        return left;
      },
      [this, step](Left left) {
        if (step.lost_too) {
          const bool is_there = std::any_of(left.ranges.begin(), left.ranges.end(),
                                            [&](const BlockRange& range) { return range.Overlaps(step.changes.front()); });
          left.ranges = is_there ? step.changes : std::vector<BlockRange>();
        }
        if (left.status.ok() && !left.ranges.empty()) return CopyFrom(step, left.ranges);
        engine::JoinStepResult result;
        result.status = left.status;
        result.blocks_left = left.blocks;
        JoinStepDone(step.step, std::move(result));
      });
}

void Frontend::CopyFrom(const engine::RunJoinStep& step, const std::vector<BlockRange>& ranges) {
  Call<absl::StatusOr<store::VersionsPart>>(
      IndexOf(step.source_config.replica),
      [fence = FenceOf(step.source_config, step.source_incarnation), step, ranges](ReplicaNode& node) {
        return node.ReadVersions(fence, step, ranges);
      },
      [this, step, first = ranges.front().first](absl::StatusOr<store::VersionsPart> part) {
        const bool loses_newest = part.ok() && !part->versions.empty() && part->versions.front().lost;
        if (step.kind == engine::RunJoinStep::Kind::kCopy && loses_newest && !step.newest_too) {
          part = ErrnoToStatus(EBADMSG, "its newest version is damaged");
        }
        if (part.ok()) return CopyInto(step, *std::move(part));
        engine::JoinStepResult result;
        result.status = part.status();
        result.first_block = first;
        JoinStepDone(step.step, std::move(result));
      });
}

void Frontend::CopyInto(const engine::RunJoinStep& step, store::VersionsPart part) {
  Call<engine::JoinStepResult>(
      IndexOf(step.target_config.replica),
      [fence = FenceOf(step.target_config, step.incarnation), step, part = std::move(part)](ReplicaNode& node) {
        return node.CopyIn(fence, step, part);
      },
      [this, step](engine::JoinStepResult result) { JoinStepDone(step.step, std::move(result)); });
}

void Frontend::ArmTimer() {
  if (engine_ == nullptr) return;
  const Time next = engine_->next_timer();
  if (next >= armed_ || next == absl::InfiniteDuration()) return;
  armed_ = next;
  // Timers are late, sometimes very.
  const absl::Duration late =
      parts_.dice->Percent(3) ? parts_.dice->Micros(0, 400000) : parts_.dice->Micros(0, 500);
  const Time when = next / clock_rate_ + late + absl::Microseconds(1);
  Later(when - parts_.agenda->now(), [this, next] {
    if (armed_ == next) armed_ = absl::InfiniteDuration();
    Feed("timer", [this](auto& engine, auto& effects) { engine.TimerFired(Clock(), effects); });
  });
}

}  // namespace weir::sim
