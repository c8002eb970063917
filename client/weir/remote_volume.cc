#include "client/weir/remote_volume.h"

#include <algorithm>
#include <cerrno>
#include <random>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "client/weir/callback_thread.h"
#include "proto/base/errno.h"
#include "proto/base/log.h"
#include "proto/base/position.h"
#include "proto/base/protocol.h"
#include "proto/base/steady.h"
#include "proto/wire/status.h"

namespace weir {
namespace {

// What a request takes beside its data, so that flushes are bounded too.
constexpr uint64_t kRequestOverheadBytes = 512;
// A frame of replies is bounded by what is in flight; this is for a frontend that is not ours.
constexpr size_t kFrameBytesMax = 64 << 20;
// So often a request is sent again to a frontend whose frames make no sense.
constexpr int kMalformedStreamsMax = 3;

// 128 bits of the system's chance: no two handles anywhere share one.
std::string RandomId() {
  std::random_device chance;
  return absl::StrFormat("%08x%08x%08x%08x", chance(), chance(), chance(), chance());
}

Payload Own(std::string data) {
  auto owner = std::make_shared<const std::string>(std::move(data));
  absl::string_view bytes(*owner);
  return Payload(std::move(owner), bytes);
}

bool CarriesData(v1::RequestKind kind) {
  return kind == v1::REQUEST_KIND_READ || kind == v1::REQUEST_KIND_WRITE ||
         kind == v1::REQUEST_KIND_BARRIER;
}

// Trouble that trying again cannot end.
bool IsFinal(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kPermissionDenied:
    case absl::StatusCode::kUnauthenticated:
    case absl::StatusCode::kUnimplemented:
      return true;
    default:
      return false;
  }
}

IoResult ResultOf(const v1::VolumeIo& io, v1::VolumeIoReply reply, const Payload& data) {
  IoResult result;
  result.status = ErrnoToStatus(reply.error(), reply.message());
  result.targets.assign(reply.targets().begin(), reply.targets().end());
  result.extents.assign(reply.extents().begin(), reply.extents().end());
  if (io.kind() != v1::REQUEST_KIND_READ || reply.error() != 0) return result;
  if (data.size() != io.length_bytes()) {
    result.status =
        ErrnoToStatus(EIO, absl::StrCat("malformed reply: the frontend answered a read of ",
                                        io.length_bytes(), " bytes with ", data.size()));
    return result;
  }
  result.data.assign(data.bytes().data(), data.bytes().size());
  return result;
}

v1::VolumeIo Io(v1::RequestKind kind, uint64_t offset, uint64_t length) {
  v1::VolumeIo io;
  io.set_kind(kind);
  io.set_offset_bytes(offset);
  // What is too long for the field is refused by CheckShape.
  io.set_length_bytes(static_cast<uint32_t>(length));
  return io;
}

}  // namespace

RemoteVolume::RemoteVolume(std::shared_ptr<grpc::Channel> channel, const std::string& name,
                           const ClientOptions& options)
    : channel_(std::move(channel)),
      name_(name),
      client_id_(options.succession.client.empty() ? RandomId() : options.succession.client),
      options_(options),
      stub_(v1::VolumeService::NewStub(channel_)),
      budget_(options.inflight_bytes_max),
      session_(uint64_t{options.succession.generation} << 32),
      accepted_epoch_(options.succession.epoch),
      delay_(options.reconnect_delay_min) {
  attach_request_.set_name(name);
  attach_request_.set_unless_elsewhere(true);
}

absl::StatusOr<std::unique_ptr<RemoteVolume>> RemoteVolume::Open(
    std::shared_ptr<grpc::Channel> channel, const std::string& name, const ClientOptions& options) {
  std::unique_ptr<RemoteVolume> volume(new RemoteVolume(std::move(channel), name, options));
  Todo todo;
  {
    absl::MutexLock lock(&volume->mutex_);
    volume->StartOpening(todo);
  }
  volume->Carry(std::move(todo));
  absl::Status status = volume->AwaitFirstOpen();
  if (!status.ok()) return status;
  return volume;
}

