#include "client/nbd/hang_up.h"

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>
#include <pthread.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <system_error>

#include "proto/base/shortage.h"

namespace weir::nbd {
namespace {

// How long the destructor may wait for the thread to look.
constexpr unsigned kLookSeconds = 1;

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

std::vector<Socket> OpenSockets() {
  std::vector<Socket> found;
  std::error_code error;
  for (std::filesystem::directory_iterator it("/proc/self/fd", error), end; !error && it != end;
       it.increment(error)) {
    const int fd = std::atoi(it->path().filename().c_str());
    if (std::optional<Socket> socket = SocketOf(fd)) found.push_back(*std::move(socket));
  }
  return found;
}

}  // namespace

std::vector<std::string> ListenerAddresses() {
  std::vector<std::string> addresses;
  for (const Socket& socket : OpenSockets()) {
    if (socket.listening) addresses.push_back(socket.local_address);
  }
  return addresses;
}

int EndReading(const std::vector<std::string>& listeners) {
  int ended = 0;
  for (const Socket& socket : OpenSockets()) {
    if (socket.listening || std::find(listeners.begin(), listeners.end(), socket.local_address) ==
                                listeners.end()) {
      continue;
    }
    if (shutdown(socket.fd, SHUT_RD) == 0) ++ended;
  }
  return ended;
}

HangUp::HangUp() : listeners_(ListenerAddresses()), thread_([this] { AwaitShutdown(); }) {}

HangUp::~HangUp() {
  destroyed_.Notify();
  thread_.join();
}

void HangUp::AwaitShutdown() {
  pthread_setname_np(pthread_self(), "weir-hang-up");
  // Looks before it asks: a shutdown that comes with the destruction is still seen.
  do {
    // Fails at once when nbdkit shuts down: the one way a plugin is told.
    if (nbdkit_nanosleep(kLookSeconds, 0) != 0) {
      EndPatience();  // what waits would keep clients' requests, and nbdkit with them
      EndReading(listeners_);
      return;
    }
  } while (!destroyed_.HasBeenNotified());
}

}  // namespace weir::nbd
