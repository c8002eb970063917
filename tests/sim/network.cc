#include "tests/sim/network.h"

#include <algorithm>
#include <cerrno>

#include "proto/base/errno.h"
#include "replica/server/sessions.h"

namespace weir::sim {
namespace {

constexpr absl::Duration kCallDeadline = absl::Milliseconds(500);
// When the kernel gives up on a half-open connection, at the latest.
constexpr uint64_t kHalfOpenMicros = 3000000;

}  // namespace

// The replica's sessions call End on it.
class Network::Stream final : public replica::SessionOwner,
                              public std::enable_shared_from_this<Network::Stream> {
 public:
  Stream(Network* network, uint32_t frontend, uint32_t replica, StreamEvents events)
      : network(network), frontend(frontend), replica(replica), events(std::move(events)) {}

  void End(const absl::Status& why) override { network->EndFromReplica(shared_from_this(), why); }
  void SpaceChanged() override {}

  Network* const network;
  const uint32_t frontend;
  const uint32_t replica;
  StreamEvents events;
  uint64_t replica_life = 0;
  bool broken = false;   // nothing comes through any more
  bool let_go = false;   // the frontend hears no more
  std::shared_ptr<replica::Session> session;
  Time last_up{};
  Time last_down{};
};

// --- links ---

Network::Link& Network::LinkOf(uint32_t frontend, uint32_t replica) {
  if (frontend >= links_.size()) links_.resize(frontend + 1);
  links_[frontend].resize(replicas_->size());
  return links_[frontend][replica];
}

void Network::CutToReplica(uint32_t frontend, uint32_t replica, Time until) {
  LinkOf(frontend, replica).to_replica_cut_until = until;
}

void Network::CutToFrontend(uint32_t frontend, uint32_t replica, Time until) {
  LinkOf(frontend, replica).to_frontend_cut_until = until;
}

void Network::Heal() {
  for (auto& row : links_) std::fill(row.begin(), row.end(), Link());
  replica_delay_.clear();
  halts_.clear();
  slow_per_mille_ = duplicate_per_mille_ = 0;
}

bool Network::ReachesReplica(uint32_t frontend, uint32_t replica) {
  return agenda_->now() >= LinkOf(frontend, replica).to_replica_cut_until;
}

bool Network::ReachesFrontend(uint32_t frontend, uint32_t replica) {
  return agenda_->now() >= LinkOf(frontend, replica).to_frontend_cut_until;
}

void Network::set_replica_delay(uint32_t replica, absl::Duration delay) {
  replica_delay_.resize(replicas_->size());
  replica_delay_[replica] = delay;
}

Network::Halt& Network::HaltOf(uint32_t replica) {
  halts_.resize(replicas_->size());
  return halts_[replica];
}

void Network::FreezeReplica(uint32_t replica, Time until) { HaltOf(replica).frozen_until = until; }

void Network::HangSyncs(uint32_t replica, Time until) { HaltOf(replica).syncs_hang_until = until; }

Time Network::Arrival(uint32_t replica) {
  return std::max(agenda_->now() + Delay(replica), HaltOf(replica).frozen_until);
}

absl::Duration Network::Delay(uint32_t replica) {
  absl::Duration delay = dice_->Micros(50, 2000);
  if (dice_->PerMille(slow_per_mille_)) delay += dice_->Micros(0, 1000000);
  if (replica < replica_delay_.size()) delay += replica_delay_[replica];
  return delay;
}

// --- unary calls ---

void Network::Call(uint32_t frontend, uint32_t replica, std::function<void(ReplicaNode&)> call,
                   std::function<void(absl::Status)> done) {
  auto answered = std::make_shared<bool>(false);
  auto answer = [answered, done = std::move(done)](absl::Status status) {
    if (std::exchange(*answered, true)) return;
    done(std::move(status));
  };
  agenda_->After(kCallDeadline, [answer] { answer(absl::DeadlineExceededError("no answer")); });
  if (!ReachesReplica(frontend, replica)) return;
  auto arrive = [this, frontend, replica, call = std::move(call), answer] {
    ReplicaNode& node = *(*replicas_)[replica];
    const bool up = node.up();
    if (up) call(node);
    if (!ReachesFrontend(frontend, replica)) return;
    agenda_->After(Delay(replica), [answer, up] {
      answer(up ? absl::OkStatus() : absl::UnavailableError("connection refused"));
    });
  };
  if (dice_->PerMille(duplicate_per_mille_)) agenda_->After(Delay(replica) * 3, arrive);
  agenda_->At(Arrival(replica), std::move(arrive));
}

// --- streams ---

template <typename Arrive>
void Network::Up(const std::shared_ptr<Stream>& stream, Arrive arrive) {
  if (stream->broken) return;
  if (!ReachesReplica(stream->frontend, stream->replica)) return Break(stream);
  stream->last_up = std::max(stream->last_up, Arrival(stream->replica));
  agenda_->At(stream->last_up, [this, stream, arrive = std::move(arrive)]() mutable {
    const ReplicaNode& node = *(*replicas_)[stream->replica];
    if (stream->replica_life != node.life() || !node.up()) return;
    arrive(*stream);
  });
}

template <typename Arrive>
void Network::Down(const std::shared_ptr<Stream>& stream, Arrive arrive) {
  if (stream->broken) return;
  if (!ReachesFrontend(stream->frontend, stream->replica)) return Break(stream);
  const absl::Duration delay =
      Delay(stream->replica) + LinkOf(stream->frontend, stream->replica).answer_delay;
  stream->last_down = std::max(stream->last_down, agenda_->now() + delay);
  agenda_->At(stream->last_down, [stream, arrive = std::move(arrive)]() mutable {
    if (!stream->let_go) arrive(*stream);
  });
}

std::shared_ptr<Network::Stream> Network::Open(uint32_t frontend, uint32_t replica,
                                               v1::Fence fence, uint64_t session,
                                               StreamEvents events) {
  auto stream = std::make_shared<Stream>(this, frontend, replica, std::move(events));
  std::erase_if(streams_, [](const auto& weak) { return weak.expired(); });
  streams_.push_back(stream);
  ReplicaNode& node = *(*replicas_)[replica];
  stream->replica_life = node.life();
  if (!node.up()) {
    // Refused, if the refusal comes back.
    stream->broken = true;
    if (!ReachesReplica(frontend, replica) || !ReachesFrontend(frontend, replica)) {
      return stream;
    }
    agenda_->After(Delay(replica), [stream] {
      if (!stream->let_go) {
        stream->let_go = true;
        stream->events.ended(engine::Result(ECONNREFUSED), "connection refused");
      }
    });
    return stream;
  }
  Up(stream, [this, fence = std::move(fence), session](Stream& at) {
    ServeHello(at.shared_from_this(), fence, session);
  });
  return stream;
}

// Nothing more gets through; the frontend hears of it late, or not at all.
void Network::Break(const std::shared_ptr<Stream>& stream) {
  stream->broken = true;
  if (dice_->Percent(30)) return;
  agenda_->After(dice_->Micros(1000, kHalfOpenMicros), [stream] {
    if (stream->let_go) return;
    stream->let_go = true;
    stream->events.ended(engine::Result(ECONNRESET), "connection lost");
  });
}

void Network::ServeHello(const std::shared_ptr<Stream>& stream, const v1::Fence& fence,
                         uint64_t session) {
  auto opened = (*replicas_)[stream->replica]->Hello(fence, session, stream);
  if (!opened.ok()) return EndFromReplica(stream, opened.status());
  stream->session = opened->session;
  Down(stream, [hello = opened->hello](Stream& at) { at.events.connected(hello); });
}

void Network::Send(const std::shared_ptr<Stream>& stream, engine::Clone clone) {
  Up(stream, [this, clone = std::move(clone)](Stream& at) { Serve(at.shared_from_this(), clone); });
}

void Network::Serve(const std::shared_ptr<Stream>& stream, const engine::Clone& clone) {
  if (stream->session == nullptr) return;
  const Time hangs_until = HaltOf(stream->replica).syncs_hang_until;
  if (clone.kind == engine::RequestKind::kFlush && agenda_->now() < hangs_until) {
    // Its process may be another one by then.
    return agenda_->At(hangs_until, [this, stream, clone, life = stream->replica_life] {
      if ((*replicas_)[stream->replica]->life() == life) Serve(stream, clone);
    });
  }
  engine::CloneReply reply;
  if (!(*replicas_)[stream->replica]->Serve(*stream->session, clone, *dice_, &reply)) return;
  Down(stream, [id = clone.id, reply = std::move(reply)](Stream& at) mutable {
    at.events.replied(id, std::move(reply));
  });
}

void Network::Ping(const std::shared_ptr<Stream>& stream, uint64_t ping) {
  Up(stream, [this, ping](Stream& at) {
    if (at.session == nullptr || !at.session->Enter()) return;
    at.session->Leave();
    Down(at.shared_from_this(), [ping](Stream& down) { down.events.ponged(ping); });
  });
}

void Network::SendDurablePoints(const std::shared_ptr<Stream>& stream,
                                engine::SendDurablePoints news) {
  Up(stream, [this, news = std::move(news)](Stream& at) {
    if (at.session == nullptr) return;
    (*replicas_)[at.replica]->NoteDurablePoints(*at.session, news);
  });
}

void Network::EndFromReplica(const std::shared_ptr<Stream>& stream, const absl::Status& why) {
  const int error = StatusToErrno(why);
  const bool fenced = error == ESTALE;
  Down(stream, [error, fenced, text = std::string(why.message())](Stream& at) {
    at.let_go = true;
    at.events.ended(engine::Result(fenced ? ESTALE : error == 0 ? ECONNRESET : error), text);
  });
  stream->broken = true;
}

void Network::LetGo(const std::shared_ptr<Stream>& stream) {
  if (stream == nullptr) return;
  stream->let_go = true;
  // The replica hears of it some time.
  Up(stream, [this](Stream& at) {
    if (at.session != nullptr) (*replicas_)[at.replica]->Close(at.session);
  });
  stream->broken = true;
}

void Network::ReplicaGone(uint32_t replica) {
  for (const auto& weak : streams_) {
    const std::shared_ptr<Stream> stream = weak.lock();
    if (stream == nullptr || stream->replica != replica || stream->broken) continue;
    // A power cut sends no reset.
    Down(stream, [](Stream& at) {
      at.let_go = true;
      at.events.ended(engine::Result(ECONNRESET), "connection reset");
    });
    stream->broken = true;
  }
}

void Network::TellSpace(uint32_t replica) {
  const bool exhausted = !(*replicas_)[replica]->store().HasSpaceFor(0);
  for (const auto& weak : streams_) {
    const std::shared_ptr<Stream> stream = weak.lock();
    if (stream == nullptr || stream->replica != replica || stream->broken) continue;
    if (stream->session == nullptr) continue;
    Down(stream, [exhausted](Stream& at) { at.events.space_changed(exhausted); });
  }
}

}  // namespace weir::sim
