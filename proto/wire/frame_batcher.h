// The sending side of one stream of frames: what becomes ready while a write
// is under way goes out together, as one frame, when that write is done.
//
// gRPC's reactors allow one write at a time and none after the end. The
// batcher is the little state machine that keeps both rules; the reactor
// carries its steps out:
//
//                Next: a write               Close
//        IDLE ----------------> WRITING    IDLE ----> finish, FINISHED
//             <----------------            WRITING -> CLOSING -- WriteDone --> finish, FINISHED
//                WriteDone, none ready     (CLOSING with drain: writes what is queued first)
//
// Many small parts cost both ends less in fewer frames. So parts that may wait are
// gathered, and the peer's answers are the clock: with nothing unanswered a part goes at
// once, with n unanswered n/2 go together, or 64 KiB. It is Nagle's algorithm (RFC 896) with two to
// three frames under way instead of one, so that the peer is not left without work.
//
//   class Stream : public grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer> {
//     // Any thread, any number of times:
//     void Send(const v1::IoReplyFrame& part, absl::Span<const Payload> payload) {
//       if (!batcher_.Queue(part, payload)) return End(TooSlowError());
//       Carry(batcher_.Next());
//     }
//     void OnWriteDone(bool ok) override { Carry(batcher_.WriteDone(ok)); }
//     // Sets `status_` if it is the first; then, once, when no write is under way: Finish.
//     void End(absl::Status status) { ...; Carry(batcher_.Close(FrameBatcher::kDrain)); }
//     void Carry(FrameBatcher::Step step) {
//       if (step.write != nullptr) StartWrite(step.write);
//       if (step.finish) Finish(wire::ToGrpc(status_));
//     }
//   };
//
// On a server that is a method with the raw form (WithRawCallbackMethod_Io).
// A client takes grpc::GenericStub::PrepareBidiStreamingCall and a
// grpc::ClientBidiReactor<ByteBuffer, ByteBuffer>: it calls AddHold() before
// StartCall(), since writes start outside of reactions, and `finish` means
// StartWritesDone() or TryCancel(), then RemoveHold().
// After `finish` the reactor, and this object with it, may be gone at any time:
// a thread other than the reactor's own must keep both alive over Send.
//
// Each part is itself a frame message, e.g. an IoFrame with one Io and the
// Io's data as payload. Parts are merged as protobuf merges messages: repeated
// fields and payloads are put in a row, in the order of Queue.
//
// Thread-safety: safe. No callback, no gRPC call under its mutex.
#ifndef WEIR_PROTO_WIRE_FRAME_BATCHER_H_
#define WEIR_PROTO_WIRE_FRAME_BATCHER_H_

#include <cstddef>
#include <deque>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"
#include "google/protobuf/message_lite.h"
#include "grpcpp/support/byte_buffer.h"
#include "proto/base/payload.h"

namespace weir::wire {

class FrameBatcher {
 public:
  struct Options {
    // Parts are joined up to this size; a single larger part still goes, alone.
    // Half of what a receiver accepts (8 MiB), so that no merge can exceed it.
    size_t frame_bytes_max = 4 << 20;
    // Queue refuses what would exceed it. What is being written counts too.
    size_t queue_bytes_max = 64 << 20;
    // A frame of parts that may wait is put off while it is smaller than this, and has
    // less than half as many parts as are unanswered.
    size_t gather_bytes_max = 64 << 10;
  };

  // Whether a part goes as soon as no write is under way, or may be put off to go with others
  // in one frame: a peer that handles frames in order comes to it no later, and has fewer to handle.
  // Each part that may wait must be told as answered. While an answer does not come, single parts may wait for as long:
  // who queues them must end the stream then, or queue something in haste now and then.
  enum class Haste { kNow, kMayWait };

  // What the reactor has to do now: at most one of the two.
  struct Step {
    // To be given to StartWrite; stays valid until WriteDone.
    const grpc::ByteBuffer* write = nullptr;
    // That `write` consists of: those that were queued first.
    size_t parts = 0;
    // The stream can be ended now. True exactly once in a batcher's life.
    bool finish = false;
  };

  enum class End { kDrop, kDrain };
  static constexpr End kDrop = End::kDrop;
  static constexpr End kDrain = End::kDrain;

  FrameBatcher() : FrameBatcher(Options()) {}
  explicit FrameBatcher(const Options& options) : options_(options) {}
  FrameBatcher(const FrameBatcher&) = delete;
  FrameBatcher& operator=(const FrameBatcher&) = delete;

  // Adds a part. False: the peer reads too slowly, the queue is full and nothing was
  // added. After Close the part is dropped, and that is success: the stream's end says why.
  // Several calls before Next make one frame.
  [[nodiscard]] bool Queue(const google::protobuf::MessageLite& part,
                           absl::Span<const Payload> payload, Haste haste = Haste::kNow);

  // A write, if none is under way and something is queued that waits for no others.
  [[nodiscard]] Step Next();

  // The write of the last Step is over. Not `ok`: the stream is broken; what is
  // queued is dropped, and only Close is still to come.
  [[nodiscard]] Step WriteDone(bool ok);

  // The peer has answered `parts` of those that may wait.
  [[nodiscard]] Step Answered(size_t parts);

  // No part is accepted any more. Idempotent; kDrop after kDrain drops what is left.
  [[nodiscard]] Step Close(End end);

  // Waiting and being written: what a source looks at to hold itself back.
  size_t queued_bytes() const;

 private:
  struct Part {
    std::string head;
    std::vector<Payload> payload;
    size_t bytes = 0;
    Haste haste = Haste::kNow;
  };

  // Whether what is queued is to go now.
  bool RipeLocked() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  Step NextLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  grpc::ByteBuffer TakeFrameLocked(size_t* parts) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void DropQueueLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const Options options_;

  mutable absl::Mutex mutex_;
  std::deque<Part> queue_ ABSL_GUARDED_BY(mutex_);
  size_t waiting_bytes_ ABSL_GUARDED_BY(mutex_) = 0;  // of queue_
  size_t writing_bytes_ ABSL_GUARDED_BY(mutex_) = 0;  // of frame_
  size_t hasty_ ABSL_GUARDED_BY(mutex_) = 0;       // of queue_, parts that may not wait
  size_t unanswered_ ABSL_GUARDED_BY(mutex_) = 0;  // parts that might wait, and went
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool broken_ ABSL_GUARDED_BY(mutex_) = false;    // a write failed
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;  // `finish` was given
  // Changed only while `writing_` is false, so the pointer in a Step is stable.
  grpc::ByteBuffer frame_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace weir::wire

#endif  // WEIR_PROTO_WIRE_FRAME_BATCHER_H_
