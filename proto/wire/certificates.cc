#include "proto/wire/certificates.h"

#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "proto/base/status_macros.h"

namespace weir::wire {
namespace {

struct Closer {
  void operator()(FILE* file) const { std::fclose(file); }
  void operator()(X509* cert) const { X509_free(cert); }
  void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
  void operator()(GENERAL_NAMES* names) const { GENERAL_NAMES_free(names); }
};

template <typename Read>
auto ReadPem(absl::string_view flag, const std::string& path, const char* what, Read read)
    -> absl::StatusOr<std::unique_ptr<std::remove_pointer_t<decltype(read(nullptr))>, Closer>> {
  const std::unique_ptr<FILE, Closer> file(std::fopen(path.c_str(), "re"));
  if (file == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat(flag, "=", path, ": ", std::strerror(errno)));
  }
  auto* found = read(file.get());
  if (found == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat(flag, "=", path, ": there is no ", what, " in it, as PEM"));
  }
  return std::unique_ptr<std::remove_pointer_t<decltype(found)>, Closer>(found);
}

absl::StatusOr<std::unique_ptr<X509, Closer>> ReadAnyCertificate(absl::string_view flag, const std::string& path) {
  return ReadPem(flag, path, "certificate", [](FILE* file) { return PEM_read_X509(file, nullptr, nullptr, nullptr); });
}

absl::StatusOr<std::unique_ptr<X509, Closer>> ReadCertificate(absl::string_view flag,
                                                              const std::string& path) {
  ASSIGN_OR_RETURN(auto cert, ReadAnyCertificate(flag, path));
  if (X509_cmp_current_time(X509_get0_notAfter(cert.get())) < 0) {
    return absl::InvalidArgumentError(absl::StrCat(flag, "=", path, ": the certificate has expired"));
  }
  return cert;
}

// The certificate, whose key is beside it.
absl::StatusOr<std::unique_ptr<X509, Closer>> ReadPair(const char* cert_flag, const char* key_flag,
                                                       const TlsFiles& files) {
  ASSIGN_OR_RETURN(auto cert, ReadCertificate(cert_flag, files.cert));
  ASSIGN_OR_RETURN(const auto key, ReadPem(key_flag, files.key, "private key", [](FILE* file) {
                     // An empty passphrase, so that nobody is asked for one.
                     return PEM_read_PrivateKey(file, nullptr, nullptr, const_cast<char*>(""));
                   }));
  if (X509_check_private_key(cert.get(), key.get()) == 1) return cert;
  return absl::InvalidArgumentError(
      absl::StrCat(key_flag, "=", files.key, " is not the key of ", cert_flag, "=", files.cert));
}

absl::Time EndOf(const X509* cert) {
  std::tm end{};
  if (ASN1_TIME_to_tm(X509_get0_notAfter(cert), &end) != 1) return absl::InfinitePast();
  return absl::FromTM(end, absl::UTCTimeZone());
}

}  // namespace

absl::StatusOr<CertificateEnds> CheckCertificates(const TlsFiles& files) {
  if (files.cert.empty() || files.key.empty() || files.ca.empty()) {
    return absl::InvalidArgumentError("tls_cert, tls_key and tls_ca go together; give all three");
  }
  ASSIGN_OR_RETURN(const auto cert, ReadPair("tls_cert", "tls_key", files));
  ASSIGN_OR_RETURN(const auto ca, ReadCertificate("tls_ca", files.ca));
  return CertificateEnds{EndOf(cert.get()), EndOf(ca.get())};
}

absl::StatusOr<absl::Time> CertificateEnd(const std::string& path) {
  ASSIGN_OR_RETURN(const auto cert, ReadAnyCertificate("certificate", path));
  return EndOf(cert.get());
}

absl::Status CheckClientFiles(const TlsFiles& files) {
  RETURN_IF_ERROR(ReadCertificate("ca", files.ca).status());
  if (files.cert.empty() != files.key.empty()) return absl::InvalidArgumentError("give cert and key, or neither");
  return files.cert.empty() ? absl::OkStatus() : ReadPair("cert", "key", files).status();
}

absl::StatusOr<std::vector<std::string>> OwnUris(const TlsFiles& files) {
  ASSIGN_OR_RETURN(const auto cert, ReadCertificate("tls_cert", files.cert));
  const std::unique_ptr<GENERAL_NAMES, Closer> names(static_cast<GENERAL_NAMES*>(
      X509_get_ext_d2i(cert.get(), NID_subject_alt_name, /*crit=*/nullptr, /*idx=*/nullptr)));
  std::vector<std::string> uris;
  for (int i = 0; names != nullptr && i < sk_GENERAL_NAME_num(names.get()); ++i) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(names.get(), i);
    if (name->type != GEN_URI) continue;
    const ASN1_IA5STRING* uri = name->d.uniformResourceIdentifier;
    uris.emplace_back(reinterpret_cast<const char*>(ASN1_STRING_get0_data(uri)), ASN1_STRING_length(uri));
  }
  return uris;
}

}  // namespace weir::wire
