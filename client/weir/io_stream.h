// One gRPC stream of VolumeService.Io, as a client sees it.
//
// Knows frames and nothing of requests: what a broken stream means for them is
// RemoteVolume's business.
#ifndef WEIR_CLIENT_WEIR_IO_STREAM_H_
#define WEIR_CLIENT_WEIR_IO_STREAM_H_

#include <cstddef>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "grpcpp/channel.h"
#include "grpcpp/client_context.h"
#include "grpcpp/generic/generic_stub.h"
#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/client_callback.h"
#include "proto/base/payload.h"
#include "proto/wire/frame_batcher.h"
#include "weir/v1/volume.pb.h"

namespace weir {

// Thread-safety: Send and Cancel may be called from any thread. Events come
// one at a time, on gRPC's threads, with no lock held; Closed is the last.
// Owns itself together with its users: it lives until it has given Closed its own
// reference and the last shared_ptr is gone. The events' receiver must outlive Closed.
// Holds a reference to the channel. The last one of those must not go on one
// of gRPC's threads (1.51 would join that thread from itself): whoever owns the channel keeps it
// until every stream is destroyed.
class IoStream : public grpc::ClientBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer> {
 public:
  class Events {
   public:
    virtual ~Events() = default;
    // The frontend's first answer; at most once, before any reply.
    virtual void Opened(IoStream& stream, const v1::VolumeOpened& opened) = 0;
    // `data`: this reply's part of the frame's payload.
    virtual void Replied(IoStream& stream, v1::VolumeIoReply reply, Payload data) = 0;
    // Exactly once. `status` is never OK. `malformed`: we ended it, since the frontend
    // sent what makes no sense. `stream` is gRPC's own reference.
    virtual void Closed(std::shared_ptr<IoStream> stream, absl::Status status, bool malformed) = 0;
  };

  // Does nothing yet. A received frame may have `frame_bytes_max` bytes.
  static std::shared_ptr<IoStream> Create(const std::shared_ptr<grpc::Channel>& channel,
                                          size_t frame_bytes_max, Events* events);
  // Starts the call; events may come before it returns. To be called once.
  void Open(const v1::VolumeOpen& open);

  // REQUIRES: Opened was called. `data` is the io's payload, shared, not copied. What cannot
  // be sent any more is dropped; Closed tells.
  void Send(const v1::VolumeIo& io, const Payload& data);
  void Cancel();

  // gRPC's side.
  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnDone(const grpc::Status& status) override;

 private:
  IoStream(const std::shared_ptr<grpc::Channel>& channel, size_t frame_bytes_max, Events* events);

  absl::Status TakeFrame();
  void Carry(wire::FrameBatcher::Step step);

  const size_t frame_bytes_max_;
  Events* const events_;
  grpc::GenericStub stub_;
  grpc::ClientContext context_;
  wire::FrameBatcher outgoing_;
  std::shared_ptr<IoStream> self_;  // from Open until OnDone
  // Touched by gRPC's reactions alone, which come one at a time.
  grpc::ByteBuffer received_;
  bool opened_ = false;
  absl::Status protocol_error_;  // why we cancelled, if the frontend misbehaved
};

}  // namespace weir

#endif  // WEIR_CLIENT_WEIR_IO_STREAM_H_
