// What is in the files of a process's TLS identity.
//
// Thread-safety: free functions, safe. They read files.
#ifndef WEIR_PROTO_WIRE_CERTIFICATES_H_
#define WEIR_PROTO_WIRE_CERTIFICATES_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "proto/base/tls_files.h"
#include "proto/wire/access.h"

namespace weir::wire {

struct CertificateEnds {
  absl::Time certificate;  // the process's own, the first in its file
  absl::Time authority;    // the first of those that signed the peers'
};

// When they expire. INVALID_ARGUMENT: a file is missing, cannot be read, is not PEM, is not of the same key, or has
// expired; names it.
absl::StatusOr<CertificateEnds> CheckCertificates(const TlsFiles& files);

// Those of a client of a server that is none of ours, such as etcd: `cert` and `key` may both be missing. Errors as above,
// which name the files ca, cert and key.
absl::Status CheckClientFiles(const TlsFiles& files);

// When the first certificate of a PEM file expires, which may be past. INVALID_ARGUMENT: there is none; names the file.
absl::StatusOr<absl::Time> CertificateEnd(const std::string& path);

// For --check_config, of a process with an identity: that its own certificate is for one of `roles`, or for kAdmin, without which
// its calls are refused. INVALID_ARGUMENT: it is not, or cannot be read; says what it has.
absl::Status CheckOwnRole(const TlsFiles& files, Roles roles);

// The same: that peers who find the process at `address`, HOST:PORT, accept its certificate. It is for HOST, or a name in it has
// that address; where HOST is every address of the machine, it is for some host. OK for unix:PATH. `flag`: which gave the
// address. INVALID_ARGUMENT as above. May block for name servers.
absl::Status CheckOwnHost(const TlsFiles& files, absl::string_view flag, const std::string& address);

// The URIs among the names of the process's own certificate. INVALID_ARGUMENT: it cannot be read, or has expired.
absl::StatusOr<std::vector<std::string>> OwnUris(const TlsFiles& files);

}  // namespace weir::wire

#endif  // WEIR_PROTO_WIRE_CERTIFICATES_H_
