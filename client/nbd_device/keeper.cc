#include "client/nbd_device/keeper.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "proto/base/log.h"
#include "proto/base/status_macros.h"

namespace weir::nbd_device {
namespace {

// Between two servers that do not come up, as while the frontend is away.
constexpr absl::Duration kPauseMin = absl::Milliseconds(50);
constexpr absl::Duration kPauseMax = absl::Seconds(1);

}  // namespace

absl::StatusOr<NbdDevice> Keeper::Connect() {
  RETURN_IF_ERROR(kernel_->Available());
  succession_ = {options_.client, 1, 0};
  ASSIGN_OR_RETURN(const ServerProcess::Started started, server_->Start(succession_));
  succession_.epoch = started.epoch;
  const absl::StatusOr<NbdDevice> device = kernel_->Connect(
      {started.kernel_socket, started.size_bytes, options_.server_flags, options_.hold, options_.backend});
  if (!device.ok()) {
    server_->Kill();
    return device.status();
  }
  server_->Connected();
  return device;
}

absl::Status Keeper::Run(const std::function<bool(const NbdDevice&)>& attached) {
  ASSIGN_OR_RETURN(const NbdDevice device, Connect());
  if (!attached(device)) {
    // Nobody knows of it, so nobody would end it.
    const absl::Status ended = kernel_->Disconnect(device);
    server_->Kill();
    return ended.ok() ? absl::CancelledError("whoever wanted the device is gone") : ended;
  }
  return KeepServed(device);
}

absl::Status Keeper::KeepServed(const NbdDevice& device) {
  while (true) {
    switch (server_->Await()) {
      case ServerProcess::Event::kDisconnected:
        return absl::OkStatus();
      case ServerProcess::Event::kTold: {
        const absl::Status told = kernel_->EndOnceUnused(device);
        if (!told.ok()) LOG(WARNING) << device.path() << " cannot be told to end: " << told;
        break;
      }
      case ServerProcess::Event::kDied:
        if (!IsThere(device)) return absl::OkStatus();
        LOG(WARNING) << device.path() << ": what served it has died";
        RETURN_IF_ERROR(Replace(device));
        if (!IsThere(device)) return absl::OkStatus();
        break;
    }
  }
}

absl::Status Keeper::Replace(const NbdDevice& device) {
  for (absl::Duration pause = kPauseMin; IsThere(device); pause = std::min(pause * 2, kPauseMax)) {
    ++succession_.generation;
    const absl::StatusOr<ServerProcess::Started> started = server_->Start(succession_);
    absl::Status status = started.status();
    // Whatever comes later, what was answered is gone.
    if (absl::IsAborted(status)) return status;
    if (status.ok()) {
      status = kernel_->Reconnect(device, started->kernel_socket);
      if (status.ok()) {
        server_->Connected();
        LOG(INFO) << device.path() << " is served again";
        return absl::OkStatus();
      }
      server_->Kill();
    }
    LOG(WARNING) << device.path() << " is not served yet: " << status;
    if (server_->Pause(pause)) {
      // Nobody can use it as it is.
      const absl::Status ended = kernel_->Disconnect(device);
      if (!ended.ok()) LOG(WARNING) << device.path() << " cannot be ended: " << ended;
    }
  }
  return absl::OkStatus();
}

bool Keeper::IsThere(const NbdDevice& device) {
  const std::vector<NbdDevice> devices = kernel_->Devices();
  return std::any_of(devices.begin(), devices.end(), [&](const NbdDevice& other) {
    return other.index == device.index && other.backend == device.backend;
  });
}

}  // namespace weir::nbd_device
