#include "proto/wire/certificates.h"

#include <memory>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/wire/testing/certificates.h"

namespace weir::wire {
namespace {

using testing::HasSubstr;

class CertificatesTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    certificates_ = new TestCertificates;
    certificates_->MakeAuthority("ca");
    certificates_->Make("fe", "IP:10.0.0.9,IP:::1,DNS:fe1.example,DNS:localhost,URI:weir://frontend/f1/volume/7");
    certificates_->Make("admin", "URI:weir://admin/me");
    certificates_->Make("none", "DNS:*.weir.example");
  }
  static void TearDownTestSuite() { delete certificates_; }

  static TlsFiles Files(const std::string& name) { return certificates_->Files(name); }

  static inline TestCertificates* certificates_ = nullptr;
};

TEST_F(CertificatesTest, ARoleThatTheProcessDoesNotNeedIsSaid) {
  EXPECT_TRUE(CheckOwnRole(Files("fe"), kFrontend).ok());
  EXPECT_TRUE(CheckOwnRole(Files("admin"), kFrontend).ok());
  EXPECT_TRUE(CheckOwnRole(TlsFiles(), kFrontend).ok());
  const absl::Status wrong = CheckOwnRole(Files("fe"), kReplica);
  EXPECT_TRUE(absl::IsInvalidArgument(wrong));
  EXPECT_THAT(wrong.message(), HasSubstr("has frontend, and this needs replica; give it one with weir://replica"));
  EXPECT_THAT(CheckOwnRole(Files("none"), kCsi).message(), HasSubstr("has no role, and this needs csi"));
  EXPECT_THAT(CheckOwnRole(Files("missing"), kCsi).message(), HasSubstr("missing.pem"));
}

TEST_F(CertificatesTest, AHostThatTheCertificateIsNotForIsSaid) {
  // 127.0.0.1 is localhost, by name.
  for (const char* found : {"10.0.0.9:1", "[::1]:1", "fe1.example:1", "127.0.0.1:1", "0.0.0.0:1", "[::]:1", ":1", "unix:/s"}) {
    EXPECT_TRUE(CheckOwnHost(Files("fe"), "listen", found).ok()) << found;
  }
  for (const char* other : {"10.0.0.8:1", "fe2.example:1", "[::2]:1"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(CheckOwnHost(Files("fe"), "listen", other))) << other;
  }
  EXPECT_TRUE(CheckOwnHost(Files("none"), "listen", "any.weir.example:1").ok());
  EXPECT_THAT(CheckOwnHost(Files("fe"), "advertise", "fe2.example:1").message(),
              HasSubstr("is for fe1.example, localhost, 10.0.0.9, ::1, and --advertise is fe2.example:1"));
  EXPECT_THAT(CheckOwnHost(Files("admin"), "listen", "0.0.0.0:1").message(), HasSubstr("is for no host"));
}

}  // namespace
}  // namespace weir::wire
