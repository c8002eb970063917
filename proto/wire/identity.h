// Who this process is to its peers, and how it finds out who they are: mutual TLS on
// every gRPC connection over TCP. Unix sockets stay plain: their permissions decide
// who may connect.
//
// A process has one identity, for all that it serves and calls. Without one
// everything is plain text.
//
// Thread-safety: free functions, safe.
#ifndef WEIR_PROTO_WIRE_IDENTITY_H_
#define WEIR_PROTO_WIRE_IDENTITY_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "grpcpp/security/credentials.h"
#include "grpcpp/security/server_credentials.h"
#include "grpcpp/server_context.h"
#include "proto/base/tls_files.h"
#include "proto/wire/access.h"

namespace weir::wire {

// Before the first server and the first channel. `insecure` counts even where there are no files. Files are read anew every
// kReloadSeconds, so that a certificate is replaced without a restart: connections made
// later use it, those that are open go on. Put new files there by rename, the key first;
// a key and a certificate that do not belong together are not taken.
// INVALID_ARGUMENT: a file is missing, cannot be read, is not PEM, is not of the same key,
// or has expired; names it. FAILED_PRECONDITION: the process has another identity already.
absl::Status UseTls(const TlsFiles& files);
inline constexpr unsigned kReloadSeconds = 1;

// As UseTls was told; not given: the process has no identity.
TlsFiles IdentityFiles();

// For a server at `listen`, HOST:PORT or unix:PATH: peers over TCP must show a certificate, and
// each call is checked against access.h (PERMISSION_DENIED).
std::shared_ptr<grpc::ServerCredentials> ServerCredentials(const std::string& listen);

// For a channel to `address`: the server's certificate must be for its host. Without an identity a channel to another
// machine stays unconnected, unless UseTls was told `insecure`.
std::shared_ptr<grpc::ChannelCredentials> ChannelCredentials(const std::string& address);

// For a channel to a server that is none of ours, such as etcd, which must show a certificate of `ca` for its host; `cert` and
// `key` are for one that asks. Files are read anew as UseTls says. INVALID_ARGUMENT: as CheckClientFiles.
absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> ForeignCredentials(const TlsFiles& files);

// Whose certificate the caller has shown. Over plain text there is none, and the grant is for all volumes.
VolumeGrant GrantOf(const grpc::ServerContextBase& context);

// What the process's own certificate is for, towards those who ask GrantOf. For all without an identity, and while its file
// cannot be read: the peers look at it in any case. Reads the file.
VolumeGrant OwnGrant();

// INVALID_ARGUMENT if a server at `listen` could be reached from other machines in plain text, and
// nobody said `insecure`.
absl::Status CheckListen(const std::string& listen, bool insecure);

// INVALID_ARGUMENT if a channel to `address` would leave this machine in plain text, and `tls` does not say that it may.
// `flag`: which gave the address.
absl::Status CheckDial(absl::string_view flag, const std::string& address, const TlsFiles& tls);

}  // namespace weir::wire

#endif  // WEIR_PROTO_WIRE_IDENTITY_H_
