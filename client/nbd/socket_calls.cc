#include "client/nbd/socket_calls.h"

#include <endian.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>

#include "absl/time/time.h"
#include "client/nbd/reply_errno.h"
#include "client/nbd/unanswered.h"
#include "proto/base/call_redirect.h"

namespace weir::nbd {
namespace {

// NBD protocol, "Request message": magic, flags, type, cookie, offset, length.
constexpr uint32_t kRequestMagic = 0x25609513;
constexpr size_t kRequestBytes = 28;
constexpr uint16_t kDisconnect = 2;  // NBD_CMD_DISC

// A held request is answered in the end; a connection cannot be closed before that anyway.
constexpr absl::Duration kAnswersWaitMax = absl::Minutes(10);

constexpr int kNone = -1;

// Of this thread, one of nbdkit's. It answers one request before it reads the next.
thread_local int last_read = kNone;
thread_local int answering = kNone;
// From the first byte of a connection until it is opened: no request is read, though an option may have as many bytes,
// and its number may be that of an earlier one which left requests unanswered.
thread_local bool in_handshake = false;

Unanswered& TheUnanswered() {
  static Unanswered* unanswered = new Unanswered;
  return *unanswered;
}

bool TryAgain(ssize_t result) { return result < 0 && (errno == EINTR || errno == EAGAIN); }

// Like nbdkit's own loop, so that a header is seen whole. What has come before an end is returned;
// the end is there to be read again.
ssize_t ReadWhole(int fd, char* bytes, size_t size) {
  size_t filled = 0;
  while (filled < size) {
    const ssize_t result = read(fd, bytes + filled, size - filled);
    if (TryAgain(result)) continue;
    if (result <= 0) return filled > 0 ? static_cast<ssize_t>(filled) : result;
    filled += result;
  }
  return static_cast<ssize_t>(filled);
}

bool IsRequest(const char* bytes) {
  uint32_t magic;
  std::memcpy(&magic, bytes, sizeof magic);
  return be32toh(magic) == kRequestMagic;
}

// All but NBD_CMD_DISC.
bool IsAnswered(const char* request) {
  uint16_t type;
  std::memcpy(&type, request + 6, sizeof type);
  return be16toh(type) != kDisconnect;
}

}  // namespace

ssize_t ReadFromClient(int fd, void* buffer, size_t size) {
  char* const bytes = static_cast<char*>(buffer);
  last_read = fd;
  if (in_handshake) return read(fd, buffer, size);
  const bool header = answering == kNone && size == kRequestBytes;
  const ssize_t result = header ? ReadWhole(fd, bytes, size) : read(fd, bytes, size);
  if (TryAgain(result)) return result;
  if (header && result == static_cast<ssize_t>(kRequestBytes) && IsRequest(bytes)) {
    if (IsAnswered(bytes) && TheUnanswered().Take(fd)) answering = fd;
    return result;
  }
  if (header || result <= 0) {
    const int error = errno;
    TheUnanswered().AwaitAtMost(answering == fd ? 1 : 0, fd, kAnswersWaitMax);
    errno = error;
  }
  return result;
}

ssize_t SendToClient(int fd, const void* bytes, size_t size, int flags) {
  unsigned char corrected[kSimpleReplyBytes];
  if (CorrectReply(bytes, size, corrected)) bytes = corrected;
  ssize_t result = send(fd, bytes, size, flags);
  if (answering != fd || TryAgain(result)) return result;
  // The client is gone, and ReadFromClient() will say so.
  if (result < 0) result = static_cast<ssize_t>(size);
  // The last piece of a reply.
  if ((flags & MSG_MORE) == 0 && result == static_cast<ssize_t>(size)) {
    answering = kNone;
    TheUnanswered().Answer(fd);
  }
  return result;
}

bool RedirectSocketCalls() {
  return RedirectCall(kTheExecutable, "send", reinterpret_cast<void*>(&SendToClient)) &&
         RedirectCall(kTheExecutable, "read", reinterpret_cast<void*>(&ReadFromClient));
}

void ConnectionBegun() { in_handshake = true; }

void ConnectionOpened() {
  in_handshake = false;
  TheUnanswered().Open(last_read);
}

}  // namespace weir::nbd
