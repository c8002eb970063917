#include "proto/wire/frame_batcher.h"

#include <utility>

#include "proto/base/check.h"
#include "proto/wire/frame.h"

namespace weir::wire {

bool FrameBatcher::Queue(const google::protobuf::MessageLite& part,
                         absl::Span<const Payload> payload) {
  Part added;
  added.head = part.SerializeAsString();
  added.bytes = added.head.size();
  for (const Payload& piece : payload) {
    if (piece.empty()) continue;
    added.bytes += piece.size();
    added.payload.push_back(piece);
  }
  absl::MutexLock lock(&mutex_);
  if (closed_ || broken_) return true;
  const size_t held = waiting_bytes_ + writing_bytes_;
  // An empty queue takes anything, else one large part could never go.
  if (held > 0 && held + added.bytes > options_.queue_bytes_max) return false;
  waiting_bytes_ += added.bytes;
  queue_.push_back(std::move(added));
  return true;
}

FrameBatcher::Step FrameBatcher::Next() {
  absl::MutexLock lock(&mutex_);
  return NextLocked();
}

FrameBatcher::Step FrameBatcher::WriteDone(bool ok) {
  absl::MutexLock lock(&mutex_);
  CHECK(writing_);
  writing_ = false;
  writing_bytes_ = 0;
  frame_.Clear();
  if (!ok) {
    broken_ = true;
    DropQueueLocked();
  }
  return NextLocked();
}

FrameBatcher::Step FrameBatcher::Close(End end) {
  absl::MutexLock lock(&mutex_);
  closed_ = true;
  if (end == End::kDrop) DropQueueLocked();
  return NextLocked();
}

size_t FrameBatcher::queued_bytes() const {
  absl::MutexLock lock(&mutex_);
  return waiting_bytes_ + writing_bytes_;
}

FrameBatcher::Step FrameBatcher::NextLocked() {
  Step step;
  if (writing_ || finished_) return step;
  if (!queue_.empty()) {
    frame_ = TakeFrameLocked(&step.parts);
    writing_ = true;
    step.write = &frame_;
  } else if (closed_) {
    finished_ = true;
    step.finish = true;
  }
  return step;
}

grpc::ByteBuffer FrameBatcher::TakeFrameLocked(size_t* parts) {
  std::string head = std::move(queue_.front().head);
  std::vector<Payload> payload = std::move(queue_.front().payload);
  size_t bytes = queue_.front().bytes;
  queue_.pop_front();
  *parts = 1;
  while (!queue_.empty() &&
         bytes + queue_.front().bytes <= options_.frame_bytes_max) {
    Part& next = queue_.front();
    head += next.head;
    for (Payload& piece : next.payload) payload.push_back(std::move(piece));
    bytes += next.bytes;
    queue_.pop_front();
    ++*parts;
  }
  waiting_bytes_ -= bytes;
  writing_bytes_ = bytes;
  return EncodeFrame(head, payload);
}

void FrameBatcher::DropQueueLocked() {
  queue_.clear();
  waiting_bytes_ = 0;
}

}  // namespace weir::wire
