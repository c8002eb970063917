// NbdKernel over generic netlink and sysfs.
#ifndef WEIR_CLIENT_NBD_DEVICE_NETLINK_H_
#define WEIR_CLIENT_NBD_DEVICE_NETLINK_H_

#include <functional>
#include <vector>

#include "client/nbd_device/kernel.h"

struct nl_msg;

namespace weir::nbd_device {

// Each call has a netlink socket of its own. Wants CAP_SYS_ADMIN, and the first network namespace.
class NetlinkKernel final : public NbdKernel {
 public:
  absl::Status Available() override;
  absl::StatusOr<NbdDevice> Connect(const ConnectRequest& request) override;
  std::vector<NbdDevice> Devices() override;
  absl::Status Reconnect(const NbdDevice& device, int socket) override;
  absl::Status Resize(const NbdDevice& device, uint64_t size_bytes) override;
  absl::Status EndOnceUnused(const NbdDevice& device) override;
  absl::Status Keep(const NbdDevice& device) override;
  absl::Status Disconnect(const NbdDevice& device) override;

 private:
  // `add` puts in more than which device it is.
  static absl::Status Reconfigure(const NbdDevice& device, const std::function<void(nl_msg*)>& add);
};

}  // namespace weir::nbd_device

#endif  // WEIR_CLIENT_NBD_DEVICE_NETLINK_H_