absl::Status RemoteVolume::AwaitFirstOpen() {
  absl::MutexLock lock(&mutex_);
  auto settled = [this]()
                     ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return phase_ != Phase::kOpening; };
  mutex_.Await(absl::Condition(&settled));
  return ever_open_ ? absl::OkStatus() : refusal_;
}

RemoteVolume::~RemoteVolume() {
  std::shared_ptr<IoStream> stream;
  std::shared_ptr<grpc::ClientContext> attach;
  std::unique_ptr<grpc::Alarm> alarm;
  {
    absl::MutexLock lock(&mutex_);
    auto answered = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return pending_.empty(); };
    mutex_.Await(absl::Condition(&answered));
    closing_ = true;
    stream = stream_;
    attach = attach_context_;
    alarm = std::move(alarm_);
  }
  if (stream != nullptr) stream->Cancel();
  if (attach != nullptr) attach->TryCancel();
  alarm.reset();  // fires at once, as cancelled
  absl::MutexLock lock(&mutex_);
  auto quiet = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return outstanding_ == 0; };
  mutex_.Await(absl::Condition(&quiet));
}

uint64_t RemoteVolume::size_bytes() const {
  absl::MutexLock lock(&mutex_);
  return opened_.size_bytes();
}

uint32_t RemoteVolume::epoch() const {
  absl::MutexLock lock(&mutex_);
  return opened_.epoch();
}

bool RemoteVolume::flush_supported() const {
  absl::MutexLock lock(&mutex_);
  return opened_.flush_supported();
}

uint32_t RemoteVolume::length_bytes_max() const {
  absl::MutexLock lock(&mutex_);
  return opened_.length_bytes_max();
}

// --- requests ---

void RemoteVolume::ReadAsync(uint64_t offset, uint32_t length, Callback done) {
  Submit(Io(v1::REQUEST_KIND_READ, offset, length), Payload(), std::move(done));
}

void RemoteVolume::WriteAsync(uint64_t offset, std::string data, bool fua, Callback done) {
  v1::VolumeIo io = Io(v1::REQUEST_KIND_WRITE, offset, data.size());
  io.set_fua(fua);
  Submit(std::move(io), Own(std::move(data)), std::move(done));
}

void RemoteVolume::WriteZeroesAsync(uint64_t offset, uint32_t length, bool fua, Callback done) {
  v1::VolumeIo io = Io(v1::REQUEST_KIND_WRITE_ZEROES, offset, length);
  io.set_fua(fua);
  Submit(std::move(io), Payload(), std::move(done));
}

void RemoteVolume::DiscardAsync(uint64_t offset, uint32_t length, Callback done) {
  Submit(Io(v1::REQUEST_KIND_DISCARD, offset, length), Payload(), std::move(done));
}

void RemoteVolume::BarrierAsync(uint64_t offset, std::string data, Callback done) {
  v1::VolumeIo io = Io(v1::REQUEST_KIND_BARRIER, offset, data.size());
  Submit(std::move(io), Own(std::move(data)), std::move(done));
}

void RemoteVolume::FlushAsync(Callback done) {
  Submit(Io(v1::REQUEST_KIND_FLUSH, 0, 0), Payload(), std::move(done));
}

void RemoteVolume::ExtentsAsync(uint64_t offset, uint32_t length, Callback done) {
  Submit(Io(v1::REQUEST_KIND_EXTENTS, offset, length), Payload(), std::move(done));
}

absl::Status RemoteVolume::CheckShape(const v1::VolumeIo& io, size_t data_bytes) const {
  if (io.kind() == v1::REQUEST_KIND_FLUSH) return absl::OkStatus();
  const uint64_t length = std::max<uint64_t>(io.length_bytes(), data_bytes);
  if (length == 0 || length % kBlockBytes != 0 || io.offset_bytes() % kBlockBytes != 0) {
    return ErrnoToStatus(
        EINVAL, absl::StrCat("volume ", name_, ": offset ", io.offset_bytes(), " and length ",
                             length, " must be multiples of 4096, and length not 0"));
  }
  if (CarriesData(io.kind()) && length > length_bytes_max()) {
    return ErrnoToStatus(EINVAL,
                         absl::StrCat("volume ", name_, ": a request of ", length,
                                      " bytes is too long; split it at ", length_bytes_max()));
  }
  return absl::OkStatus();
}

