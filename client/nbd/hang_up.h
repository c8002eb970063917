// Lets go of clients that stay connected, so that nbdkit can end.
//
// At SIGTERM nbdkit waits until every client has closed its connection of its
// own accord, and a mounted file system or a virtual machine never does.
#ifndef WEIR_CLIENT_NBD_HANG_UP_H_
#define WEIR_CLIENT_NBD_HANG_UP_H_

#include <string>
#include <thread>
#include <vector>

#include "absl/synchronization/notification.h"

namespace weir::nbd {

// From nbdkit's shutdown on, clients read as if they had closed their side:
// nbdkit finishes and answers the requests it has, then ends the connection.
//
// Owns a thread, which the destructor joins within a second or so. Thread-compatible.
class HangUp {
 public:
  // REQUIRES: every listening socket of this process is nbdkit's; those that
  // come later are others' and are left alone.
  HangUp();
  ~HangUp();
  HangUp(const HangUp&) = delete;
  HangUp& operator=(const HangUp&) = delete;

 private:
  void AwaitShutdown();

  // Local addresses, as the kernel gives them, of nbdkit's listeners; a
  // connection has its listener's.
  const std::vector<std::string> listeners_;
  absl::Notification destroyed_;
  std::thread thread_;
};

// For HangUp and its test: the local addresses of this process's listening
// sockets, and the end of reading from each connection that came in by one of them. Returns how many.
std::vector<std::string> ListenerAddresses();
int EndReading(const std::vector<std::string>& listeners);

}  // namespace weir::nbd

#endif  // WEIR_CLIENT_NBD_HANG_UP_H_
