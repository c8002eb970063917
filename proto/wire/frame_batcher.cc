#include "proto/wire/frame_batcher.h"

#include <algorithm>
#include <utility>

#include "proto/base/check.h"
#include "proto/wire/frame.h"

namespace weir::wire {

bool FrameBatcher::Queue(const google::protobuf::MessageLite& part,
                         absl::Span<const Payload> payload, Haste haste) {
  Part added;
  added.haste = haste;
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
  if (haste == Haste::kNow) ++hasty_;
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

FrameBatcher::Step FrameBatcher::Answered(size_t parts) {
  absl::MutexLock lock(&mutex_);
  unanswered_ -= std::min(parts, unanswered_);
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

bool FrameBatcher::RipeLocked() const {
  if (queue_.empty()) return false;
  return closed_ || hasty_ > 0 || waiting_bytes_ >= options_.gather_bytes_max || 2 * queue_.size() >= unanswered_;
}

FrameBatcher::Step FrameBatcher::NextLocked() {
  Step step;
  if (writing_ || finished_) return step;
  if (RipeLocked()) {
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
  std::string head;
  std::vector<Payload> payload;
  size_t bytes = 0;
  *parts = 0;
  while (!queue_.empty() && (*parts == 0 || bytes + queue_.front().bytes <= options_.frame_bytes_max)) {
    Part& next = queue_.front();
    head += next.head;
    for (Payload& piece : next.payload) payload.push_back(std::move(piece));
    bytes += next.bytes;
    next.haste == Haste::kMayWait ? ++unanswered_ : --hasty_;
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
  hasty_ = 0;
}

}  // namespace weir::wire
