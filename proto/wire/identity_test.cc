// Servers and channels under a process's identity, and peers with certificates of other kinds.
#include "proto/wire/identity.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "grpcpp/grpcpp.h"
#include "gtest/gtest.h"
#include "proto/wire/testing/certificates.h"
#include "weir/v1/volume.grpc.pb.h"

namespace weir::wire {
namespace {

using grpc::StatusCode;
using testing::HasSubstr;

class IdentityTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    certificates_ = new TestCertificates;
    certificates_->MakeAuthority("ca");
    certificates_->MakeAuthority("stranger");
    certificates_->Make("own", "IP:127.0.0.1,URI:weir://frontend/f1/volume/7,URI:weir://frontend/f1/volume/9");
    certificates_->Make("viewer", "URI:weir://viewer");
    certificates_->Make("nobody", "DNS:nobody");
    certificates_->Make("foreign", "URI:weir://admin", "stranger");
  }
  static void TearDownTestSuite() { delete certificates_; }

  static std::string Path(const std::string& name) { return certificates_->Path(name); }
  static TlsFiles Files(const std::string& name) { return certificates_->Files(name); }
  static std::shared_ptr<grpc::ChannelCredentials> With(const std::string& name) {
    return certificates_->Credentials(name);
  }

  void Serve(const std::string& listen = "127.0.0.1:0") {
    grpc::ServerBuilder builder;
    builder.AddListeningPort(listen, ServerCredentials(listen), &port_);
    builder.RegisterService(&service_);
    server_ = builder.BuildAndStart();
    ASSERT_NE(server_, nullptr);
  }

  template <typename Request, typename Response>
  grpc::Status Call(const std::shared_ptr<grpc::ChannelCredentials>& credentials, const std::string& host,
                    grpc::Status (v1::VolumeService::Stub::*method)(grpc::ClientContext*, const Request&, Response*)) {
    const auto channel = grpc::CreateChannel(absl::StrCat(host, ":", port_), credentials);
    const auto stub = v1::VolumeService::NewStub(channel);
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(absl::Now() + absl::Seconds(10)));
    Response response;
    return (stub.get()->*method)(&context, Request(), &response);
  }

  static TestCertificates* certificates_;
  v1::VolumeService::Service service_;  // answers UNIMPLEMENTED to whom it lets in
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};
TestCertificates* IdentityTest::certificates_ = nullptr;

using Stub = v1::VolumeService::Stub;

TEST_F(IdentityTest, FilesThatCannotWorkAreRefusedAndNamed) {
  EXPECT_TRUE(UseTls({}).ok());
  EXPECT_THAT(UseTls({Path("own.pem"), "", Path("ca.pem")}).message(), HasSubstr("go together"));
  TlsFiles files = Files("own");
  files.key = Path("gone.key");
  EXPECT_THAT(UseTls(files).message(), HasSubstr("gone.key: No such file"));
  files.key = Path("own.pem");
  EXPECT_THAT(UseTls(files).message(), HasSubstr("no private key in it"));
  files.key = Path("viewer.key");
  EXPECT_THAT(UseTls(files).message(), HasSubstr("is not the key of"));
  files = Files("own");
  files.ca = Path("log");
  EXPECT_THAT(UseTls(files).message(), HasSubstr("no certificate in it"));
  certificates_->Shell("openssl x509 -req -in csr -CA ca.pem -CAkey ca.key -CAcreateserial -days -1 -out old.pem");
  files = Files("own");
  files.cert = Path("old.pem");
  EXPECT_THAT(UseTls(files).message(), HasSubstr("has expired"));
}

TEST_F(IdentityTest, PlainTextIsForThisMachine) {
  for (const char* listen : {"", "127.0.0.1:1", "127.9.9.9:1", "localhost:1", "[::1]:1", "unix:/run/x"}) {
    EXPECT_TRUE(CheckListen(listen, /*insecure=*/false).ok()) << listen;
  }
  for (const char* listen : {"0.0.0.0:1", "10.0.0.1:1", "[::]:1", "node7:1", "localhost.example:1", "127.example:1"}) {
    EXPECT_THAT(CheckListen(listen, /*insecure=*/false).message(), HasSubstr("plain text")) << listen;
    EXPECT_TRUE(CheckListen(listen, /*insecure=*/true).ok()) << listen;
  }
}

