// Random volumes under random faults, in virtual time, judged from outside.
// Everything follows from the seed; WEIR_MODEL_SEED=N plays one with its trace,
// WEIR_MODEL_SEEDS=N plays so many.
#include <cerrno>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "gtest/gtest.h"
#include "proto/base/check.h"
#include "volume/engine/engine.h"
#include "volume/engine/model_judge.h"
#include "volume/engine/model_replica.h"

namespace weir::engine {
namespace {

constexpr uint64_t kBlocks = 32;
constexpr uint64_t kRequests = 120;
constexpr size_t kEffectsMax = 2000;  // of one event; more is a loop
constexpr absl::Duration kHealAfter = absl::Seconds(12);
constexpr absl::Duration kDoneWithin = absl::Seconds(120);

class Dice {
 public:
  explicit Dice(uint64_t seed) : random_(seed) {}
  uint64_t Below(uint64_t n) { return random_() % n; }
  bool Percent(uint64_t p) { return Below(100) < p; }
  absl::Duration Micros(uint64_t from, uint64_t to) {
    return absl::Microseconds(from + Below(to - from));
  }

 private:
  std::mt19937_64 random_;
};

// What may go wrong in this run, by percent of clones or as a yes or no.
struct Faults {
  bool on = true;
  uint64_t requeue_percent = 0;
  uint64_t drop_percent = 0;
  uint64_t bad_block_percent = 0;
  uint64_t vain_flush_percent = 0;  // OK below the flush's position
  bool errors = false;
  bool fences = false;
};

struct Session {
  uint64_t id = 0;          // raised by every connect and disconnect effect
  bool connected = false;   // as the engine was told
  bool broken = false;      // nothing comes through any more, the engine will be told
  Time last_arrival{};
  std::set<CloneId> inflight;
};

class World {
 public:
  World(uint64_t seed, bool tracing);
  std::string Run();  // what was violated; empty: nothing
  const std::vector<std::string>& trace() const { return trace_; }

 private:
  using Event = std::function<void(Effects&)>;
  void At(Time when, std::function<void()> what) {
    agenda_.emplace(std::make_pair(when, ++agenda_turn_), std::move(what));
  }
  void Feed(const std::string& name, const Event& event);
  void CarryOut(Effect& effect, const EngineView& view);
  void CheckAfter(size_t effects);
  void Trace(const std::string& line) {
    if (tracing_) trace_.push_back(absl::StrCat(absl::FormatDuration(now_), " ", line));
  }

  void SubmitSome();
  Request RandomRequest();
  void ControlSome();
  void RestoreSome();
  void ControlDone(const CompleteControl& done);
  Table RandomTable(const EngineView& view);

  void Connect(uint32_t target, absl::Duration delay);
  void Hello(uint32_t target, uint64_t session);
  void Lose(uint32_t target, const std::string& why);
  void Arrive(uint32_t target, uint64_t session, Clone clone);
  CloneReply Serve(ModelReplica& replica, const Clone& clone);
  void ServeFlush(uint32_t target, uint64_t session, const Clone& clone);
  void Reply(uint32_t target, uint64_t session, CloneId clone, CloneReply reply);
  int FaultFor(const Clone& clone);
  void FaultSome();
  void Heal();

  Dice dice_;
  const bool tracing_;
  std::vector<std::string> trace_;
  Time now_ = absl::Seconds(1000);
  const Time heal_at_ = now_ + kHealAfter;
  std::map<std::pair<Time, uint64_t>, std::function<void()>> agenda_;
  uint64_t agenda_turn_ = 0;
  Time armed_ = absl::InfiniteDuration();

  Options options_;
  Faults faults_;
  uint64_t credit_ = 0;
  std::vector<bool> can_flush_;
  std::vector<bool> has_not_flushed_;  // it has ever answered that it cannot
  std::vector<ModelReplica> replicas_;
  std::vector<uint64_t> lives_;  // raised by every crash
  std::vector<Time> away_until_;
  std::vector<Session> sessions_;
  std::unique_ptr<Judge> judge_;
  std::unique_ptr<Engine> engine_;

