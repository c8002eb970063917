// What nbdkit's executable does with a client's socket, as we need it done.
//
// nbdkit offers its plugins no way to change two things about its replies:
//
// - It answers EOPNOTSUPP with EINVAL: see reply_errno.h.
// - Its server ends with a failed assertion, for all clients, when a connection fails
//   while requests of that connection are unanswered (1.32.5: the thread that sees the
//   failure closes the sending side under those that are about to send).
//
// So the `read` and `send` that its executable calls are ours. A reply that cannot be
// sent counts as sent, and the end of a connection, or bytes that nbdkit will take for
// its failure, are read only when all other requests of that connection are answered.
#ifndef WEIR_CLIENT_NBD_SOCKET_CALLS_H_
#define WEIR_CLIENT_NBD_SOCKET_CALLS_H_

#include <sys/types.h>

#include <cstddef>

namespace weir::nbd {

// Returns false where the executable has no such calls: nbdkit then does as above.
// Not over TLS, where nbdkit leaves sockets to GnuTLS.
// REQUIRES: no other thread yet.
bool RedirectSocketCalls();

// To be called by the preconnect callback, on nbdkit's thread: a handshake follows on it.
void ConnectionBegun();

// To be called by the open callback, on nbdkit's thread: the connection that this thread
// has last read from is a client's, and requests follow on it.
void ConnectionOpened();

// Exposed for the test: what nbdkit calls then, as read(2) and send(2).
ssize_t ReadFromClient(int fd, void* buffer, size_t size);
ssize_t SendToClient(int fd, const void* bytes, size_t size, int flags);

}  // namespace weir::nbd

#endif  // WEIR_CLIENT_NBD_SOCKET_CALLS_H_
