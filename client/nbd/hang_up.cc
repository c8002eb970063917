#include "client/nbd/hang_up.h"

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>
#include <pthread.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstdlib>
#include <optional>
#include <utility>

#include "proto/base/shortage.h"

namespace weir::nbd {
namespace {

// How long the destructor may wait for the thread to look.
constexpr unsigned kLookSeconds = 1;
constexpr absl::Duration kLook = absl::Seconds(kLookSeconds);

struct Socket {
  int fd = -1;
  bool listening = false;
  std::string local_address;
};

std::optional<Socket> SocketOf(int fd) {
  Socket found;
  found.fd = fd;
  int listening = 0;
  socklen_t length = sizeof listening;
  if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &length) != 0) return std::nullopt;
  found.listening = listening != 0;
  sockaddr_storage address = {};
  length = sizeof address;
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length) != 0) return std::nullopt;
  found.local_address.assign(reinterpret_cast<const char*>(&address),
                             std::min<size_t>(length, sizeof address));
  return found;
}

std::vector<Socket> OpenSockets(Descriptors& descriptors) {
  std::vector<Socket> found;
  descriptors.ForEach([&found](int fd) {
    if (std::optional<Socket> socket = SocketOf(fd)) found.push_back(*std::move(socket));
  });
  return found;
}

}  // namespace

Descriptors::Descriptors() : directory_(opendir("/proc/self/fd"), closedir) {}

void Descriptors::ForEach(const std::function<void(int fd)>& visit) {
  if (directory_ == nullptr) return;
  rewinddir(directory_.get());
  while (const dirent* entry = readdir(directory_.get())) {
    if (entry->d_name[0] != '.') visit(std::atoi(entry->d_name));
  }
}

std::vector<std::string> ListenerAddresses(Descriptors& descriptors) {
  std::vector<std::string> addresses;
  for (const Socket& socket : OpenSockets(descriptors)) {
    if (socket.listening) addresses.push_back(socket.local_address);
  }
  return addresses;
}

int EndReading(Descriptors& descriptors, const std::vector<std::string>& listeners) {
  int ended = 0;
  for (const Socket& socket : OpenSockets(descriptors)) {
    if (socket.listening || std::find(listeners.begin(), listeners.end(), socket.local_address) ==
                                listeners.end()) {
      continue;
    }
    if (shutdown(socket.fd, SHUT_RD) == 0) ++ended;
  }
  return ended;
}

HangUp::HangUp(absl::Duration patience, std::function<void()> let_go)
    : patience_(patience),
      let_go_(std::move(let_go)),
      listeners_(ListenerAddresses(descriptors_)),
      thread_([this] { AwaitShutdown(); }) {}

HangUp::~HangUp() {
  {
    absl::MutexLock lock(&mu_);
    destroyed_ = true;
    changed_.SignalAll();
  }
  thread_.join();
}

bool HangUp::AwaitDestroyed(absl::Duration wait) {
  absl::MutexLock lock(&mu_);
  return changed_.AwaitFor(&mu_, wait, &destroyed_);
}

void HangUp::AwaitShutdown() {
  pthread_setname_np(pthread_self(), "weir-hang-up");
  // Looks before it asks: a shutdown that comes with the destruction is still seen.
  do {
    // Fails at once when nbdkit shuts down: the one way a plugin is told.
    if (nbdkit_nanosleep(kLookSeconds, 0) != 0) {
      EndPatience();  // what waits would keep clients' requests, and nbdkit with them
      return EndConnections();
    }
  } while (!AwaitDestroyed(absl::ZeroDuration()));
}

// nbdkit takes no more, but one that it has just taken may not have been seen yet.
void HangUp::EndConnections() {
  absl::Duration waited;
  do {
    EndReading(descriptors_, listeners_);
    if (waited >= patience_) let_go_();
    waited += kLook;
  } while (!AwaitDestroyed(kLook));
}

}  // namespace weir::nbd
