// Who may do what: the replica's rules, as pure functions.
//
// A replica trusts nobody's memory: each call says which cluster, volume,
// store, incarnation and epoch it means, and what does not match what the
// replica knows is refused before anything is looked at. No gRPC, no store, no
// clock in here; admission_test.cc is a table of cases.
//
// Thread-safety: pure functions.
#ifndef WEIR_REPLICA_SERVER_ADMISSION_H_
#define WEIR_REPLICA_SERVER_ADMISSION_H_

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "proto/base/position.h"
#include "replica/store/store.h"
#include "weir/v1/replica.pb.h"

namespace weir::replica {

// A stripe is the largest fragment; with it a read's answer fits into a frame.
inline constexpr uint32_t kStripeBlocksMax = 1024;  // 4 MiB
inline constexpr uint32_t kLanesMax = 1024;
inline constexpr uint64_t kVolumeBlocksMax = uint64_t{1} << 44;  // 64 PiB

// What a call must already know of the replica it speaks to.
enum class Acquaintance {
  kStranger,  // CreateVolume, DeleteVolume, Seal: store and incarnation only if known
  kStore,     // Io: the store; the incarnation only if known (a reconnect learns it from the hello)
  kProcess,   // steps of a takeover and of a join: what was sealed is what is meant
};

// Protocol, cluster, store and incarnation. INVALID_ARGUMENT: a field is missing;
// FAILED_PRECONDITION: its version is too far from ours, or it names another cluster or store; ABORTED with
// kProcess, else FAILED_PRECONDITION: another incarnation.
absl::Status CheckIdentity(const store::Identity& ours, const v1::Fence& fence,
                           Acquaintance acquaintance);

// Seal, DeleteVolume: not below the promise. FAILED_PRECONDITION (ESTALE): fenced.
absl::Status CheckEpochNotBelow(Epoch promised, const v1::Fence& fence);
// Everything else: exactly the promise.
absl::Status CheckEpochIs(Epoch promised, const v1::Fence& fence);

// A stream serves only once every lane has taken this epoch's base.
absl::Status CheckBaseTaken(const store::VolumeState& volume, Epoch epoch);

// UpdateVolume and BeginJoin: of the fence's epoch, so that a stream may be opened once every lane has begun.
absl::Status CheckUpdate(const store::VolumeUpdate& update, const v1::Fence& fence);
absl::Status CheckJoin(const store::JoinLane& join, const v1::Fence& fence);

// CreateVolume's geometry. INVALID_ARGUMENT says what would be right.
absl::StatusOr<store::VolumeGeometry> CheckGeometry(uint64_t size_bytes, uint32_t lanes,
                                                    uint32_t stripe_blocks);

// A frame after the first: what would leave it unclear which bytes belong to
// which io, or which answer to which question. INVALID_ARGUMENT, and the stream ends.
absl::Status CheckFrame(const v1::IoFrame& frame, size_t payload_bytes, uint32_t ios_max);

// What one stream serves.
struct StreamScope {
  store::VolumeGeometry geometry;
  uint32_t domains = 0;             // of the store
  uint32_t num_flush_requests = 0;  // of them, those that hold lanes of this volume
  Epoch epoch = 0;
};

// One io of a checked frame: errno EINVAL is its answer, the stream goes on.
// A refused write leaves a gap in its lane, so that all later ones of the
// lane are answered EAGAIN by the store until it comes right.
absl::Status CheckIo(const v1::Io& io, const StreamScope& scope);

inline bool IsWrite(v1::IoKind kind) {
  return kind == v1::IO_KIND_WRITE || kind == v1::IO_KIND_WRITE_ZEROES ||
         kind == v1::IO_KIND_DISCARD;
}

inline uint32_t NumFlushRequests(uint32_t domains, const LaneGeometry& lanes) {
  return domains < lanes.lanes ? domains : lanes.lanes;
}

}  // namespace weir::replica

#endif  // WEIR_REPLICA_SERVER_ADMISSION_H_
