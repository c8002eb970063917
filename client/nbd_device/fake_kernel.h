// The kernel's NBD devices, in memory.
#ifndef WEIR_CLIENT_NBD_DEVICE_FAKE_KERNEL_H_
#define WEIR_CLIENT_NBD_DEVICE_FAKE_KERNEL_H_

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "client/nbd_device/kernel.h"

namespace weir::nbd_device {

// Thread-compatible: for tests of one thread.
class FakeKernel final : public NbdKernel {
 public:
  struct Device {
    std::string backend;
    uint64_t size_bytes = 0;
    uint64_t server_flags = 0;
    absl::Duration dead_connection;
    int socket = -1;
    int reconnects = 0;
    bool open = false;  // by somebody
    bool ends_once_unused = false;
    bool dead = false;  // disconnected, and there because it is open
  };

  std::map<uint32_t, Device> devices;
  absl::Status available;
  // What the next Connect or Reconnect answers, once.
  absl::Status next_error;

  // Whoever has it open closes it.
  void Close(uint32_t index) {
    Device& device = devices[index];
    device.open = false;
    if (device.ends_once_unused || device.dead) devices.erase(index);
  }

  absl::Status Available() override { return available; }
  absl::StatusOr<NbdDevice> Connect(const ConnectRequest& request) override {
    if (!next_error.ok()) return std::exchange(next_error, absl::OkStatus());
    uint32_t index = 0;
    while (devices.count(index) != 0) ++index;
    devices[index] = {request.backend, request.size_bytes, request.server_flags, request.dead_connection, request.socket};
    return NbdDevice{index, request.backend};
  }
  std::vector<NbdDevice> Devices() override {
    std::vector<NbdDevice> found;
    for (const auto& [index, device] : devices) found.push_back({index, device.backend});
    return found;
  }
  absl::Status Reconnect(const NbdDevice& device, int socket) override {
    if (!next_error.ok()) return std::exchange(next_error, absl::OkStatus());
    return Change(device, [&](Device& found) {
      found.socket = socket;
      ++found.reconnects;
    });
  }
  absl::Status Resize(const NbdDevice& device, uint64_t size_bytes) override {
    return Change(device, [&](Device& found) { found.size_bytes = size_bytes; });
  }
  absl::Status EndOnceUnused(const NbdDevice& device) override {
    absl::Status changed = Change(device, [](Device& found) { found.ends_once_unused = true; });
    if (changed.ok() && !devices[device.index].open) devices.erase(device.index);
    return changed;
  }
  absl::Status Keep(const NbdDevice& device) override {
    return Change(device, [](Device& found) { found.ends_once_unused = false; });
  }
  absl::Status Disconnect(const NbdDevice& device) override {
    const auto found = Find(device);
    if (found == devices.end()) return absl::InternalError("another backend");
    found->second.dead = true;
    if (!found->second.open) devices.erase(found);
    return absl::OkStatus();
  }

 private:
  std::map<uint32_t, Device>::iterator Find(const NbdDevice& device) {
    const auto found = devices.find(device.index);
    return found != devices.end() && found->second.backend == device.backend ? found : devices.end();
  }
  template <typename F>
  absl::Status Change(const NbdDevice& device, F change) {
    const auto found = Find(device);
    if (found == devices.end()) return absl::InternalError("another backend");
    if (found->second.dead) return absl::InternalError("not configured");
    change(found->second);
    return absl::OkStatus();
  }
};

}  // namespace weir::nbd_device

#endif  // WEIR_CLIENT_NBD_DEVICE_FAKE_KERNEL_H_