TEST_F(IdentityTest, OtherMachinesAreNotSpokenToInPlainText) {
  const TlsFiles none, trusting{.insecure = true};
  for (const char* address : {"127.0.0.1:1", "localhost:1", "[::1]:1", "unix:/run/x"}) {
    EXPECT_TRUE(CheckDial("frontend", address, none).ok()) << address;
  }
  for (const char* address : {"10.0.0.1:1", "node7:1"}) {
    EXPECT_EQ(CheckDial("frontend", address, none).message(),
              absl::StrCat("frontend: ", address, " would be spoken to in plain text; give tls_cert, tls_key and tls_ca, "
                           "or say insecure if the network is trusted"));
    EXPECT_TRUE(CheckDial("frontend", address, Files("own")).ok()) << address;
    EXPECT_TRUE(CheckDial("frontend", address, trusting).ok()) << address;
  }
}

// Where this machine would be called by others. Empty: nowhere. Nothing is sent.
std::string OwnAddress() {
  const int fd = ::socket(AF_INET, SOCK_DGRAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(9);
  ::inet_pton(AF_INET, "192.0.2.1", &address.sin_addr);
  socklen_t size = sizeof(address);
  auto* const raw = reinterpret_cast<sockaddr*>(&address);
  const bool found = ::connect(fd, raw, size) == 0 && ::getsockname(fd, raw, &size) == 0;
  ::close(fd);
  char text[INET_ADDRSTRLEN] = "";
  return found ? ::inet_ntop(AF_INET, &address.sin_addr, text, sizeof(text)) : "";
}

// What is not looked at beforehand, such as an address that the catalog has.
TEST_F(IdentityTest, AChannelToAnotherMachineStaysUnconnectedInPlainText) {
  Serve("0.0.0.0:0");
  const std::string here = absl::StrCat("127.0.0.1:", port_);
  EXPECT_EQ(Call(ChannelCredentials(here), "127.0.0.1", &Stub::ListVolumes).error_code(), StatusCode::UNIMPLEMENTED);
  const std::string own = OwnAddress();
  if (own.empty()) GTEST_SKIP() << "this machine has no address but loopback ones";
  const std::string there = absl::StrCat(own, ":", port_);
  const grpc::Status refused = Call(ChannelCredentials(there), own, &Stub::ListVolumes);
  EXPECT_EQ(refused.error_code(), StatusCode::UNAVAILABLE) << refused.error_message();
  EXPECT_TRUE(UseTls({.insecure = true}).ok());
  EXPECT_EQ(Call(ChannelCredentials(there), own, &Stub::ListVolumes).error_code(), StatusCode::UNIMPLEMENTED);
}

// The last one: the identity stays.
TEST_F(IdentityTest, PeersShowCertificatesAndMayDoWhatTheirRolesMay) {
  EXPECT_TRUE(OwnGrant().CheckAll().ok()) << "without an identity nothing is refused";
  ASSERT_TRUE(UseTls(Files("own")).ok());
  EXPECT_TRUE(UseTls(Files("own")).ok());
  EXPECT_EQ(UseTls(Files("viewer")).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(CheckListen("0.0.0.0:1", /*insecure=*/false).ok());
  EXPECT_TRUE(OwnGrant().Covers(7));
  EXPECT_TRUE(OwnGrant().Covers(9));
  EXPECT_FALSE(OwnGrant().Covers(8));
  Serve();

  const grpc::Status looked = Call(With("viewer"), "127.0.0.1", &Stub::ListVolumes);
  EXPECT_EQ(looked.error_code(), StatusCode::UNIMPLEMENTED) << looked.error_message();
  const grpc::Status refused = Call(With("viewer"), "127.0.0.1", &Stub::CreateVolume);
  EXPECT_EQ(refused.error_code(), StatusCode::PERMISSION_DENIED);
  EXPECT_EQ(refused.error_message(),
            "/weir.v1.VolumeService/CreateVolume is for admin or csi; the caller's certificate has viewer "
            "(weir://ROLE among its URIs)");
  const grpc::Status no_role = Call(With("nobody"), "127.0.0.1", &Stub::ListVolumes);
  EXPECT_EQ(no_role.error_code(), StatusCode::PERMISSION_DENIED);
  EXPECT_THAT(no_role.error_message(), HasSubstr("no role"));

  EXPECT_EQ(Call(With("foreign"), "127.0.0.1", &Stub::ListVolumes).error_code(), StatusCode::UNAVAILABLE);
  EXPECT_EQ(Call(grpc::InsecureChannelCredentials(), "127.0.0.1", &Stub::ListVolumes).error_code(),
            StatusCode::UNAVAILABLE);

  // Our own channels: a frontend's certificate, and a server that must be who it says.
  const auto own = ChannelCredentials(absl::StrCat("127.0.0.1:", port_));
  EXPECT_THAT(Call(own, "127.0.0.1", &Stub::ListVolumes).error_message(), HasSubstr("certificate has frontend"));
  EXPECT_EQ(Call(own, "localhost", &Stub::ListVolumes).error_code(), StatusCode::UNAVAILABLE);
}

}  // namespace
}  // namespace weir::wire
