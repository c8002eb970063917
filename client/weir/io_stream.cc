#include "client/weir/io_stream.h"

#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/base/status_macros.h"
#include "proto/wire/frame.h"
#include "proto/wire/status.h"

namespace weir {
namespace {

constexpr char kIoMethod[] = "/weir.v1.VolumeService/Io";

// The volume handle's own bound on bytes in flight is the limit, so a queue
// can never be refused here.
wire::FrameBatcher::Options UnboundedQueue() {
  wire::FrameBatcher::Options options;
  options.queue_bytes_max = std::numeric_limits<size_t>::max() / 2;
  return options;
}

}  // namespace

IoStream::IoStream(const std::shared_ptr<grpc::Channel>& channel, size_t frame_bytes_max,
                   Events* events)
    : frame_bytes_max_(frame_bytes_max),
      events_(events),
      stub_(channel),
      outgoing_(UnboundedQueue()) {}

std::shared_ptr<IoStream> IoStream::Create(const std::shared_ptr<grpc::Channel>& channel,
                                           size_t frame_bytes_max, Events* events) {
  std::shared_ptr<IoStream> stream(new IoStream(channel, frame_bytes_max, events));
  stream->self_ = stream;
  return stream;
}

void IoStream::Open(const v1::VolumeOpen& open) {
  std::shared_ptr<IoStream> self = self_;  // the call may be over before we return
  stub_.PrepareBidiStreamingCall(&context_, kIoMethod, grpc::StubOptions(), this);
  v1::VolumeIoFrame frame;
  *frame.mutable_open() = open;
  const bool queued = outgoing_.Queue(frame, {});
  // Writes start outside of reactions; the hold keeps OnDone away until the
  // batcher says that none can come any more.
  AddHold();
  StartRead(&received_);
  StartCall();
  if (queued) Carry(outgoing_.Next());
}

void IoStream::Send(const v1::VolumeIo& io, const Payload& data) {
  v1::VolumeIoFrame part;
  *part.add_ios() = io;
  const bool queued = data.empty() ? outgoing_.Queue(part, {})
                                   : outgoing_.Queue(part, absl::MakeConstSpan(&data, 1));
  if (!queued) return Cancel();
  Carry(outgoing_.Next());
}

void IoStream::Cancel() { context_.TryCancel(); }

void IoStream::Carry(wire::FrameBatcher::Step step) {
  if (step.write != nullptr) StartWrite(step.write);
  if (step.finish) RemoveHold();
}

void IoStream::OnReadDone(bool ok) {
  if (ok && protocol_error_.ok()) {
    protocol_error_ = TakeFrame();
    if (!protocol_error_.ok()) Cancel();
    received_.Clear();
    StartRead(&received_);
    return;
  }
  if (ok) return StartRead(&received_);
  Carry(outgoing_.Close(wire::FrameBatcher::kDrop));
}

void IoStream::OnWriteDone(bool ok) { Carry(outgoing_.WriteDone(ok)); }

void IoStream::OnDone(const grpc::Status& status) {
  const bool malformed = !protocol_error_.ok();
  absl::Status why = malformed ? protocol_error_ : wire::FromGrpc(status);
  if (why.ok()) why = absl::UnavailableError("the frontend closed the stream");
  // Nothing of this object is touched after this: it may be gone.
  events_->Closed(std::move(self_), std::move(why), malformed);
}

absl::Status IoStream::TakeFrame() {
  v1::VolumeIoReplyFrame frame;
  Payload payload;
  RETURN_IF_ERROR(wire::DecodeFrame(received_, frame_bytes_max_, &frame, &payload));
  uint64_t answered_bytes = 0;
  for (const v1::VolumeIoReply& reply : frame.replies()) answered_bytes += reply.length_bytes();
  if (answered_bytes != payload.size()) {
    return absl::InternalError(absl::StrCat("malformed frame from the frontend: replies of ",
                                            answered_bytes, " bytes with a payload of ",
                                            payload.size()));
  }
  if (frame.has_opened() == opened_) {
    return absl::InternalError("malformed frame from the frontend: 'opened' out of place");
  }
  if (frame.has_opened()) {
    opened_ = true;
    events_->Opened(*this, frame.opened());
  }
  size_t at = 0;
  for (v1::VolumeIoReply& reply : *frame.mutable_replies()) {
    Payload data = payload.Slice(at, reply.length_bytes());
    at += reply.length_bytes();
    events_->Replied(*this, std::move(reply), std::move(data));
  }
  return absl::OkStatus();
}

}  // namespace weir
