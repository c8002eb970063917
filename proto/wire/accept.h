// Keeps a server's listeners alive, and files for the process itself, when more connect than it may have files.
#ifndef WEIR_PROTO_WIRE_ACCEPT_H_
#define WEIR_PROTO_WIRE_ACCEPT_H_

#include <sys/socket.h>

namespace weir::wire {

// From the first call on gRPC's listeners in this process accept with AcceptWithinLimit. A listener of gRPC 1.51 whose accept4 has
// once failed, as when no file may be opened (EMFILE), accepts nobody ever again. Thread-safety: safe.
// REQUIRES: no gRPC server in this process has begun to listen.
void KeepListenersAlive();

// Exposed for the test: as accept4(2), but no error ends a listener. While the process has three quarters of the
// files open that it may (RLIMIT_NOFILE), whoever connects is closed at once, so that there are files for what it
// stores, and for connections that it begins.
int AcceptWithinLimit(int listener, sockaddr* address, socklen_t* size, int flags);

}  // namespace weir::wire

#endif  // WEIR_PROTO_WIRE_ACCEPT_H_
