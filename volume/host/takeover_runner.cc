#include "volume/host/takeover_runner.h"

#include <pthread.h>

#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "proto/base/log.h"
#include "proto/base/status_macros.h"
#include "volume/host/clock.h"
#include "volume/host/clone_codec.h"

namespace weir::host {
namespace {

// Until one fails.
template <typename Calls, typename Carry>
absl::Status InOrder(const Calls& calls, const Carry& carry) {
  for (const auto call : calls) RETURN_IF_ERROR(carry(call));
  return absl::OkStatus();
}

}  // namespace

TakeoverRunner::TakeoverRunner(Config config, VolumeRecordHolder* holder, Cancellation* cancellation,
                               AttachProgress* progress)
    : config_(std::move(config)),
      holder_(holder),
      cancellation_(cancellation),
      progress_(progress),
      takeover_(ToTakeover(holder->record()),
                {.lanes = holder->record().lanes(),
                 .owner = NewNonce(),
                 .give_up_after = config_.give_up_after,
                 .deadline = config_.deadline,
                 .fresh = config_.fresh,
                 .lease = config_.lease},
                MonotonicNow()),
      sealed_(static_cast<size_t>(holder->record().members_size())) {
  for (const v1::Member& member : holder->record().members()) {
    clients_.push_back(std::make_unique<ReplicaClient>(
        member.replica(), member.address(), cancellation));
  }
}

TakeoverRunner::~TakeoverRunner() {
  for (auto& [id, thread] : threads_) thread.join();
}

absl::Status TakeoverRunner::Run() {
  progress_->Begin(holder_->record());
  engine::TakeoverEffects effects;
  takeover_.Start(effects);
  while (true) {
    for (const engine::TakeoverEffect& effect : effects) CarryOut(effect);
    if (finished_) break;
    effects.clear();
    NextEvent()(takeover_, effects);
  }
  // Calls that still run (the others of a failed member) have no reader.
  cancellation_->Cancel();
  for (auto& [id, thread] : threads_) thread.join();
  threads_.clear();
  return result_;
}

void TakeoverRunner::CarryOut(const engine::TakeoverEffect& effect) {
  if (auto* commit = std::get_if<engine::CommitRecord>(&effect)) {
    Commit(*commit);
  } else if (auto* seal = std::get_if<engine::SealMember>(&effect)) {
    Seal(*seal);
  } else if (auto* copy = std::get_if<engine::CopyLane>(&effect)) {
    Copy(*copy);
  } else if (auto* take = std::get_if<engine::TakeBaseOn>(&effect)) {
    TakeBase(*take);
  } else if (auto* wait = std::get_if<engine::WaitFor>(&effect)) {
    Wait(wait->delay);
  } else if (auto* given_up = std::get_if<engine::GiveUpMember>(&effect)) {
    progress_->GivenUp(given_up->member, given_up->reason);
    LOG(WARNING) << "takeover: volume=" << holder_->record().name()
                 << " epoch=" << holder_->record().epoch()
                 << " replica=" << clients_[given_up->member]->replica()
                 << " is given up, it is out of the volume: " << given_up->reason;
  } else if (auto* failed = std::get_if<engine::TakeoverFailed>(&effect)) {
    finished_ = true;
    result_ = failed->status;
  } else if (std::holds_alternative<engine::TakeoverDone>(effect)) {
    finished_ = true;
  }
}

void TakeoverRunner::Commit(const engine::CommitRecord& commit) {
  v1::VolumeRecord next = WithTakeover(holder_->record(), commit.record);
  next.set_frontend(config_.frontend.name);
  next.set_frontend_address(config_.frontend.address);
  const absl::Status status = holder_->Commit(next);
  if (status.ok()) progress_->TookEpoch(next.epoch());
  LOG(INFO) << "takeover: volume=" << holder_->record().name()
            << " epoch=" << commit.record.epoch
            << (commit.record.recovering ? " RECOVERING: " : " ACTIVE: ")
            << status;
  Push(0, [status](auto& takeover, auto& effects) {
    takeover.RecordCommitted(status, MonotonicNow(), effects);
  });
}

v1::Fence TakeoverRunner::FenceOf(uint32_t member, uint64_t incarnation) const {
  v1::Fence fence = NewFence(config_.cluster_id);
  fence.set_volume_id(holder_->record().id());
  fence.set_store_id(
      holder_->record().members(static_cast<int>(member)).store_id());
  fence.set_incarnation(incarnation);
  fence.set_epoch(holder_->record().epoch());
  return fence;
}

void TakeoverRunner::Seal(const engine::SealMember& seal) {
  v1::SealRequest request;
  *request.mutable_fence() = FenceOf(seal.member, 0);
  progress_->Asked(seal.member, absl::StrCat("promise epoch ", request.fence().epoch()), MonotonicNow());
  InBackground([this, seal, request]() -> Event {
    absl::StatusOr<engine::SealedState> state =
        absl::CancelledError("the attach was cancelled");
    if (!cancellation_->WaitFor(seal.delay)) {
      absl::StatusOr<v1::SealResponse> response =
          clients_[seal.member]->Seal(request, config_.call_deadline);
      if (response.ok()) {
        state = DecodeSeal(*response);
      } else {
        state = response.status();
      }
    }
    return [this, member = seal.member, state = std::move(state)](
               engine::Takeover& takeover, engine::TakeoverEffects& effects) {
      progress_->Answered(member, state.status());
      if (state.ok()) sealed_[member] = *state;
      takeover.MemberSealed(member, state, MonotonicNow(), effects);
    };
  });
}

void TakeoverRunner::Copy(const engine::CopyLane& copy) {
  v1::ReadTailRequest read;
  *read.mutable_fence() = FenceOf(copy.source, copy.source_incarnation);
  read.set_lane(Index(copy.lane));
  read.set_from_position(copy.from.bits());
  read.set_to_position(copy.to.bits());
  v1::AdoptTailRequest adopt;
  *adopt.mutable_fence() = FenceOf(copy.target, copy.target_incarnation);
  adopt.set_lane(Index(copy.lane));
  adopt.set_from_position(copy.from.bits());
  adopt.set_to_position(copy.to.bits());
  adopt.set_expected_position(copy.expected.bits());
  for (const LineageEntry& entry :
       sealed_[copy.source].lanes[Index(copy.lane)].lineage) {
    v1::LineageEntry* wire = adopt.add_lineage();
    wire->set_epoch(entry.epoch);
    wire->set_n(entry.n);
  }
  LOG(INFO) << "takeover: volume=" << holder_->record().name()
            << " epoch=" << holder_->record().epoch()
            << " replica=" << clients_[copy.target]->replica() << " lane "
            << Index(copy.lane) << " is behind: copying ("
            << copy.from.ToString() << ", " << copy.to.ToString() << "] from "
            << clients_[copy.source]->replica();
  v1::KeepRecordRequest keep = CopyOf(holder_->record(), holder_->revision(), adopt.fence().epoch());
  *keep.mutable_fence() = adopt.fence();
  progress_->Asked(copy.target, absl::StrCat("take what it lacks from ", clients_[copy.source]->replica()), MonotonicNow());
  InBackground([this, copy, read, adopt, keep]() -> Event {
    using Call = engine::CopyLane::Call;
    const absl::Status status = InOrder(engine::CopyLane::kCalls, [&](Call call) {
      if (call == Call::kKeepRecord) return Keep(copy.target, keep);
      return clients_[copy.target]->CopyTailFrom(*clients_[copy.source], read, adopt, config_.copy_deadline);
    });
    return [this, copy, status](engine::Takeover& takeover, engine::TakeoverEffects& effects) {
      progress_->Answered(copy.target, status);
      takeover.LaneCopied(copy, status, MonotonicNow(), effects);
    };
  });
}

absl::Status TakeoverRunner::Keep(uint32_t member, const v1::KeepRecordRequest& copy) {
  const absl::Status kept = clients_[member]->KeepRecord(copy, config_.call_deadline);
  // An older replica, which cannot help if the catalog is lost.
  return absl::IsUnimplemented(kept) ? absl::OkStatus() : kept;
}

void TakeoverRunner::TakeBase(const engine::TakeBaseOn& take) {
  v1::TakeBaseRequest request;
  *request.mutable_fence() = FenceOf(take.member, take.incarnation);
  for (size_t lane = 0; lane < take.expected.size(); ++lane) {
    v1::LanePosition* expected = request.add_expected();
    expected->set_lane(static_cast<uint32_t>(lane));
    expected->set_position(take.expected[lane].bits());
  }
  request.set_act_epoch(take.act_epoch);
  v1::UpdateReplicaVolumeRequest update;
  *update.mutable_fence() = request.fence();
  update.set_version(uint64_t{request.fence().epoch()} << 32);
  update.set_size_bytes(take.size_blocks * kBlockBytes);
  for (const Pin& pin : take.pins) PinToProto(pin, update.add_pins());
  v1::KeepRecordRequest keep =
      CopyOf(WithTakeover(holder_->record(), take.next), holder_->revision(), request.fence().epoch());
  *keep.mutable_fence() = request.fence();
  progress_->Asked(take.member, absl::StrCat("begin epoch ", request.fence().epoch()), MonotonicNow());
  InBackground([this, member = take.member, request, update, keep]() -> Event {
    using Call = engine::TakeBaseOn::Call;
    const absl::Status status = InOrder(engine::TakeBaseOn::kCalls, [&](Call call) -> absl::Status {
      if (call == Call::kKeepRecord) return Keep(member, keep);
      if (call == Call::kTakeBase) return clients_[member]->TakeBase(request, config_.call_deadline);
      const absl::Status updated = clients_[member]->UpdateVolume(update, config_.call_deadline);
      // An older replica, which has no pins to drop.
      return absl::IsUnimplemented(updated) && update.pins().empty() ? absl::OkStatus() : updated;
    });
    return [this, member, status](engine::Takeover& takeover, engine::TakeoverEffects& effects) {
      progress_->Answered(member, status);
      takeover.BaseTaken(member, status, MonotonicNow(), effects);
    };
  });
}

void TakeoverRunner::Wait(absl::Duration delay) {
  InBackground([this, delay]() -> Event {
    cancellation_->WaitFor(delay);
    return [](engine::Takeover& takeover, engine::TakeoverEffects& effects) {
      takeover.Woken(MonotonicNow(), effects);
    };
  });
}

// A thread a call, members times lanes at most, joined when its event is taken.
void TakeoverRunner::InBackground(std::function<Event()> call) {
  const uint64_t id = next_thread_++;
  std::thread& thread = threads_[id];
  thread = std::thread([this, id, call = std::move(call)] { Push(id, call()); });
  pthread_setname_np(thread.native_handle(), "weir-takeover");
}

void TakeoverRunner::Push(uint64_t thread, Event event) {
  absl::MutexLock lock(&mu_);
  events_.push_back({thread, std::move(event)});
}

TakeoverRunner::Event TakeoverRunner::NextEvent() {
  Queued next;
  {
    absl::MutexLock lock(&mu_);
    mu_.Await(absl::Condition(
        +[](std::deque<Queued>* events) { return !events->empty(); },
        &events_));
    next = std::move(events_.front());
    events_.pop_front();
  }
  if (next.thread != 0) {
    threads_[next.thread].join();
    threads_.erase(next.thread);
  }
  return std::move(next.event);
}

}  // namespace weir::host
