// The errno that reaches an NBD client.
//
// NBD knows eight of them. nbdkit translates the rest, and two of its choices are
// wrong for us: what it does not know becomes EINVAL, as if the client had
// made a mistake, and so does EOPNOTSUPP, which NBD can express (NBD_ENOTSUP) but nbdkit
// sends in reply to fast zeroes only. A flush that a replica cannot do must say
// so, not EINVAL.
#ifndef WEIR_CLIENT_NBD_REPLY_ERRNO_H_
#define WEIR_CLIENT_NBD_REPLY_ERRNO_H_

#include <cstddef>

namespace weir::nbd {

// `error` as nbdkit should be told: one that NBD has, EIO for all others.
// ESTALE, which means that another frontend has taken over, is ESHUTDOWN.
int ErrorForClient(int error);

// To be called by a data callback that is about to fail, on its own thread, on
// which nbdkit sends the reply; a success needs no call.
void NoteReplyError(int error);

// To be asked about all that nbdkit sends. If `bytes` is a simple reply with EINVAL, and
// the last error noted on this thread was EOPNOTSUPP, writes the corrected reply to
// `corrected` and returns true. The note is used up by any reply.
inline constexpr size_t kSimpleReplyBytes = 16;
bool CorrectReply(const void* bytes, size_t size, unsigned char corrected[kSimpleReplyBytes]);

}  // namespace weir::nbd

#endif  // WEIR_CLIENT_NBD_REPLY_ERRNO_H_
