// VolumeRunner's sessions with replicas.
#include <cerrno>
#include <utility>

#include "volume/host/clock.h"
#include "volume/host/volume_record.h"
#include "volume/host/volume_runner.h"

namespace weir::host {
namespace {

// The wire's 64-bit session numbers rise over all volumes of this process.
std::atomic<uint64_t> next_session_number{1};

}  // namespace

template <typename Event>
void VolumeRunner::RunForSession(engine::TargetId target, uint64_t session,
                                 Event event) {
  bool dispatch = false;
  {
    absl::MutexLock lock(&mu_);
    if (engine_ == nullptr) return;
    TargetSlot& slot = slots_[target];
    if (slot.session != session || slot.lost) return;
    const size_t before = effects_.size();
    const engine::Time now = MonotonicNow();
    event(*engine_, slot, now, effects_);
    AfterEventLocked(before, now);
    dispatch = BecomeDispatcherLocked();
  }
  if (dispatch) Dispatch();
}

void VolumeRunner::Connect(const engine::ConnectTarget& connect) {
  DispatchedTarget& target = dispatched_[connect.target];
  if (target.stream != nullptr) {
    target.stream->End(engine::Result(ECONNRESET), "replaced by a new session");
  }
  const uint64_t session = ++target.session;
  target.stream = TargetSession::Make(SessionConfig(connect.config),
                                      SessionEvents(connect.target, session),
                                      config_.metrics);
  const std::weak_ptr<TargetSession> stream = target.stream;
  const engine::Time start = MonotonicNow() + connect.delay;
  if (connect.delay > absl::ZeroDuration()) {
    config_.timer->At(start, [weak = weak_from_this(), stream] {
      auto self = weak.lock();
      auto live = stream.lock();
      if (self != nullptr && live != nullptr) self->StartSession(*live);
    });
  } else {
    StartSession(*target.stream);
  }
  config_.timer->At(start + config_.connect_deadline, [stream] {
    if (auto live = stream.lock()) live->EndUnlessConnected();
  });
}

TargetSession::Config VolumeRunner::SessionConfig(const engine::TargetConfig& target) const {
  TargetSession::Config config;
  config.volume = config_.name;
  config.replica = target.replica;
  config.address = target.address;
  config.lanes = config_.engine.lanes.lanes;
  config.channels = config_.channels;
  config.tracer = tracer_;
  config.slow_log = slow_log_;
  v1::Fence* fence = config.hello.mutable_fence();
  *fence = NewFence(config_.cluster_id);
  fence->set_volume_id(config_.id);
  fence->set_store_id(target.store_id);
  fence->set_epoch(config_.engine.epoch);
  config.hello.set_session(next_session_number++);
  config.hello.set_frontend(config_.frontend);
  return config;
}

TargetSession::Events VolumeRunner::SessionEvents(engine::TargetId id,
                                                  uint64_t session) {
  TargetSession::Events events;
  const std::weak_ptr<VolumeRunner> weak = weak_from_this();
  events.connected = [weak, id, session](const engine::TargetHello& hello) {
    auto self = weak.lock();
    if (self == nullptr) return;
    self->RunForSession(id, session, [&](auto& engine, auto& slot, auto now,
                                         auto& effects) {
      engine.TargetConnected(id, hello, now, effects);
    });
  };
  events.replied = [weak, id, session](std::vector<CompletedClone> replies) {
    auto self = weak.lock();
    if (self == nullptr) return;
    self->RunForSession(id, session, [&](auto& engine, auto& slot, auto now,
                                         auto& effects) {
      for (auto& [clone, reply] : replies) {
        engine.CloneCompleted(id, clone, std::move(reply), now, effects);
      }
    });
  };
  events.space_changed = [weak, id, session](bool exhausted) {
    auto self = weak.lock();
    if (self == nullptr) return;
    self->RunForSession(id, session, [&](auto& engine, auto& slot, auto now,
                                         auto& effects) {
      engine.TargetSpaceChanged(id, exhausted, now, effects);
    });
  };
  events.ponged = [weak, id, session](uint64_t ping) {
    auto self = weak.lock();
    if (self == nullptr) return;
    self->RunForSession(id, session, [&](auto& engine, auto& slot, auto now,
                                         auto& effects) {
      engine.TargetPonged(id, ping, now, effects);
    });
  };
  // Holds the runner, since Stop waits for this.
  events.ended = [self = shared_from_this(), id, session](
                     engine::Result result, std::string reason) {
    self->RunForSession(id, session, [&](auto& engine, auto& slot, auto now,
                                         auto& effects) {
      slot.lost = true;
      engine.TargetLost(id, result, std::move(reason), now, effects);
    });
    self->SessionGone();
  };
  return events;
}

void VolumeRunner::StartSession(TargetSession& session) {
  {
    absl::MutexLock lock(&mu_);
    if (engine_ == nullptr) return;
    ++live_sessions_;
  }
  if (!session.Start()) SessionGone();
}

void VolumeRunner::SessionGone() {
  absl::MutexLock lock(&mu_);
  --live_sessions_;
}

void VolumeRunner::Disconnect(const engine::DisconnectTarget& disconnect) {
  DispatchedTarget& target = dispatched_[disconnect.target];
  ++target.session;
  if (target.stream == nullptr) return;
  target.stream->End(engine::Result(ECONNRESET), disconnect.reason);
  target.stream = nullptr;
}

void VolumeRunner::KickSessions() {
  for (auto& [id, target] : dispatched_) {
    if (!target.kick) continue;
    target.kick = false;
    if (target.stream != nullptr) target.stream->Kick();
  }
}

}  // namespace weir::host