void RemoteVolume::Submit(v1::VolumeIo io, Payload data, Callback done) {
  if (absl::Status shape = CheckShape(io, data.size()); !shape.ok()) {
    return Finish({std::move(io), Payload(), std::move(done), 0}, IoResult{shape, {}, "", {}});
  }
  const uint64_t cost = kRequestOverheadBytes + (CarriesData(io.kind()) ? io.length_bytes() : 0);
  if (InCallback::Active()) {
    budget_.AcquireNow(cost);
  } else {
    budget_.Acquire(cost);
  }
  absl::Status refusal;
  std::shared_ptr<IoStream> stream;
  {
    absl::MutexLock lock(&mutex_);
    if (phase_ == Phase::kRefusing) {
      refusal = refusal_;
    } else {
      io.set_id(++last_id_);
      pending_.emplace(last_id_, Pending{io, data, std::move(done), cost});
      if (phase_ == Phase::kOpen) stream = stream_;
    }
  }
  if (!refusal.ok()) {
    return Finish({std::move(io), Payload(), std::move(done), cost}, IoResult{refusal, {}, "", {}});
  }
  // If the stream ends meanwhile this goes nowhere; its Closed finds the
  // request in pending_, and SendPending sends it on the next stream.
  if (stream != nullptr) stream->Send(io, data);
}

void RemoteVolume::Finish(Pending pending, IoResult result) {
  budget_.Release(pending.cost);
  pending.data = Payload();
  InCallback in_callback;
  pending.done(std::move(result));
}

// --- events ---

void RemoteVolume::Carry(Todo todo) {
  if (todo.cancel != nullptr) todo.cancel->Cancel();
  for (auto& [pending, result] : todo.finished) Finish(std::move(pending), std::move(result));
  if (todo.open != nullptr) {
    v1::VolumeOpen open;
    open.set_protocol(kProtocol);
    open.set_volume(name_);
    open.set_client(client_id_);
    open.set_session(todo.session);
    todo.open->Open(open);
  }
  if (todo.attach != nullptr) {
    stub_->async()->Attach(todo.attach.get(), &attach_request_, &attach_response_,
                           [this](grpc::Status status) { Attached(status); });
  }
  if (todo.timer != 0) StartTimer(todo.timer, todo.delay);
}

bool RemoteVolume::MayGoOn(const v1::VolumeOpened& opened) const {
  return opened.epoch() == accepted_epoch_ ||
         (opened.epoch() > accepted_epoch_ && opened.intact_since() != 0 &&
          opened.intact_since() <= accepted_epoch_);
}

void RemoteVolume::Opened(IoStream& stream, const v1::VolumeOpened& opened) {
  Todo todo;
  {
    absl::MutexLock lock(&mutex_);
    if (phase_ != Phase::kOpening || reopen_ || closing_) return;
    if (accepted_epoch_ != 0 && !MayGoOn(opened)) {
      Refuse(absl::AbortedError(absl::StrCat(
                 "volume ", name_, " was taken over (epoch ", accepted_epoch_, ", now ",
                 opened.epoch(), "): writes that were not flushed may be lost, or others have "
                 "written; check the data, then call Reset() or open the volume anew")),
             todo);
    } else {
      opened_ = opened;
      accepted_epoch_ = opened.epoch();
      ever_open_ = true;
      phase_ = Phase::kResending;
      lost_since_ = absl::InfiniteDuration();
      delay_ = options_.reconnect_delay_min;
      ++timer_;  // the one that bounds the opening means nothing any more
    }
  }
  Carry(std::move(todo));
  SendPending(stream);
}

