#include "proto/wire/certificates.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
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

std::string TextOf(const ASN1_STRING* text) {
  return {reinterpret_cast<const char*>(ASN1_STRING_get0_data(text)), static_cast<size_t>(ASN1_STRING_length(text))};
}

template <typename Use>
void ForEachName(const X509* cert, Use use) {
  const std::unique_ptr<GENERAL_NAMES, Closer> names(
      static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(cert, NID_subject_alt_name, /*crit=*/nullptr, /*idx=*/nullptr)));
  for (int i = 0; names != nullptr && i < sk_GENERAL_NAME_num(names.get()); ++i) use(sk_GENERAL_NAME_value(names.get(), i));
}

struct Hosts {
  std::vector<std::string> names;
  std::vector<std::string> all;  // those, and addresses
};

Hosts HostsOf(const X509* cert) {
  Hosts hosts;
  ForEachName(cert, [&hosts](const GENERAL_NAME* name) {
    if (name->type == GEN_DNS) hosts.names.push_back(TextOf(name->d.dNSName));
    if (name->type != GEN_IPADD) return;
    const std::string bytes = TextOf(name->d.iPAddress);
    char text[INET6_ADDRSTRLEN] = "";
    ::inet_ntop(bytes.size() == 4 ? AF_INET : AF_INET6, bytes.data(), text, sizeof(text));
    hosts.all.emplace_back(text);
  });
  hosts.all.insert(hosts.all.begin(), hosts.names.begin(), hosts.names.end());
  return hosts;
}

// Of HOST:PORT, without the brackets of an IPv6 address.
std::string HostOf(const std::string& address) {
  absl::string_view host = absl::string_view(address).substr(0, address.rfind(':'));
  if (absl::ConsumePrefix(&host, "[")) absl::ConsumeSuffix(&host, "]");
  return std::string(host);
}

// The addresses of `host`, as text; none: it is not known.
std::vector<std::string> Lookup(const std::string& host) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  std::vector<std::string> addresses;
  if (::getaddrinfo(host.c_str(), nullptr, &hints, &found) != 0) return addresses;
  for (const addrinfo* one = found; one != nullptr; one = one->ai_next) {
    char text[NI_MAXHOST];
    if (::getnameinfo(one->ai_addr, one->ai_addrlen, text, sizeof(text), nullptr, 0, NI_NUMERICHOST) == 0) addresses.emplace_back(text);
  }
  ::freeaddrinfo(found);
  return addresses;
}

bool IsFor(X509* cert, const Hosts& own, const std::string& host) {
  if (X509_check_host(cert, host.data(), host.size(), X509_CHECK_FLAG_NEVER_CHECK_SUBJECT, nullptr) == 1) return true;
  if (X509_check_ip_asc(cert, host.c_str(), 0) == 1) return true;
  return std::any_of(own.names.begin(), own.names.end(), [&host](const std::string& name) {
    const std::vector<std::string> addresses = Lookup(name);
    return std::find(addresses.begin(), addresses.end(), host) != addresses.end();
  });
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

absl::Status CheckOwnRole(const TlsFiles& files, Roles roles) {
  if (!files.given()) return absl::OkStatus();
  ASSIGN_OR_RETURN(const std::vector<std::string> uris, OwnUris(files));
  const Roles has = RolesOf(uris);
  if ((has & (roles | kAdmin)) != 0) return absl::OkStatus();
  const std::string needed = Describe(roles);
  return absl::InvalidArgumentError(absl::StrCat("tls_cert=", files.cert, ": the certificate has ", Describe(has), ", and this needs ",
                                                 needed, "; give it one with weir://", needed, " among its URIs"));
}

absl::Status CheckOwnHost(const TlsFiles& files, absl::string_view flag, const std::string& address) {
  if (!files.given() || absl::StartsWith(address, "unix:")) return absl::OkStatus();
  const std::string host = HostOf(address);
  ASSIGN_OR_RETURN(const auto cert, ReadCertificate("tls_cert", files.cert));
  const Hosts own = HostsOf(cert.get());
  const bool every = host.empty() || host == "*" || host == "0.0.0.0" || host == "::";
  if (every ? !own.all.empty() : IsFor(cert.get(), own, host)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("tls_cert=", files.cert, ": the certificate is for ", own.all.empty() ? "no host" : absl::StrJoin(own.all, ", "),
                   ", and --", flag, " is ", address, "; peers refuse it, give one with that host among its names"));
}

absl::Status CheckClientFiles(const TlsFiles& files) {
  RETURN_IF_ERROR(ReadCertificate("ca", files.ca).status());
  if (files.cert.empty() != files.key.empty()) return absl::InvalidArgumentError("give cert and key, or neither");
  return files.cert.empty() ? absl::OkStatus() : ReadPair("cert", "key", files).status();
}

absl::StatusOr<std::vector<std::string>> OwnUris(const TlsFiles& files) {
  ASSIGN_OR_RETURN(const auto cert, ReadCertificate("tls_cert", files.cert));
  std::vector<std::string> uris;
  ForEachName(cert.get(), [&uris](const GENERAL_NAME* name) {
    if (name->type == GEN_URI) uris.push_back(TextOf(name->d.uniformResourceIdentifier));
  });
  return uris;
}

}  // namespace weir::wire
