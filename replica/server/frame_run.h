// One received frame on its way through the store: which ios are refused,
// which a fault strikes, what is applied, what still waits for a sync.
//
// All of the frame's writes are one Store::Write, in their order, on the thread that
// received them; the data goes into the store from the received slice. Reads come one by
// one, so that their answers can be held back while the peer reads slowly. Reads
// of a frame see its writes, flushes cover them.
//
// Thread-safety: one thread at a time. Knows no gRPC.
#ifndef WEIR_REPLICA_SERVER_FRAME_RUN_H_
#define WEIR_REPLICA_SERVER_FRAME_RUN_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "proto/base/payload.h"
#include "proto/base/position.h"
#include "replica/server/admission.h"
#include "replica/server/convert.h"
#include "replica/server/faults.h"
#include "replica/store/store.h"
#include "weir/v1/replica.pb.h"

namespace weir::replica {

// A reply, and what has to happen before it may be sent.
struct Answer {
  v1::IoReply reply;
  Payload data;                           // READ
  absl::optional<uint32_t> sync_domain;   // first a sync of this domain (FLUSH, FUA)
  absl::Duration delay;                   // then so long
  v1::IoKind kind = v1::IO_KIND_UNSPECIFIED;
  LaneId lane{};                          // FUA: of this lane
  uint64_t bytes = 0;                     // that the io covers
  absl::Time received_at;                 // for metrics; the stream's business

  size_t held_bytes() const { return data.size() + 128; }
};

// After the sync that `answer` waits for.
void CompleteSync(const absl::StatusOr<LanePositions>& synced, Answer* answer);

void SetError(const absl::Status& status, v1::IoReply* reply);

class FrameRun {
 public:
  // What `on_injected` hears of is a metric.
  using OnInjected = std::function<void(v1::FaultOp)>;

  // REQUIRES: CheckFrame has passed. All but the frame must outlive it.
  FrameRun(store::Store& store, FaultTable& faults, const OnInjected& on_injected,
           VolumeId volume, const StreamScope& scope, v1::IoFrame frame, Payload payload);

  // First, once: the durable points, then all writes. Appends the writes' and the flushes' answers.
  void ApplyWrites(std::vector<Answer>* answers);
  // Then: the next READ or EXTENTS. False: there is none.
  bool ReadNext(std::vector<Answer>* answers);

  // The store answered EIO to something: its health should be looked at.
  bool store_error() const { return store_error_; }

 private:
  // Whether `io` is to be carried out. If not, and unless it is dropped, its answer is appended.
  bool Admit(const v1::Io& io, Answer* answer, std::vector<Answer>* answers);
  void NoteDurablePoints();
  void NoteError(const absl::Status& status);
  void Read(const v1::Io& io, Answer* answer);
  void Extents(const v1::Io& io, Answer* answer);

  store::Store& store_;
  FaultTable& faults_;
  const OnInjected& on_injected_;
  const VolumeId volume_;
  const StreamScope& scope_;
  const v1::IoFrame frame_;
  const Payload payload_;
  int next_read_ = 0;
  bool store_error_ = false;
};

}  // namespace weir::replica

#endif  // WEIR_REPLICA_SERVER_FRAME_RUN_H_
