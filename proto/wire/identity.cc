#include "proto/wire/identity.h"

#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "grpcpp/security/auth_metadata_processor.h"
#include "grpcpp/security/tls_certificate_provider.h"
#include "grpcpp/security/tls_credentials_options.h"
#include "proto/base/check.h"
#include "proto/base/status_macros.h"
#include "proto/wire/access.h"
#include "proto/wire/certificates.h"
#include "proto/wire/loopback.h"

namespace weir::wire {
namespace {

using grpc::experimental::FileWatcherCertificateProvider;

constexpr char kUnixPrefix[] = "unix:";

struct Identity {
  absl::Mutex mutex;
  TlsFiles files ABSL_GUARDED_BY(mutex);
  // Watches the files on a thread of its own, for as long as the process lives.
  std::shared_ptr<FileWatcherCertificateProvider> provider ABSL_GUARDED_BY(mutex);
};

Identity& Own() {
  static auto* identity = new Identity;
  return *identity;
}

std::shared_ptr<FileWatcherCertificateProvider> Provider() {
  Identity& own = Own();
  absl::MutexLock lock(&own.mutex);
  return own.provider;
}

// --- who may call what ---

std::vector<std::string> UrisOf(const grpc::AuthContext& context) {
  std::vector<std::string> uris;
  for (const grpc::string_ref& uri : context.FindPropertyValues(GRPC_PEER_URI_PROPERTY_NAME)) {
    uris.emplace_back(uri.data(), uri.size());
  }
  return uris;
}

class AccessCheck final : public grpc::AuthMetadataProcessor {
 public:
  bool IsBlocking() const override { return false; }

  grpc::Status Process(const InputMetadata& metadata, grpc::AuthContext* context,
                       OutputMetadata*, OutputMetadata*) override {
    const auto path = metadata.find(":path");
    if (path == metadata.end()) {
      return grpc::Status(grpc::StatusCode::PERMISSION_DENIED, "the call names no method");
    }
    const absl::string_view method(path->second.data(), path->second.size());
    if (IsForAll(method)) return grpc::Status::OK;
    const Roles has = RolesOf(UrisOf(*context));
    const Roles allowed = Allowed(method);
    if ((has & allowed) != 0) return grpc::Status::OK;
    return grpc::Status(grpc::StatusCode::PERMISSION_DENIED,
                        absl::StrCat(method, " is for ", Describe(allowed), "; the caller's certificate has ",
                                     Describe(has), " (weir://ROLE among its URIs)"));
  }
};

std::shared_ptr<grpc::ChannelCredentials> TlsChannelCredentials(std::shared_ptr<FileWatcherCertificateProvider> provider,
                                                                bool shows_own) {
  grpc::experimental::TlsChannelCredentialsOptions options;
  options.set_certificate_provider(std::move(provider));
  options.watch_root_certs();
  if (shows_own) options.watch_identity_key_cert_pairs();
  auto credentials = grpc::experimental::TlsCredentials(options);
  CHECK(credentials != nullptr);
  return credentials;
}

bool IsUnix(const std::string& address) { return absl::StartsWith(address, kUnixPrefix); }

}  // namespace

absl::Status UseTls(const TlsFiles& files) {
  Identity& own = Own();
  if (!files.given()) {
    absl::MutexLock lock(&own.mutex);
    own.files.insecure |= files.insecure;
    return absl::OkStatus();
  }
  RETURN_IF_ERROR(CheckCertificates(files).status());
  absl::MutexLock lock(&own.mutex);
  if (own.provider != nullptr) {
    if (own.files == files) return absl::OkStatus();
    return absl::FailedPreconditionError("this process has another TLS identity already");
  }
  own.files = files;
  own.provider = std::make_shared<FileWatcherCertificateProvider>(files.key, files.cert, files.ca,
                                                                  kReloadSeconds);
  return absl::OkStatus();
}

TlsFiles IdentityFiles() {
  Identity& own = Own();
  absl::MutexLock lock(&own.mutex);
  return own.files;
}

std::shared_ptr<grpc::ServerCredentials> ServerCredentials(const std::string& listen) {
  const auto provider = Provider();
  if (provider == nullptr || IsUnix(listen)) return grpc::InsecureServerCredentials();
  grpc::experimental::TlsServerCredentialsOptions options(provider);
  options.watch_root_certs();
  options.watch_identity_key_cert_pairs();
  options.set_cert_request_type(GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
  auto credentials = grpc::experimental::TlsServerCredentials(options);
  CHECK(credentials != nullptr);
  credentials->SetAuthMetadataProcessor(std::make_shared<AccessCheck>());
  return credentials;
}

std::shared_ptr<grpc::ChannelCredentials> ChannelCredentials(const std::string& address) {
  const auto provider = Provider();
  if (IsUnix(address)) return grpc::InsecureChannelCredentials();
  if (provider != nullptr) return TlsChannelCredentials(provider, /*shows_own=*/true);
  if (IdentityFiles().insecure || IsThisMachine(address)) return grpc::InsecureChannelCredentials();
  // Plain text too, but a connection that comes to stand to another machine is ended before a byte is sent.
  return grpc::experimental::LocalCredentials(LOCAL_TCP);
}

absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> ForeignCredentials(const TlsFiles& files) {
  RETURN_IF_ERROR(CheckClientFiles(files));
  const bool shows_own = !files.cert.empty();
  auto provider = shows_own ? std::make_shared<FileWatcherCertificateProvider>(files.key, files.cert, files.ca,
                                                                               kReloadSeconds)
                            : std::make_shared<FileWatcherCertificateProvider>(files.ca, kReloadSeconds);
  return TlsChannelCredentials(std::move(provider), shows_own);
}

VolumeGrant GrantOf(const grpc::ServerContextBase& context) {
  const std::shared_ptr<const grpc::AuthContext> peer = context.auth_context();
  if (peer == nullptr || !peer->IsPeerAuthenticated()) return VolumeGrant();
  return VolumeGrant::Of(UrisOf(*peer));
}

VolumeGrant OwnGrant() {
  const TlsFiles files = IdentityFiles();
  if (!files.given()) return VolumeGrant();
  const absl::StatusOr<std::vector<std::string>> uris = OwnUris(files);
  return uris.ok() ? VolumeGrant::Of(*uris) : VolumeGrant();
}

absl::Status CheckListen(const std::string& listen, bool insecure) {
  if (insecure || Provider() != nullptr || listen.empty() || IsThisMachine(listen)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("listen=", listen, " would serve other machines in plain text; give tls_cert, tls_key and tls_ca, "
                   "or say insecure if the network is trusted"));
}

absl::Status CheckDial(absl::string_view flag, const std::string& address, const TlsFiles& tls) {
  // Without a port it is no address, which is said elsewhere.
  const bool is_address = absl::StrContains(address, ":");
  if (tls.insecure || tls.given() || !is_address || IsThisMachine(address)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(flag, ": ", address, " would be spoken to in plain text; give tls_cert, tls_key and tls_ca, "
                   "or say insecure if the network is trusted"));
}

}  // namespace weir::wire
