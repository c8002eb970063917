#include "client/nbd_device/keeper.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
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

absl::Status Keeper::Refuse(const std::function<void(const NbdDevice&)>& refused) {
  lost_ = absl::AbortedError("what served it was killed, and its keeper too");
  const std::optional<NbdDevice> device = Find(options_.backend);
  if (!device.has_value()) return absl::NotFoundError(absl::StrCat("there is no device ", options_.backend));
  RETURN_IF_ERROR(Reconnect(*device));
  refused(*device);
  return KeepServed(*device);
}

absl::Status Keeper::KeepServed(const NbdDevice& device) {
  while (true) {
    switch (server_->Await()) {
      case ServerProcess::Event::kDisconnected:
        return lost_;
      case ServerProcess::Event::kTold:
        EndOnceUnused(device);
        break;
      case ServerProcess::Event::kDied:
        LOG(WARNING) << device.path() << ": what served it has died";
        // Not at once: servers may die as fast as they are started.
        if (server_->Pause(kPauseMin)) EndOnceUnused(device);
        if (!Replace(device)) return lost_;
        break;
    }
  }
}

void Keeper::EndOnceUnused(const NbdDevice& device) {
  const absl::Status told = kernel_->EndOnceUnused(device);
  if (!told.ok()) LOG(WARNING) << device.path() << " cannot be told to end: " << told;
}

bool Keeper::Replace(const NbdDevice& device) {
  for (absl::Duration pause = kPauseMin; Find(device.backend) == device; pause = std::min(pause * 2, kPauseMax)) {
    const absl::Status connected = Reconnect(device);
    if (connected.ok()) return true;
    LOG(WARNING) << device.path() << " is not served yet: " << connected;
    if (!server_->Pause(pause)) continue;
    // Nobody can use it as it is.
    const absl::Status ended = kernel_->Disconnect(device);
    if (ended.ok()) return false;
    LOG(WARNING) << device.path() << " cannot be ended: " << ended;
  }
  return false;
}

absl::Status Keeper::Reconnect(const NbdDevice& device) {
  ASSIGN_OR_RETURN(const ServerProcess::Started started, StartNext(device));
  absl::Status connected = kernel_->Reconnect(device, started.kernel_socket);
  if (!connected.ok()) {
    server_->Kill();
    return connected;
  }
  server_->Connected();
  if (lost_.ok()) LOG(INFO) << device.path() << " is served again";
  return connected;
}

absl::StatusOr<ServerProcess::Started> Keeper::StartNext(const NbdDevice& device) {
  if (lost_.ok()) {
    ++succession_.generation;
    absl::StatusOr<ServerProcess::Started> started = server_->Start(succession_);
    if (!absl::IsAborted(started.status())) return started;
    // Whatever comes later, what was answered is gone.
    lost_ = started.status();
    LOG(ERROR) << device.path() << " is not served any more, every request fails from now on: " << lost_;
  }
  return server_->StartRefusing();
}

std::optional<NbdDevice> Keeper::Find(absl::string_view backend) {
  for (NbdDevice& device : kernel_->Devices()) {
    if (device.backend == backend) return std::move(device);
  }
  return std::nullopt;
}

}  // namespace weir::nbd_device
