// Loop devices: a file, or another device read-only, as a block device.
//
// Thread-safety: free functions, safe.
#ifndef WEIR_CLIENT_CSI_LOOP_DEVICE_H_
#define WEIR_CLIENT_CSI_LOOP_DEVICE_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace weir::csi {

// Those that stand on `file`, by path ("/dev/loop3"), as the kernel has it.
std::vector<std::string> LoopDevicesOn(const std::string& file);

// A new one, without a cache of its own.
absl::StatusOr<std::string> MakeLoopDevice(const std::string& file, bool read_only, absl::Time deadline);

// FAILED_PRECONDITION: it is in use; it goes by itself once it is not.
absl::Status RemoveLoopDevice(const std::string& device, absl::Time deadline);

}  // namespace weir::csi

#endif  // WEIR_CLIENT_CSI_LOOP_DEVICE_H_
