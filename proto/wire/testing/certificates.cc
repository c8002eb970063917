#include "proto/wire/testing/certificates.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "proto/base/check.h"
#include "proto/base/log.h"

namespace weir::wire {

TestCertificates::TestCertificates() {
  // The other resolver, c-ares, keeps ten bytes for good, which LeakSanitizer reports.
  ::setenv("GRPC_DNS_RESOLVER", "native", /*overwrite=*/1);
  folder_ = absl::StrCat(testing::TempDir(), "/certificates_XXXXXX");
  CHECK(::mkdtemp(folder_.data()) != nullptr);
}

TestCertificates::~TestCertificates() { std::filesystem::remove_all(folder_); }

void TestCertificates::MakeAuthority(const std::string& name) {
  Shell(absl::StrCat("openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=", name, " -days 2 -keyout ", name,
                     ".key -out ", name, ".pem"));
}

void TestCertificates::Make(const std::string& name, const std::string& san, const std::string& authority) {
  Shell(absl::StrCat("printf 'subjectAltName=", san, "' > san && openssl req -newkey rsa:2048 -nodes -subj /CN=", name,
                     " -keyout ", name, ".key -out csr && openssl x509 -req -in csr -CA ", authority, ".pem -CAkey ",
                     authority, ".key -CAcreateserial -days 2 -extfile san -out ", name, ".pem"));
}

void TestCertificates::Shell(const std::string& command) {
  const std::string whole = absl::StrCat("cd ", folder_, " && { ", command, "; } >log 2>&1");
  if (std::system(whole.c_str()) == 0) return;
  LOG(ERROR) << command << "\n" << Contents("log");
  CHECK(false);
}

std::string TestCertificates::Path(const std::string& name) const { return absl::StrCat(folder_, "/", name); }

std::string TestCertificates::Contents(const std::string& name) const {
  std::ifstream file(Path(name));
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

TlsFiles TestCertificates::Files(const std::string& name) const {
  return {Path(name + ".pem"), Path(name + ".key"), Path("ca.pem")};
}

std::shared_ptr<grpc::ChannelCredentials> TestCertificates::Credentials(const std::string& name) const {
  return grpc::SslCredentials({Contents("ca.pem"), Contents(name + ".key"), Contents(name + ".pem")});
}

}  // namespace weir::wire