// A request that comes meanwhile only joins pending_, or it would overtake older
// ones: a barrier must not go before the writes that it is to follow. It ends,
// since replies, which make room in the budget, are not read before this returns.
void RemoteVolume::SendPending(IoStream& stream) {
  uint64_t sent = 0;
  while (true) {
    std::vector<std::pair<v1::VolumeIo, Payload>> next;
    {
      absl::MutexLock lock(&mutex_);
      if (phase_ != Phase::kResending || stream_.get() != &stream) return;
      for (auto it = pending_.upper_bound(sent); it != pending_.end(); ++it) {
        next.emplace_back(it->second.io, it->second.data);
      }
      if (next.empty()) {
        phase_ = Phase::kOpen;
        return;
      }
    }
    for (const auto& [io, data] : next) stream.Send(io, data);
    sent = next.back().first.id();
  }
}

void RemoteVolume::Replied(IoStream& stream, v1::VolumeIoReply reply, Payload data) {
  Todo todo;
  {
    absl::MutexLock lock(&mutex_);
    malformed_streams_ = 0;
    auto found = pending_.find(reply.id());
    // Answered before, or given up: an answer counts once.
    if (found == pending_.end()) return;
    if (reply.error() == ESTALE) {
      Refuse(absl::AbortedError(
                 absl::StrCat("volume ", name_, " was detached or taken over (", reply.message(),
                              "); check the data, then call Reset() or open the volume anew")),
             todo);
    } else {
      Pending pending = std::move(found->second);
      pending_.erase(found);
      IoResult result = ResultOf(pending.io, std::move(reply), data);
      todo.finished.emplace_back(std::move(pending), std::move(result));
    }
  }
  Carry(std::move(todo));
}

void RemoteVolume::Closed(std::shared_ptr<IoStream> stream, absl::Status status, bool malformed) {
  Todo todo;
  {
    absl::MutexLock lock(&mutex_);
    stream_ = nullptr;
    if (phase_ == Phase::kOpening && status.code() == absl::StatusCode::kCancelled) {
      status = absl::UnavailableError(absl::StrCat("the frontend did not answer within ",
                                                   absl::FormatDuration(options_.connect_timeout)));
    }
    if (malformed && ++malformed_streams_ >= kMalformedStreamsMax) FailAll(status, todo);
    if (closing_) {
      // Nothing is pending.
    } else if (reopen_) {
      reopen_ = false;
      StartOpening(todo);
    } else if (phase_ != Phase::kRefusing) {
      StreamLost(status, todo);
    }
  }
  Carry(std::move(todo));
  stream.reset();
  EventOver();
}

void RemoteVolume::Attached(const grpc::Status& grpc_status) {
  Todo todo;
  {
    absl::MutexLock lock(&mutex_);
    attach_context_.reset();
    const absl::Status status = wire::FromGrpc(grpc_status);
    if (closing_ || phase_ != Phase::kOpening) {
      // Nobody waits for it.
    } else if (status.ok()) {
      StartOpening(todo);
    } else if (IsFinal(status)) {
      Refuse(Interrupted(status), todo);
    } else if (absl::IsFailedPrecondition(status)) {
      // Another frontend has taken it: nobody of this one's clients goes on, whoever has it next.
      Refuse(absl::AbortedError(absl::StrCat("volume ", name_, " is another frontend's by now (", status.message(),
                                             "); call Reset() or open the volume anew")),
             todo);
    } else {
      Pause(status, todo);
    }
  }
  Carry(std::move(todo));
  EventOver();
}

void RemoteVolume::TimerFired(uint64_t timer) {
  Todo todo;
  {
    absl::MutexLock lock(&mutex_);
    if (timer == timer_ && !closing_) {
      if (phase_ == Phase::kPausing) {
        attach_tried_ = false;
        StartOpening(todo);
      } else if (phase_ == Phase::kOpening) {
        todo.cancel = stream_;  // it does not answer
      }
    }
  }
  Carry(std::move(todo));
  EventOver();
}

void RemoteVolume::EventOver() {
  absl::MutexLock lock(&mutex_);
  --outstanding_;
}

void RemoteVolume::Reset() {
  Todo todo;
  {
    absl::MutexLock lock(&mutex_);
    if (phase_ != Phase::kRefusing) return;
    refusal_ = absl::OkStatus();
    accepted_epoch_ = 0;
    attach_tried_ = false;
    lost_since_ = SteadyNow();
    phase_ = Phase::kOpening;
    if (stream_ != nullptr) {
      reopen_ = true;
    } else {
      StartOpening(todo);
    }
  }
  Carry(std::move(todo));
}

