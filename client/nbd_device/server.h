// What answers the kernel's NBD requests.
#ifndef WEIR_CLIENT_NBD_DEVICE_SERVER_H_
#define WEIR_CLIENT_NBD_DEVICE_SERVER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "client/fuse/volume_file.h"

namespace weir::nbd_device {

// What the server can do, NBD_FLAG_*: the kernel is told so when it is connected.
uint64_t ServerFlags(bool read_only);

// Serves one connection, from its transmission phase on: over netlink the kernel leaves what comes before to whoever
// connects it. Replies go out in whatever order requests are done. A reply is sent on the thread that has the
// answer; it waits for the kernel's copying at most, since the kernel reads replies whatever else it does.
//
// Thread-compatible: one thread makes it and calls Serve.
class Server {
 public:
  // `socket` is the server's end, and the caller's to close. `file` outlives it.
  Server(fuse::VolumeFile* file, int socket) : file_(file), socket_(socket) {}
  // One that has no volume: every request is answered with ESHUTDOWN.
  explicit Server(int socket) : Server(nullptr, socket) {}

  // Until the kernel says that it ends the connection, and every request is answered. UNAVAILABLE: the connection was lost
  // instead. INVALID_ARGUMENT: what came is no request.
  absl::Status Serve();

 private:
  struct Request {
    uint32_t flags = 0;
    uint32_t type = 0;
    uint64_t cookie = 0;
    uint64_t offset = 0;
    uint64_t length = 0;
  };
  struct Parts;

  absl::Status ReadAll(char* bytes, size_t size);
  absl::StatusOr<Request> ReadRequest();
  absl::Status Start(const Request& request);
  absl::Status Refuse(const Request& request);
  absl::Status Write(const Request& request);
  void Read(const Request& request);
  // Answers it; first makes it durable, if that is asked for.
  void Done(const Request& request, int error);
  void Reply(uint64_t cookie, int error, const std::vector<std::string>& data);

  fuse::VolumeFile* const file_;  // null: it refuses
  const int socket_;

  absl::Mutex sending_;
  absl::Mutex mutex_;
  int unanswered_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace weir::nbd_device

#endif  // WEIR_CLIENT_NBD_DEVICE_SERVER_H_
