// Lets go of clients that stay connected, so that nbdkit can end.
//
// At SIGTERM nbdkit waits until every client has closed its connection of its
// own accord, and a mounted file system or a virtual machine never does.
#ifndef WEIR_CLIENT_NBD_HANG_UP_H_
#define WEIR_CLIENT_NBD_HANG_UP_H_

#include <dirent.h>

#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "proto/base/steady.h"

namespace weir::nbd {

// This process's descriptors. Opened beforehand, since there may be none left when they are looked through.
class Descriptors {
 public:
  Descriptors();
  // Calls `visit` with each of them, the one of this object too. One thread at a time.
  void ForEach(const std::function<void(int fd)>& visit);

 private:
  std::unique_ptr<DIR, int (*)(DIR*)> directory_;
};

// From nbdkit's shutdown on, clients read as if they had closed their side:
// nbdkit finishes and answers the requests it has, then ends the connection.
//
// Owns a thread, which the destructor joins within a second or so. Thread-compatible.
class HangUp {
 public:
  // If requests are still not answered so long after the shutdown, `let_go` is called, on the object's thread and every second
  // from then on: it must see to it that they are. The destructor waits for a call that is under way.
  // REQUIRES: every listening socket of this process is nbdkit's; those that
  // come later are others' and are left alone.
  HangUp(absl::Duration patience, std::function<void()> let_go);
  ~HangUp();
  HangUp(const HangUp&) = delete;
  HangUp& operator=(const HangUp&) = delete;

 private:
  void AwaitShutdown();
  void EndConnections();
  // Whether the destructor has come within `wait`.
  bool AwaitDestroyed(absl::Duration wait);

  const absl::Duration patience_;
  const std::function<void()> let_go_;
  Descriptors descriptors_;
  // Local addresses, as the kernel gives them, of nbdkit's listeners; a
  // connection has its listener's.
  const std::vector<std::string> listeners_;
  absl::Mutex mu_;
  SteadyCondVar changed_;
  bool destroyed_ ABSL_GUARDED_BY(mu_) = false;
  std::thread thread_;
};

// For HangUp and its test: the local addresses of this process's listening
// sockets, and the end of reading from each connection that came in by one of them. Returns how many.
std::vector<std::string> ListenerAddresses(Descriptors& descriptors);
int EndReading(Descriptors& descriptors, const std::vector<std::string>& listeners);

}  // namespace weir::nbd

#endif  // WEIR_CLIENT_NBD_HANG_UP_H_
