// Certificates for tests, made by openssl when they run.
#ifndef WEIR_PROTO_WIRE_TESTING_CERTIFICATES_H_
#define WEIR_PROTO_WIRE_TESTING_CERTIFICATES_H_

#include <memory>
#include <string>

#include "grpcpp/security/credentials.h"
#include "proto/base/tls_files.h"

namespace weir::wire {

// A folder of its own under the test's, gone with this object. A failure of openssl ends the
// test program.
//
// Thread-safety: none.
class TestCertificates {
 public:
  TestCertificates();
  ~TestCertificates();
  TestCertificates(const TestCertificates&) = delete;
  TestCertificates& operator=(const TestCertificates&) = delete;

  // NAME.pem and NAME.key, an authority of its own.
  void MakeAuthority(const std::string& name);
  // The same, signed by `authority`. `san`: alternative names as openssl has them, "IP:127.0.0.1,URI:weir://admin".
  void Make(const std::string& name, const std::string& san, const std::string& authority = "ca");
  // In that folder.
  void Shell(const std::string& command);

  std::string Path(const std::string& name) const;
  std::string Contents(const std::string& name) const;
  // Of a process whose peers are signed by the authority "ca".
  TlsFiles Files(const std::string& name) const;
  // As a peer with that certificate would connect, whatever this process's identity is.
  std::shared_ptr<grpc::ChannelCredentials> Credentials(const std::string& name) const;

 private:
  std::string folder_;
};

}  // namespace weir::wire

#endif  // WEIR_PROTO_WIRE_TESTING_CERTIFICATES_H_
