#include "client/nbd/reply_errno.h"

#include <endian.h>

#include <cerrno>
#include <cstdint>
#include <cstring>

namespace weir::nbd {
namespace {

// NBD protocol, "Simple reply message": magic, error, cookie; big endian. nbdkit
// answers all commands but reads and block status with it, in one send.
constexpr uint32_t kSimpleReplyMagic = 0x67446698;
constexpr uint32_t kNbdEinval = 22;
constexpr uint32_t kNbdEnotsup = 95;

thread_local int noted_error = 0;

}  // namespace

int ErrorForClient(int error) {
  switch (error) {
    case EPERM:
    case EROFS:
    case EIO:
    case ENOMEM:
    case EINVAL:
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
    case EOVERFLOW:
    case ESHUTDOWN:
    case EOPNOTSUPP:
      return error;
    case ESTALE:
      return ESHUTDOWN;
    default:
      return EIO;
  }
}

void NoteReplyError(int error) { noted_error = error; }

bool CorrectReply(const void* bytes, size_t size, unsigned char corrected[kSimpleReplyBytes]) {
  if (noted_error == 0 || size != kSimpleReplyBytes) return false;
  uint32_t magic;
  uint32_t error;
  std::memcpy(&magic, bytes, sizeof magic);
  std::memcpy(&error, static_cast<const char*>(bytes) + sizeof magic, sizeof error);
  if (be32toh(magic) != kSimpleReplyMagic) return false;
  const int noted = noted_error;
  noted_error = 0;
  if (noted != EOPNOTSUPP || be32toh(error) != kNbdEinval) return false;
  std::memcpy(corrected, bytes, kSimpleReplyBytes);
  const uint32_t not_supported = htobe32(kNbdEnotsup);
  std::memcpy(corrected + sizeof magic, &not_supported, sizeof not_supported);
  return true;
}

}  // namespace weir::nbd
