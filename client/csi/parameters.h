// What a StorageClass may ask for, and how large a volume becomes.
//
// Thread-safety: pure functions.
#ifndef WEIR_CLIENT_CSI_PARAMETERS_H_
#define WEIR_CLIENT_CSI_PARAMETERS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/csi/use.h"
#include "csi/v1/csi.pb.h"
#include "google/protobuf/map.h"
#include "weir/v1/volume.pb.h"

namespace weir::csi {

using StringMap = google::protobuf::Map<std::string, std::string>;

inline constexpr uint64_t kVolumeBytesMin = 1 << 20;
inline constexpr uint64_t kVolumeBytesMax = uint64_t{1} << 60;

struct Parameters {
  uint32_t replicas = 0;     // 0: 3, or all if there are fewer
  uint32_t min_in_sync = 0;  // 0: 2 of 3, 1 of 1 and 2
  std::optional<uint32_t> hold_deadline_s;  // see CreateVolumeRequest
  uint32_t lanes = 0;        // 0: Weir's own number
  uint32_t stripe_bytes = 0;
  std::string mkfs_options;  // words, for the file system's mkfs
  // All that was given, as one line; equal if and only if it is the same.
  std::string text;

  // How many copies there will be where `known` replicas are known.
  uint32_t copies(size_t known) const;
};

// The keys are replicas, minInSync, holdDeadline, lanes, stripeSize and mkfsOptions, and what Kubernetes' own sidecars
// add of the claim's and volume's names. INVALID_ARGUMENT: another one, or a value that is none.
absl::StatusOr<Parameters> ParametersOf(const StringMap& parameters, const StringMap& mutable_parameters);

// Bytes for a new volume: what is required, rounded up to whole blocks and to what the file systems
// need at least; 1 GiB if nothing is asked for. `source_bytes`: of what it begins as, which it must hold; then that is enough if
// nothing is asked for; 0: nothing. OUT_OF_RANGE: no size is in the range.
absl::StatusOr<uint64_t> SizeFor(const v1csi::CapacityRange& range, const std::vector<Use>& uses,
                                 uint64_t source_bytes);

// Whether a volume of this size is what the range asks for.
bool IsInRange(uint64_t size_bytes, const v1csi::CapacityRange& range);

// What of `replicas` a new volume could have at most, in bytes; 0: nothing can be made. Each copy takes the
// whole volume, so it is the space of the one with the least among those that would be taken.
uint64_t AvailableBytes(const std::vector<v1::ReplicaSummary>& replicas, const Parameters& parameters);

}  // namespace weir::csi

#endif  // WEIR_CLIENT_CSI_PARAMETERS_H_