  uint64_t submitted_ = 0;
  uint64_t next_control_ = 1;
  enum class Control { kNone, kSuspend, kLoad, kResume, kRestore, kRestored } control_ = Control::kNone;
  // Nothing may be sent: from where a noflush suspend is asked for, else from the
  // suspend's answer, until the resume is answered.
  bool quiet_ = false;
  bool restores_ = false;  // only what restores the volume may be answered
  RequestId restoring_request_{};
  bool given_up_ = false;
};

World::World(uint64_t seed, bool tracing) : dice_(seed), tracing_(tracing) {
  options_.size_blocks = kBlocks;
  options_.lanes = LaneGeometry{.lanes = 2, .stripe_blocks = 4};
  options_.epoch = kModelEpoch;
  options_.hold_deadline = absl::Seconds(2);
  options_.reconnect_delay = absl::Milliseconds(50);
  options_.requeue_deadline = absl::Seconds(1);
  options_.clone_deadline = absl::Milliseconds(300);
  options_.flush_interval = absl::Milliseconds(dice_.Percent(50) ? 200 : 100000);
  options_.replay_bytes_max = (dice_.Percent(50) ? 48 : 4096) << 10;
  options_.flush_bytes = options_.replay_bytes_max / 3;
  credit_ = (dice_.Percent(30) ? 8 : 1024) << 10;
  const size_t targets = 1 + dice_.Below(3);
  faults_.requeue_percent = dice_.Percent(50) ? dice_.Below(20) : 0;
  faults_.drop_percent = dice_.Percent(30) ? 1 : 0;
  faults_.bad_block_percent = dice_.Percent(20) ? 5 : 0;
  faults_.vain_flush_percent = dice_.Percent(30) ? 10 : 0;
  faults_.errors = dice_.Percent(25);
  faults_.fences = dice_.Percent(3);
  Table table;
  for (size_t i = 0; i < targets; ++i) {
    ModelReplica replica;
    replica.domains = 1 + dice_.Below(2);
    replica.lanes.resize(options_.lanes.lanes);
    replicas_.push_back(replica);
    can_flush_.push_back(!dice_.Percent(4));
    has_not_flushed_.push_back(!can_flush_.back());
    const std::string name(1, static_cast<char>('a' + i));
    table.targets.push_back({.replica = name, .address = name + ":1", .store_id = "store"});
  }
  lives_.resize(targets);
  away_until_.resize(targets);
  sessions_.resize(targets);
  judge_ = std::make_unique<Judge>(options_.lanes, kBlocks, &replicas_);
  CHECK_OK(options_.Validate());
  Effects effects;
  engine_ = std::make_unique<Engine>(options_, table, now_, effects);
  const EngineView view = engine_->View();
  for (Effect& effect : effects) CarryOut(effect, view);
}

std::string World::Run() {
  At(now_, [this] { SubmitSome(); });
  At(now_ + dice_.Micros(0, 2000000), [this] { ControlSome(); });
  At(now_ + dice_.Micros(0, 500000), [this] { FaultSome(); });
  At(heal_at_, [this] { Heal(); });
  while (judge_->violation().empty()) {
    const bool healed = now_ >= heal_at_;
    if (healed && judge_->open_requests() == 0 && submitted_ == kRequests) return "";
    if (given_up_) return "";
    if (agenda_.empty()) return "nothing is due and requests are open";
    if (agenda_.begin()->first.first > heal_at_ + kDoneWithin) {
      return absl::StrCat(judge_->open_requests(), " requests are open long after the faults");
    }
    auto next = agenda_.extract(agenda_.begin());
    now_ = std::max(now_, next.key().first);
    next.mapped()();
  }
  return judge_->violation();
}

void World::Feed(const std::string& name, const Event& event) {
  Trace(absl::StrCat("> ", name));
  Effects effects;
  event(effects);
  const EngineView view = engine_->View();
  for (Effect& effect : effects) CarryOut(effect, view);
  judge_->AfterEvent(view);
  if (effects.size() > kEffectsMax) judge_->Violated("an event had no end of effects");
  const Time next = engine_->next_timer();
  if (next <= now_) judge_->Violated("the timer is due in the past");
  if (next >= armed_) return;
  armed_ = next;
  // Timers are late, sometimes very.
  const Time fires = next + (dice_.Percent(5) ? dice_.Micros(0, 400000) : dice_.Micros(0, 500));
  At(fires, [this, next] {
    if (armed_ == next) armed_ = absl::InfiniteDuration();
    if (now_ >= engine_->next_timer()) {
      Feed("timer", [this](Effects& e) { engine_->TimerFired(now_, e); });
    } else {
      Feed("timer in vain", [this](Effects& e) { engine_->TimerFired(now_, e); });
    }
  });
}

void World::CarryOut(Effect& effect, const EngineView& view) {
  if (auto* send = std::get_if<SendClone>(&effect)) {
    const auto target = static_cast<uint32_t>(send->target);
    Session& session = sessions_[target];
    Trace(absl::StrCat("  send ", target, " c", static_cast<uint64_t>(send->clone.id), " kind ",
                       static_cast<int>(send->clone.kind), " ", send->clone.range.first, "+",
                       send->clone.range.count, " at ", send->clone.position.ToString(), " nr ",
                       send->clone.flush_nr));
    if (!session.connected) judge_->Violated("a clone was sent to a target without a session");
    if (quiet_) judge_->Violated("a clone was sent while suspended");
    judge_->Sent(*send, view);
    session.inflight.insert(send->clone.id);
    session.last_arrival = std::max(session.last_arrival, now_ + dice_.Micros(10, 3000));
    At(session.last_arrival, [this, target, id = session.id, clone = std::move(send->clone)] {
      Arrive(target, id, clone);
    });
  } else if (auto* done = std::get_if<CompleteRequest>(&effect)) {
    Trace(absl::StrCat("  complete ", static_cast<uint64_t>(done->id), " ", done->result.error(),
                       " ", done->message));
    judge_->Completed(*done, view);
    if (!restores_ || view.state == EngineView::State::kFenced) return;
    if (done->id != restoring_request_) judge_->Violated("a client was answered while the volume is restored");
    At(now_ + dice_.Micros(0, 2000), [this] { RestoreSome(); });
  } else if (auto* connect = std::get_if<ConnectTarget>(&effect)) {
    Trace(absl::StrCat("  connect ", static_cast<uint32_t>(connect->target)));
    Connect(static_cast<uint32_t>(connect->target), connect->delay);
  } else if (auto* end = std::get_if<DisconnectTarget>(&effect)) {
    Trace(absl::StrCat("  disconnect ", static_cast<uint32_t>(end->target), " ", end->reason));
    // For one that cannot flush nothing is kept; what it has lost it has lost.
    if (absl::StrContains(end->reason, "came back with") &&
        !has_not_flushed_[static_cast<uint32_t>(end->target)]) {
      judge_->Violated("a replica that lost nothing it had synced was refused");
    }
    Session& session = sessions_[static_cast<uint32_t>(end->target)];
    session = Session{.id = session.id + 1};
  } else if (auto* control = std::get_if<CompleteControl>(&effect)) {
    Trace(absl::StrCat("  control ", control->result.error(), " ", control->message));
    ControlDone(*control);
  } else if (auto* ping = std::get_if<PingTarget>(&effect)) {
    const auto target = static_cast<uint32_t>(ping->target);
    At(now_ + dice_.Micros(20, 6000), [this, target, id = sessions_[target].id, ping = *ping] {
      const Session& session = sessions_[target];
      if (session.id != id || session.broken || !session.connected) return;
      Feed("pong", [&](Effects& e) { engine_->TargetPonged(ping.target, ping.ping, now_, e); });
    });
  } else if (std::holds_alternative<CommitMembers>(effect)) {
    Trace("  commit");
    const bool fails = faults_.on && dice_.Percent(20);
    At(now_ + dice_.Micros(100, 50000), [this, fails] {
      Feed("committed", [this, fails](Effects& e) {
        engine_->MembersCommitted(
            fails ? absl::UnavailableError("no catalog") : absl::OkStatus(), now_, e);
      });
    });
  } else if (std::holds_alternative<CheckEpoch>(effect)) {
    const bool fails = faults_.on && dice_.Percent(20);
    At(now_ + dice_.Micros(100, 50000), [this, fails] {
      Feed("checked", [this, fails](Effects& e) {
        engine_->EpochChecked(fails ? absl::UnavailableError("no catalog") : absl::OkStatus(), now_, e);
      });
    });
  }
}

// --- clients ---

Request World::RandomRequest() {
  static constexpr RequestKind kKinds[] = {
      RequestKind::kWrite, RequestKind::kWrite,       RequestKind::kWrite,   RequestKind::kRead,
      RequestKind::kRead,  RequestKind::kRead,        RequestKind::kFlush,   RequestKind::kBarrier,
      RequestKind::kRead,  RequestKind::kWriteZeroes, RequestKind::kDiscard, RequestKind::kExtents};
  Request request;
  request.id = RequestId{submitted_ + 1};  // 0 stands for zeros
  request.kind = kKinds[dice_.Below(12)];
  if (request.kind == RequestKind::kFlush) return request;
  request.range.first = dice_.Below(kBlocks);
  request.range.count = 1 + dice_.Below(std::min<uint64_t>(6, kBlocks - request.range.first));
  const bool data = request.kind == RequestKind::kWrite || request.kind == RequestKind::kBarrier;
  request.fua = request.kind != RequestKind::kRead && request.kind != RequestKind::kExtents &&
                dice_.Percent(15);
  if (!data) return request;
  std::string bytes(request.range.count * kBlockBytes, '\0');
  const auto value = static_cast<uint64_t>(request.id);
  for (uint64_t i = 0; i < request.range.count; ++i) {
    std::memcpy(&bytes[i * kBlockBytes], &value, sizeof(value));
  }
  request.data = Payload::CopyOf(bytes);
  request.crcs.assign(request.range.count, 0);
  return request;
}

void World::SubmitSome() {
  for (uint64_t burst = 1 + dice_.Below(6); burst > 0 && submitted_ < kRequests; --burst) {
    Request request = RandomRequest();
    ++submitted_;
    judge_->Submitted(request);
    Feed(absl::StrCat("submit ", static_cast<uint64_t>(request.id), " kind ",
                      static_cast<int>(request.kind), " ", request.range.first, "+",
                      request.range.count, request.fua ? " fua" : ""),
         [&](Effects& e) { engine_->Submit(request, now_, e); });
  }
  if (submitted_ == kRequests) return;
  const bool pause = dice_.Percent(10);
  At(now_ + (pause ? dice_.Micros(0, 2000000) : dice_.Micros(0, 20000)), [this] { SubmitSome(); });
}

// One control at a time; what follows is decided when it is answered.
void World::ControlSome() {
  if (!faults_.on) return;
  const ControlId id{next_control_++};
  const bool noflush = dice_.Percent(50);
  const absl::Duration deadline = dice_.Micros(1000, 1500000);
  control_ = Control::kSuspend;
  quiet_ = noflush && engine_->View().state == EngineView::State::kActive;
  Feed(noflush ? "suspend noflush" : "suspend", [&](Effects& e) {
    engine_->Suspend(id, noflush, deadline, now_, e);
  });
}

// A few writes that restore, one after the other, then the end; or the beginning anew.
void World::RestoreSome() {
  if (dice_.Percent(60) && submitted_ < kRequests) {
    Request request = RandomRequest();
    // The judge finds zeroes by the order of the queue, which these do not keep to.
    while (request.kind != RequestKind::kWrite && request.kind != RequestKind::kFlush) request = RandomRequest();
    request.in_lock = true;
    ++submitted_;
    judge_->Submitted(request);
    restoring_request_ = request.id;
    Feed(absl::StrCat("submit to restore ", static_cast<uint64_t>(request.id), " kind ",
                      static_cast<int>(request.kind), " ", request.range.first, "+", request.range.count),
         [&](Effects& e) { engine_->Submit(request, now_, e); });
    return;
  }
  const bool ends = dice_.Percent(80);
  control_ = ends ? Control::kRestored : Control::kRestore;
  const absl::Duration deadline = dice_.Micros(1000, 1500000);
  Feed(ends ? "restored" : "restore anew", [&](Effects& e) {
    const ControlId id{next_control_++};
    ends ? engine_->EndRestore(id, deadline, now_, e) : engine_->StartRestore(id, deadline, now_, e);
  });
}

void World::ControlDone(const CompleteControl& done) {
  const Control was = std::exchange(control_, Control::kNone);
  const absl::Duration pause = dice_.Micros(0, faults_.on ? 600000 : 1000);
  const bool is_suspended = engine_->View().state == EngineView::State::kSuspended;
  if (was == Control::kSuspend) quiet_ = done.result.ok();
  if (was == Control::kResume && done.result.ok()) quiet_ = false;
  if (was == Control::kRestore || was == Control::kRestored) quiet_ = is_suspended;
  restores_ = engine_->View().state == EngineView::State::kRestoring;
  if (restores_) {
    // A member has failed for good: there is no way but to detach the volume.
    given_up_ = !faults_.on && !done.result.ok() && done.result != Result(ETIMEDOUT);
    At(now_ + pause, [this] { RestoreSome(); });
    return;
  }
  if (was == Control::kSuspend && done.result.ok()) {
    for (const Session& session : sessions_) {
      if (!session.inflight.empty()) judge_->Violated("suspended with a clone in flight");
    }
  }
  if (!is_suspended) {
    At(now_ + pause * 3, [this] { ControlSome(); });
    return;
  }
  if (was == Control::kSuspend && dice_.Percent(50)) {
    At(now_ + pause, [this] {
      control_ = Control::kLoad;
      Table table = RandomTable(engine_->View());
      Feed("load", [&](Effects& e) {
        engine_->LoadTable(ControlId{next_control_++}, std::move(table), now_, e);
      });
    });
    return;
  }
  // Whoever cannot flush would never let it end.
  const bool all_flush = std::find(can_flush_.begin(), can_flush_.end(), false) == can_flush_.end();
  if (was == Control::kSuspend && all_flush && dice_.Percent(50)) {
    At(now_ + pause, [this] {
      control_ = Control::kRestore;
      quiet_ = false;
      const absl::Duration deadline = dice_.Micros(1000, 1500000);
      Feed("restore", [&](Effects& e) {
        engine_->StartRestore(ControlId{next_control_++}, deadline, now_, e);
      });
    });
    return;
  }
  At(now_ + pause, [this] {
    control_ = Control::kResume;
    Feed("resume", [this](Effects& e) { engine_->Resume(ControlId{next_control_++}, now_, e); });
  });
}

Table World::RandomTable(const EngineView& view) {
  Table table;
  for (const TargetView& target : view.targets) {
    TargetConfig config = target.config;
    const bool bad = target.health == TargetView::Health::kFailed || target.overdue;
    if (target.health == TargetView::Health::kOut || dice_.Percent(bad ? 70 : 5)) {
      config.state = TargetState::kOut;
      config.stays_out = true;
    } else if (dice_.Percent(10)) {
      config.address += "1";
    }
    table.targets.push_back(config);
  }
  return table;
}

// --- sessions and replicas ---

void World::Connect(uint32_t target, absl::Duration delay) {
  Session& session = sessions_[target];
  session = Session{.id = session.id + 1};
  At(now_ + delay + dice_.Micros(100, 5000), [this, target, id = session.id] {
    Hello(target, id);
  });
}

void World::Hello(uint32_t target, uint64_t id) {
  Session& session = sessions_[target];
  if (session.id != id) return;
  if (faults_.on && (now_ < away_until_[target] || dice_.Percent(20))) {
    return Lose(target, "refused");
  }
  TargetHello hello;
  ModelReplica& replica = replicas_[target];
  hello.incarnation = 1 + lives_[target];
  hello.num_flush_requests = replica.domains;
  hello.inflight_bytes_max = credit_;
  hello.flush_supported = can_flush_[target];
  for (uint32_t lane = 0; lane < replica.lanes.size(); ++lane) {
    const ModelReplica::Lane& at = replica.lanes[lane];
    hello.lanes.push_back({Position(kModelEpoch, at.applied),
                           Position(kModelEpoch, dice_.Percent(50) ? at.synced : 0),
                           replica.DomainOf(lane)});
    judge_->Reported(target, lane, at.applied);
  }
  session.connected = true;
  Feed(absl::StrCat("hello of ", target, " at ", replica.lanes[0].applied, ",",
                    replica.lanes[1].applied),
       [&](Effects& e) { engine_->TargetConnected(TargetId{target}, hello, now_, e); });
}

void World::Lose(uint32_t target, const std::string& why) {
  Session& session = sessions_[target];
  if (session.broken) return;
  session.broken = true;
  const uint64_t id = session.id;
  At(now_ + dice_.Micros(0, 1000), [this, target, id, why] {
    if (sessions_[target].id != id) return;
    sessions_[target].inflight.clear();
    sessions_[target].connected = false;
    Feed(absl::StrCat("lost ", target, " ", why), [&](Effects& e) {
      engine_->TargetLost(TargetId{target}, Result(ECONNRESET), why, now_, e);
    });
  });
}

int World::FaultFor(const Clone& clone) {
  if (!faults_.on) return 0;
  if (dice_.Percent(faults_.requeue_percent)) return EAGAIN;
  if (faults_.errors && dice_.Below(150) == 0) return dice_.Percent(50) ? EIO : EOPNOTSUPP;
  if (faults_.fences && dice_.Below(300) == 0) return ESTALE;
  if (clone.kind == RequestKind::kRead && dice_.Percent(faults_.bad_block_percent)) return EBADMSG;
  return 0;
}

void World::Arrive(uint32_t target, uint64_t id, Clone clone) {
  if (sessions_[target].id != id || sessions_[target].broken) return;
  if (faults_.on && dice_.Percent(faults_.drop_percent)) return Trace("dropped");
  if (const int error = FaultFor(clone); error != 0) {
    CloneReply reply;
    reply.result = Result(error);
    reply.message = "injected";
    if (error == EOPNOTSUPP) has_not_flushed_[target] = true;
    if (clone.kind == RequestKind::kFlush && reply.result.kind() == Result::Kind::kError) {
      // Counted once the engine has been told.
      At(now_ + absl::Microseconds(1), [this, target, id, clone, reply] {
        const Session& session = sessions_[target];
        if (session.id != id || session.broken) return;
        judge_->FlushError(target);
        Reply(target, id, clone.id, reply);
      });
      return;
    }
    return At(now_ + dice_.Micros(1, 2000), [this, target, id, clone, reply] {
      Reply(target, id, clone.id, reply);
    });
  }
  if (clone.kind == RequestKind::kFlush) return ServeFlush(target, id, clone);
  CloneReply reply = Serve(replicas_[target], clone);
  // Answers overtake each other.
  At(now_ + dice_.Micros(10, 4000), [this, target, id, clone, reply] {
    if (reply.result.ok() && sessions_[target].id == id && !sessions_[target].broken &&
        clone.position.n() > 0) {
      judge_->Reported(target, Index(clone.lane), clone.position.n());
    }
    Reply(target, id, clone.id, reply);
  });
}

CloneReply World::Serve(ModelReplica& replica, const Clone& clone) {
  CloneReply reply;
  const uint32_t lane = Index(clone.lane);
  if (clone.kind == RequestKind::kRead || clone.kind == RequestKind::kExtents) {
    std::string bytes(clone.range.count * kBlockBytes, '\0');
    uint64_t newest = 0;
    for (uint64_t i = 0; i < clone.range.count; ++i) {
      const History::Version version =
          judge_->history().At(clone.range.first + i, replica.lanes[lane].applied);
      newest = std::max(newest, version.n);
      std::memcpy(&bytes[i * kBlockBytes], &version.value, sizeof(version.value));
    }
    reply.position = newest > 0 ? Position(kModelEpoch, newest) : Position(kModelEpoch - 1, 9);
    reply.data = Payload::CopyOf(bytes);
    reply.extents.push_back(engine::Run{clone.range.count, true});
    return reply;
  }
  if (!replica.Apply(clone)) {
    reply.result = Result(EAGAIN);  // a gap
    return reply;
  }
  // An answer without the durable position promises nothing.
  if (clone.fua && !(faults_.on && dice_.Percent(faults_.vain_flush_percent))) {
    replica.Sync(lane, clone.position.n());
    reply.durable = {{clone.lane, Position(kModelEpoch, replica.lanes[lane].synced)}};
  }
  return reply;
}

void World::ServeFlush(uint32_t target, uint64_t id, const Clone& clone) {
  ModelReplica& replica = replicas_[target];
  CloneReply reply;
  if (!can_flush_[target]) reply.result = Result(EOPNOTSUPP);
  std::vector<uint64_t> began;  // what is applied when the sync begins
  for (const ModelReplica::Lane& lane : replica.lanes) began.push_back(lane.applied);
  const bool vain = faults_.on && dice_.Percent(faults_.vain_flush_percent);
  const uint64_t life = lives_[target];
  At(now_ + dice_.Micros(200, 6000), [=, this, &replica]() mutable {
    if (life != lives_[target]) return;
    for (uint32_t lane = 0; lane < began.size() && reply.result.ok() && !vain; ++lane) {
      if (replica.DomainOf(lane) != clone.flush_nr) continue;
      replica.Sync(lane, began[lane]);
      reply.durable.emplace_back(LaneId{lane}, Position(kModelEpoch, began[lane]));
    }
    Reply(target, id, clone.id, reply);
  });
}

void World::Reply(uint32_t target, uint64_t id, CloneId clone, CloneReply reply) {
  Session& session = sessions_[target];
  const bool old = session.id != id;
  if (!old && session.broken) return;
  // The host keeps back replies of old sessions; the engine must not care if one slips through.
  if (old && !dice_.Percent(10)) return;
  if (!old) {
    session.inflight.erase(clone);
    for (const auto& [lane, position] : reply.durable) {
      judge_->Reported(target, Index(lane), position.n());
    }
  }
  Feed(absl::StrCat(old ? "old " : "", "reply of ", target, " to c", static_cast<uint64_t>(clone),
                    " ", reply.result.error()),
       [&](Effects& e) {
         engine_->CloneCompleted(TargetId{target}, clone, std::move(reply), now_, e);
       });
}

// --- faults ---

void World::FaultSome() {
  if (!faults_.on) return;
  const uint32_t target = dice_.Below(replicas_.size());
  switch (dice_.Below(4)) {
    case 0: {  // power: what was not synced is gone, to a point of each lane's own
      Trace(absl::StrCat("power ", target));
      ++lives_[target];
      for (ModelReplica::Lane& lane : replicas_[target].lanes) {
        lane.applied = lane.synced + dice_.Below(lane.applied - lane.synced + 1);
      }
      if (sessions_[target].connected) Lose(target, "power");
      break;
    }
    case 1:  // the process or the network: nothing is lost
      if (sessions_[target].connected) Lose(target, "reset");
      break;
    case 2:
      if (!sessions_[target].connected) break;
      Feed(absl::StrCat("space ", target), [&](Effects& e) {
        engine_->TargetSpaceChanged(TargetId{target}, dice_.Percent(30), now_, e);
      });
      break;
    case 3:  // away for long, perhaps for too long
      if (dice_.Percent(50)) away_until_[target] = now_ + dice_.Micros(0, 3000000);
      if (sessions_[target].connected) Lose(target, "partition");
      break;
  }
  At(now_ + dice_.Micros(0, 1500000), [this] { FaultSome(); });
}

void World::Heal() {
  Trace("healed");
  faults_.on = false;
  for (uint32_t target = 0; target < replicas_.size(); ++target) {
    Feed("space for all", [&](Effects& e) {
      engine_->TargetSpaceChanged(TargetId{target}, false, now_, e);
    });
  }
}

std::string Play(uint64_t seed, bool tracing, std::vector<std::string>* trace) {
  World world(seed, tracing);
  std::string violation = world.Run();
  *trace = world.trace();
  return violation;
}

TEST(ModelTest, NoSeedFindsAViolation) {
  uint64_t first = 1;
  uint64_t seeds = 2000;
  const char* one = std::getenv("WEIR_MODEL_SEED");
  const char* many = std::getenv("WEIR_MODEL_SEEDS");
  if (many != nullptr) ASSERT_TRUE(absl::SimpleAtoi(many, &seeds));
  if (one != nullptr) {
    ASSERT_TRUE(absl::SimpleAtoi(one, &first));
    seeds = 1;
  }
  std::vector<std::string> trace;
  for (uint64_t seed = first; seed < first + seeds; ++seed) {
    const std::string violation = Play(seed, one != nullptr, &trace);
    if (violation.empty()) continue;
    Play(seed, /*tracing=*/true, &trace);
    const size_t tail = trace.size() > 400 ? trace.size() - 400 : 0;
    FAIL() << "seed " << seed << ": " << violation << "\n"
           << absl::StrJoin(trace.begin() + tail, trace.end(), "\n");
  }
}

}  // namespace
}  // namespace weir::engine
