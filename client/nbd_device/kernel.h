// The kernel's NBD devices: what connects, changes and ends them.
#ifndef WEIR_CLIENT_NBD_DEVICE_KERNEL_H_
#define WEIR_CLIENT_NBD_DEVICE_KERNEL_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace weir::nbd_device {

// One that is connected, or was disconnected and is still open.
struct NbdDevice {
  uint32_t index = 0;
  // The name that it was connected with. The kernel keeps it, and changes only what is called by it.
  std::string backend;

  std::string path() const { return absl::StrCat("/dev/nbd", index); }
  bool operator==(const NbdDevice&) const = default;
};

// What the backend of a volume's device begins with: "weir:VOLUME:", and then how its note begins. Volumes' names have no colon.
inline std::string BackendPrefix(absl::string_view volume, absl::string_view note_prefix) {
  return absl::StrCat("weir:", volume, ":", note_prefix);
}

// The backend of a volume's device: "weir:VOLUME:NOTE:INSTANCE". `instance`: made up at random, without a colon, so that of
// two devices none is taken for the other, whatever number the kernel gives them.
inline std::string BackendOf(absl::string_view volume, absl::string_view note, absl::string_view instance) {
  return absl::StrCat(BackendPrefix(volume, note), ":", instance);
}

// What follows `note_prefix` in the note of a device whose backend begins with BackendPrefix(volume, note_prefix).
inline std::string NoteBehind(const NbdDevice& device, absl::string_view volume, absl::string_view note_prefix) {
  const std::string behind = device.backend.substr(BackendPrefix(volume, note_prefix).size());
  return behind.substr(0, behind.rfind(':'));
}

// Thread-safety: safe.
class NbdKernel {
 public:
  struct ConnectRequest {
    int socket = -1;  // the kernel's end; it takes a reference of its own
    uint64_t size_bytes = 0;
    uint64_t server_flags = 0;  // NBD_FLAG_*, of the protocol
    // How long requests wait for a Reconnect, in whole seconds; then they fail.
    absl::Duration dead_connection;
    std::string backend;
  };

  virtual ~NbdKernel() = default;

  // FAILED_PRECONDITION: there is no nbd module, or none that keeps a backend's name (Linux 5.14), or
  // this process is in a network namespace of its own.
  virtual absl::Status Available() = 0;
  // A device with blocks of 4096 bytes, which outlives whoever connected it and every user of it.
  virtual absl::StatusOr<NbdDevice> Connect(const ConnectRequest& request) = 0;
  virtual std::vector<NbdDevice> Devices() = 0;

  // Gives it a new connection in place of one that has died. What was unanswered there is sent again, some of it only
  // when the kernel next looks at it, up to 30 s after it was first sent.
  virtual absl::Status Reconnect(const NbdDevice& device, int socket) = 0;
  virtual absl::Status Resize(const NbdDevice& device, uint64_t size_bytes) = 0;
  // Ends it once nobody has it open (at once, if nobody has). UNAVAILABLE: it did not answer in time; it may end all the same.
  virtual absl::Status EndOnceUnused(const NbdDevice& device) = 0;
  // Takes that back. An error also where it has been ended.
  virtual absl::Status Keep(const NbdDevice& device) = 0;
  // Ends it at once, and again: its users get errors, for what waits too. Those who have it open keep its number and its name.
  virtual absl::Status Disconnect(const NbdDevice& device) = 0;
};

// Those of a volume, whatever they were connected for, or whose notes begin so.
inline std::vector<NbdDevice> DevicesOf(NbdKernel& kernel, absl::string_view volume, absl::string_view note_prefix = "") {
  std::vector<NbdDevice> found;
  for (NbdDevice& device : kernel.Devices()) {
    if (absl::StartsWith(device.backend, BackendPrefix(volume, note_prefix))) found.push_back(std::move(device));
  }
  return found;
}

}  // namespace weir::nbd_device

#endif  // WEIR_CLIENT_NBD_DEVICE_KERNEL_H_
