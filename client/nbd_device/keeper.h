// What keeps a volume's device connected to a process that serves it.
#ifndef WEIR_CLIENT_NBD_DEVICE_KEEPER_H_
#define WEIR_CLIENT_NBD_DEVICE_KEEPER_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "client/nbd_device/kernel.h"
#include "client/weir/client.h"

namespace weir::nbd_device {

// The process that serves, one at a time. It is one of its own because the keeper must not die of what it may die of, and
// since gRPC survives no fork.
class ServerProcess {
 public:
  struct Started {
    int kernel_socket = -1;  // the kernel's end; ServerProcess's, which closes it in Connected, Kill and Start
    uint64_t size_bytes = 0;
    uint32_t epoch = 0;  // of the volume
  };
  enum class Event {
    kDisconnected,  // it has ended: the kernel has ended the device
    kDied,          // it has ended otherwise
    kTold,          // the keeper was told to end
  };

  virtual ~ServerProcess() = default;

  // Starts one, and waits until it has the volume; its error otherwise, with its code.
  virtual absl::StatusOr<Started> Start(const Succession& succession) = 0;
  // Starts one that has no volume, and answers every request with an error. From then on whoever looks sees that the device
  // is not served.
  virtual absl::StatusOr<Started> StartRefusing() = 0;
  // The kernel has the socket.
  virtual void Connected() = 0;
  virtual Event Await() = 0;
  virtual void Kill() = 0;
  // Before the next Start; ends early, with true, if the keeper was told to end.
  virtual bool Pause(absl::Duration duration) = 0;
};

// Connects a device, and connects it anew to another server whenever the one that serves it has died, until somebody
// ends the device.
//
// Requests wait in the kernel meanwhile. What the dead server had read of them, and perhaps sent to the frontend, the kernel
// sends again; so its successor goes on with its session (Succession), and none goes on where the volume was taken
// over and something may be lost: then the device fails, as it would have had the first server lived. For that it has a server
// too, one that refuses: without one its requests would wait for ever, and disconnected it would give its number to the next
// volume, which would then be seen where this one is published.
//
// Thread-compatible.
class Keeper {
 public:
  struct Options {
    std::string backend;        // no other device's, ever: BackendOf; all that Refuse wants
    uint64_t server_flags = 0;  // ServerFlags
    // How long requests wait for a server before the kernel fails them; whole seconds.
    absl::Duration hold = absl::Minutes(5);
    // Of the device's servers, made up at random.
    std::string client;
  };

  Keeper(Options options, NbdKernel* kernel, ServerProcess* server)
      : options_(std::move(options)), kernel_(kernel), server_(server) {}

  // Until the device has ended. `attached` is called once it is connected, and answers whether whoever wanted it is
  // still there. An error: it was never connected, and nothing is left; or all its requests have failed since its server
  // died (ABORTED).
  absl::Status Run(const std::function<bool(const NbdDevice&)>& attached);
  // Of a device whose keeper has died too: has every request of it answered with an error, until it has ended. `refused` is
  // called once that is so. An error: it is not there, or is served; or ABORTED, at the end.
  absl::Status Refuse(const std::function<void(const NbdDevice&)>& refused);

 private:
  absl::StatusOr<NbdDevice> Connect();
  absl::Status KeepServed(const NbdDevice& device);
  // A server in place of one that has died. False: the device has ended meanwhile.
  bool Replace(const NbdDevice& device);
  // Tries it once.
  absl::Status Reconnect(const NbdDevice& device);
  absl::StatusOr<ServerProcess::Started> StartNext(const NbdDevice& device);
  void EndOnceUnused(const NbdDevice& device);
  std::optional<NbdDevice> Find(absl::string_view backend);

  const Options options_;
  NbdKernel* const kernel_;
  ServerProcess* const server_;
  Succession succession_;
  absl::Status lost_;  // why no server goes on with the volume any more
};

}  // namespace weir::nbd_device

#endif  // WEIR_CLIENT_NBD_DEVICE_KEEPER_H_