// --- decisions ---

void RemoteVolume::StartOpening(Todo& todo) {
  phase_ = Phase::kOpening;
  stream_ = IoStream::Create(channel_, kFrameBytesMax, this);
  ++outstanding_;
  todo.open = stream_;
  todo.session = ++session_;
  WantTimer(options_.connect_timeout, todo);
}

void RemoteVolume::StreamLost(const absl::Status& status, Todo& todo) {
  if (!ever_open_) return Refuse(status, todo);
  if (IsFinal(status)) return Refuse(Interrupted(status), todo);
  if (status.code() != absl::StatusCode::kFailedPrecondition) return Pause(status, todo);
  // Not attached. A frontend that was restarted has to be told to; one that
  // ended our open stream has let go of the volume on purpose.
  if (phase_ == Phase::kOpening && !attach_tried_) return AttachFirst(todo);
  Refuse(absl::AbortedError(absl::StrCat("volume ", name_, " was detached (", status.message(),
                                         "); call Reset() or open the volume anew")),
         todo);
}

void RemoteVolume::AttachFirst(Todo& todo) {
  attach_tried_ = true;
  ++timer_;
  const absl::Duration left = lost_since_ + options_.timeout - SteadyNow();
  attach_context_ = std::make_shared<grpc::ClientContext>();
  attach_context_->set_deadline(
      absl::ToChronoTime(absl::Now() + std::clamp(left, absl::Seconds(1), options_.timeout)));
  ++outstanding_;
  todo.attach = attach_context_;
}

void RemoteVolume::Pause(const absl::Status& status, Todo& todo) {
  const absl::Duration now = SteadyNow();
  if (lost_since_ == absl::InfiniteDuration()) {
    LOG(WARNING) << "volume=" << name_ << " stream lost, reconnecting: " << status;
    lost_since_ = now;
  }
  if (now - lost_since_ >= options_.timeout) FailAll(Interrupted(status), todo);
  phase_ = Phase::kPausing;
  WantTimer(delay_, todo);
  delay_ = std::min(delay_ * 2, options_.reconnect_delay_max);
}

absl::Status RemoteVolume::Interrupted(const absl::Status& status) const {
  if (IsFinal(status)) {
    return absl::Status(status.code(), absl::StrCat("volume ", name_, ": ", status.message()));
  }
  return absl::UnavailableError(
      absl::StrCat("volume ", name_, ": no answer from its frontend for ",
                   absl::FormatDuration(options_.timeout), " (", status.message(),
                   "); whether the request took effect is not known; check that weir-volume runs"));
}

void RemoteVolume::Refuse(absl::Status refusal, Todo& todo) {
  if (ever_open_) LOG(WARNING) << "volume=" << name_ << " requests are refused: " << refusal;
  phase_ = Phase::kRefusing;
  ++timer_;
  FailAll(refusal, todo);
  refusal_ = std::move(refusal);
  todo.cancel = stream_;
}

void RemoteVolume::FailAll(const absl::Status& status, Todo& todo) {
  for (auto& [id, pending] : pending_) {
    todo.finished.emplace_back(std::move(pending), IoResult{status, {}, "", {}});
  }
  pending_.clear();
}

void RemoteVolume::WantTimer(absl::Duration delay, Todo& todo) {
  ++outstanding_;
  todo.timer = ++timer_;
  todo.delay = delay;
}

void RemoteVolume::StartTimer(uint64_t timer, absl::Duration delay) {
  auto alarm = std::make_unique<grpc::Alarm>();
  alarm->Set(absl::ToChronoTime(absl::Now() + delay), [this, timer](bool) { TimerFired(timer); });
  // Dropping an alarm cancels it, and then it fires at once: here the older
  // one, or ours if it came too late.
  absl::MutexLock lock(&mutex_);
  if (timer == timer_ && !closing_) std::swap(alarm, alarm_);
}

}  // namespace weir
