// Where a process's certificate is, and whether it may do without. What is done with it: proto/wire/identity.h.
#ifndef WEIR_PROTO_BASE_TLS_FILES_H_
#define WEIR_PROTO_BASE_TLS_FILES_H_

#include <string>
#include <vector>

namespace weir {

// PEM files. All three, or none: then there is no TLS.
struct TlsFiles {
  std::string cert;  // this process's certificate, and its intermediates
  std::string key;
  std::string ca;  // that signed the peers' certificates
  // Without them: other machines are spoken to in plain text. Else only this one is.
  bool insecure = false;

  bool given() const { return !cert.empty() || !key.empty() || !ca.empty(); }
  bool operator==(const TlsFiles& other) const = default;
};

// With absolute paths, for a process that leaves the folder in which they were given, or starts another one. Links
// stay links: a certificate may be replaced by another link.
TlsFiles Absolute(const TlsFiles& files);

// As flags of another program of ours.
std::vector<std::string> AsFlags(const TlsFiles& files);

}  // namespace weir

#endif  // WEIR_PROTO_BASE_TLS_FILES_H_
