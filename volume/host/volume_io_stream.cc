#include "volume/host/volume_io_stream.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "proto/base/position.h"
#include "proto/base/protocol.h"
#include "proto/base/status_macros.h"
#include "proto/wire/frame.h"
#include "proto/wire/status.h"
#include "volume/host/long_request.h"
#include "volume/host/request_codec.h"

namespace weir::host {

namespace {

wire::FrameBatcher::Options BatcherOptions(
    const VolumeIoStream::Options& options) {
  wire::FrameBatcher::Options batcher;
  // Nothing is submitted above `unanswered_bytes_max`; beyond it come only the
  // replies to what is unanswered then, and what is not counted of them.
  batcher.queue_bytes_max =
      2 * options.unanswered_bytes_max + options.frame_bytes_max;
  return batcher;
}

}  // namespace

VolumeIoStream* VolumeIoStream::Begin(const Options& options, FindVolume find,
                                      ClientSessions* sessions) {
  std::shared_ptr<VolumeIoStream> stream(
      new VolumeIoStream(options, std::move(find), sessions));
  stream->self_ = stream;
  stream->StartRead(&stream->received_);
  return stream.get();
}

VolumeIoStream::VolumeIoStream(const Options& options, FindVolume find,
                               ClientSessions* sessions)
    : options_(options),
      find_(std::move(find)),
      sessions_(sessions),
      batcher_(BatcherOptions(options)) {}

void VolumeIoStream::OnReadDone(bool ok) {
  if (!ok) {
    bool done = false;
    {
      absl::MutexLock lock(&mu_);
      half_closed_ = true;
      done = unanswered_requests_ == 0;
    }
    if (done) End(absl::OkStatus());
    return;
  }
  const absl::Status status = TakeFrame();
  if (!status.ok()) return End(status);
  Advance();
}

void VolumeIoStream::Advance() {
  while (true) {
    {
      absl::MutexLock lock(&mu_);
      if (ending_) return;
      if (!MayReadLocked()) {
        paused_ = true;
        return;
      }
      if (next_io_ == frame_.ios_size()) {
        ++starting_reads_;
        break;
      }
    }
    if (volume_->AwaitRoom(resume_)) return;
    SubmitNext();
  }
  payload_ = Payload();
  StartCountedRead();
}

void VolumeIoStream::Resume() {
  {
    absl::MutexLock lock(&mu_);
    if (!paused_ || !MayReadLocked()) return;
    paused_ = false;
  }
  Advance();
}

bool VolumeIoStream::MayReadLocked() const {
  return unanswered_bytes_ + batcher_.queued_bytes() <
             options_.unanswered_bytes_max &&
         unanswered_requests_ < options_.unanswered_requests_max;
}

absl::Status VolumeIoStream::TakeFrame() {
  Payload payload;
  RETURN_IF_ERROR(wire::DecodeFrame(received_, options_.frame_bytes_max,
                                    &frame_, &payload));
  received_.Clear();
  if (volume_ == nullptr) {
    if (!frame_.has_open()) {
      return absl::InvalidArgumentError(
          "the first frame of a stream must name the volume in `open`");
    }
    RETURN_IF_ERROR(Open(frame_.open()));
  } else if (frame_.has_open()) {
    return absl::InvalidArgumentError(
        "`open` is for the first frame only; use a stream a volume");
  }
  // The whole frame is checked before any of it runs.
  RETURN_IF_ERROR(CheckFrame(frame_, payload.size()));
  payload_ = std::move(payload);
  payload_offset_ = 0;
  next_io_ = 0;
  return absl::OkStatus();
}

absl::Status VolumeIoStream::Open(const v1::VolumeOpen& open) {
  if (open.protocol() != 0) RETURN_IF_ERROR(CheckProtocol(open.protocol(), "the client"));
  ASSIGN_OR_RETURN(std::shared_ptr<HostedVolume> volume, find_(open.volume()));
  if (!open.client().empty()) {
    RETURN_IF_ERROR(sessions_->Open(
        open.volume(), open.client(), open.session(),
        [weak = weak_from_this()](const absl::Status& status) {
          if (auto self = weak.lock()) self->CutOff(status);
        }));
  }
  open_ = open;
  volume_ = std::move(volume);
  resume_ = [weak = weak_from_this()] {
    if (auto self = weak.lock()) self->Advance();
  };
  v1::VolumeIoReplyFrame reply;
  v1::VolumeOpened* opened = reply.mutable_opened();
  opened->set_size_bytes(volume_->size_bytes());
  opened->set_block_bytes(kBlockBytes);
  opened->set_length_bytes_max(kRequestBytesMax);
  opened->set_epoch(volume_->epoch());
  opened->set_intact_since(volume_->intact_since());
  opened->set_flush_supported(volume_->flush_supported());
  Send(reply, {});
  return absl::OkStatus();
}

void VolumeIoStream::SubmitNext() {
  const v1::VolumeIo& io = frame_.ios(next_io_++);
  Payload data;
  if (HasData(*KindFromWire(io.kind()))) {
    data = payload_.Slice(payload_offset_, io.length_bytes());
    payload_offset_ += io.length_bytes();
  }
  Submit(io, std::move(data));
}

void VolumeIoStream::CutOff(const absl::Status& status) {
  End(status);
  gate_->Close();
}

void VolumeIoStream::Submit(const v1::VolumeIo& io, Payload data) {
  IoRequest request = RequestFromWire(io, std::move(data));
  const bool is_read = request.kind == engine::RequestKind::kRead;
  // What a read will bring is held here too until the client takes it.
  const uint64_t bytes = is_read ? std::min<uint64_t>(request.length_bytes,
                                                      kRequestBytesMax)
                                 : request.data.size();
  {
    absl::MutexLock lock(&mu_);
    unanswered_bytes_ += bytes;
    ++unanswered_requests_;
  }
  SubmitAnyLength(volume_, std::move(request),
                  [self = shared_from_this(), id = io.id(), bytes,
                   is_read](IoOutcome outcome) {
                    self->Answer(id, bytes, is_read, std::move(outcome));
                  },
                  gate_);
}

void VolumeIoStream::Answer(uint64_t id, uint64_t bytes, bool is_read,
                            IoOutcome outcome) {
  v1::VolumeIoReplyFrame part;
  v1::VolumeIoReply* reply = part.add_replies();
  reply->set_id(id);
  reply->set_error(outcome.result.error());
  reply->set_message(outcome.message);
  EncodeTargets(outcome.targets, reply->mutable_targets());
  for (const engine::Run& run : outcome.extents) {
    v1::Extent* extent = reply->add_extents();
    extent->set_block_count(run.blocks);
    extent->set_allocated(run.allocated);
  }
  std::vector<Payload> data;
  if (is_read && outcome.result.ok()) {
    data = ReadPayload(outcome.parts);
    size_t length = 0;
    for (const Payload& piece : data) length += piece.size();
    reply->set_length_bytes(static_cast<uint32_t>(length));
  }
  Send(part, data);

  bool done = false;
  {
    absl::MutexLock lock(&mu_);
    unanswered_bytes_ -= bytes;
    --unanswered_requests_;
    done = half_closed_ && unanswered_requests_ == 0;
  }
  Resume();
  if (done) End(absl::OkStatus());
}

// Nothing keeps the call alive past Finish outside of a reaction, so an End
// that comes meanwhile leaves the finishing to this.
void VolumeIoStream::StartCountedRead() {
  StartRead(&received_);
  bool close = false;
  {
    absl::MutexLock lock(&mu_);
    --starting_reads_;
    close = ending_ && starting_reads_ == 0;
  }
  if (close) Carry(batcher_.Close(wire::FrameBatcher::kDrain));
}

void VolumeIoStream::Send(const v1::VolumeIoReplyFrame& part,
                          absl::Span<const Payload> data) {
  if (!batcher_.Queue(part, data)) {
    return End(absl::ResourceExhaustedError(
        "this client does not read its replies; open the stream again"));
  }
  Carry(batcher_.Next());
}

void VolumeIoStream::OnWriteDone(bool ok) {
  Carry(batcher_.WriteDone(ok));
  Resume();
}

void VolumeIoStream::OnCancel() {
  End(absl::CancelledError("the client went away"));
}

void VolumeIoStream::End(absl::Status status) {
  {
    absl::MutexLock lock(&mu_);
    if (!ending_) {
      ending_ = true;
      end_status_ = std::move(status);
    }
    if (starting_reads_ > 0) return;  // StartCountedRead will see it
  }
  Carry(batcher_.Close(wire::FrameBatcher::kDrain));
}

void VolumeIoStream::Carry(wire::FrameBatcher::Step step) {
  if (step.write != nullptr) StartWrite(step.write);
  if (!step.finish) return;
  absl::Status status;
  {
    absl::MutexLock lock(&mu_);
    status = end_status_;
  }
  Finish(wire::ToGrpc(status));
}

void VolumeIoStream::OnDone() {
  if (!open_.client().empty()) {
    sessions_->Closed(open_.volume(), open_.client(), open_.session());
  }
  self_.reset();
}

}  // namespace weir::host
