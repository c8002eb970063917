#include "volume/catalog/etcd_client.h"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "volume/catalog/testing/fake_etcd.h"

namespace weir::catalog {
namespace {

using etcdserverpb::TxnRequest;

EtcdConfig ConfigFor(const FakeEtcd& etcd) {
  EtcdConfig config;
  config.endpoints = etcd.endpoints();
  config.attempt_deadline = absl::Milliseconds(300);
  config.call_deadline = absl::Seconds(2);
  config.round_delay = absl::Milliseconds(10);
  return config;
}

std::unique_ptr<EtcdClient> ClientFor(EtcdConfig config) {
  auto client = EtcdClient::Make(std::move(config));
  EXPECT_TRUE(client.ok()) << client.status();
  return *std::move(client);
}

TxnRequest Get(const std::string& key) {
  TxnRequest request;
  request.add_success()->mutable_request_range()->set_key(key);
  return request;
}

TxnRequest Set(const std::string& key, const std::string& value) {
  TxnRequest request;
  auto* put = request.add_success()->mutable_request_put();
  put->set_key(key);
  put->set_value(value);
  return request;
}

TEST(EtcdConfigTest, ReadsEndpointsAndParameters) {
  const auto config =
      EtcdConfig::Parse("10.0.0.1:2379,[::1]:2379,etcd.local:1?ca=/a&cert=/b&key=/c&prefix=w2/&timeout=2s");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->endpoints,
            (std::vector<std::string>{"10.0.0.1:2379", "[::1]:2379", "etcd.local:1"}));
  EXPECT_EQ(config->ca, "/a");
  EXPECT_EQ(config->cert, "/b");
  EXPECT_EQ(config->key, "/c");
  EXPECT_EQ(config->prefix, "w2/");
  EXPECT_EQ(config->call_deadline, absl::Seconds(2));
  EXPECT_EQ(EtcdConfig::Parse("a:1")->prefix, "weir/");
  const std::string cluster(32, 'a');
  EXPECT_EQ(EtcdConfig::Parse("a:1?cluster=" + cluster)->cluster, cluster);
  EXPECT_TRUE(absl::IsInvalidArgument(EtcdConfig::Parse("a:1?cluster=mine").status()));
}

TEST(EtcdClientTest, StaysWithTheMemberThatAnswered) {
  FakeEtcd etcd(3);
  auto client = ClientFor(ConfigFor(etcd));
  etcd.Misbehave(EtcdFault::kNoLeader, 1, 0);
  ASSERT_TRUE(client->Txn(Set("k", "v")).ok());
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(client->Txn(Get("k")).ok());
  EXPECT_EQ(etcd.calls(0), 1);
  EXPECT_EQ(etcd.calls(1), 4);
}

TEST(EtcdClientTest, LeavesASilentMemberForTheNextOne) {
  FakeEtcd etcd(3);
  auto client = ClientFor(ConfigFor(etcd));
  etcd.Misbehave(EtcdFault::kSilent, 100, 0);
  etcd.Misbehave(EtcdFault::kSilent, 100, 1);
  const absl::Time start = absl::Now();
  const auto answer = client->Txn(Get("k"));
  EXPECT_TRUE(answer.ok()) << answer.status();
  EXPECT_LT(absl::Now() - start, absl::Seconds(2));
  EXPECT_EQ(etcd.calls(2), 1);
}

TEST(EtcdClientTest, WaitsForALeaderUntilItsDeadlineThenSaysUnavailable) {
  FakeEtcd etcd(3);
  auto client = ClientFor(ConfigFor(etcd));
  etcd.Misbehave(EtcdFault::kNoLeader, 20);
  EXPECT_TRUE(client->Txn(Get("k")).ok());
  etcd.Misbehave(EtcdFault::kNoLeader, 1'000'000);
  const auto answer = client->Txn(Get("k"));
  EXPECT_TRUE(absl::IsUnavailable(answer.status())) << answer.status();
  EXPECT_TRUE(absl::StrContains(answer.status().message(), "no leader")) << answer.status();
  EXPECT_TRUE(absl::StrContains(answer.status().message(), "majority")) << answer.status();
}

TEST(EtcdClientTest, NobodyListensIsUnavailable) {
  EtcdConfig config;
  {
    FakeEtcd gone(2);
    config = ConfigFor(gone);
  }
  config.call_deadline = absl::Milliseconds(500);
  const auto answer = ClientFor(config)->Txn(Get("k"));
  EXPECT_TRUE(absl::IsUnavailable(answer.status())) << answer.status();
}

TEST(EtcdClientTest, ARefusalOfEveryMemberIsNotRepeated) {
  for (EtcdFault fault : {EtcdFault::kDenied, EtcdFault::kNoSpace, EtcdFault::kCompacted}) {
    FakeEtcd etcd(3);
    auto client = ClientFor(ConfigFor(etcd));
    etcd.Misbehave(fault, 1'000'000);
    const auto answer = client->Txn(Set("k", "v"));
    EXPECT_TRUE(absl::IsFailedPrecondition(answer.status())) << answer.status();
    EXPECT_TRUE(absl::StrContains(answer.status().message(), "etcdserver")) << answer.status();
    EXPECT_EQ(etcd.calls(0) + etcd.calls(1) + etcd.calls(2), 3);
  }
}

TEST(EtcdClientTest, OneMemberThatRefusesIsLeftForTheOthers) {
  FakeEtcd etcd(2);
  auto client = ClientFor(ConfigFor(etcd));
  etcd.Misbehave(EtcdFault::kDenied, 1'000'000, 0);
  EXPECT_TRUE(client->Txn(Set("k", "v")).ok());
}

TEST(EtcdClientTest, AnswersThatCannotBeTrueAreRefusedWithWords) {
  const std::pair<EtcdFault, const char*> cases[] = {
      {EtcdFault::kOfAnotherEtcd, "member of etcd"},
      {EtcdFault::kOldRevision, "lies before"},
      {EtcdFault::kNoHeader, "not etcd's"},
      {EtcdFault::kTooFewAnswers, "every operation"},
      {EtcdFault::kWrongOperation, "another operation"},
      {EtcdFault::kWrongKey, "not asked for"},
      {EtcdFault::kFutureKey, "none that there can be"},
  };
  for (const auto& [fault, words] : cases) {
    FakeEtcd etcd(2);
    EtcdConfig config = ConfigFor(etcd);
    config.call_deadline = absl::Milliseconds(400);
    auto client = ClientFor(config);
    ASSERT_TRUE(client->Txn(Set("k", "v")).ok());
    // One member that lies is left for the other one.
    etcd.Misbehave(fault, 1);
    auto answer = client->Txn(Get("k"));
    ASSERT_TRUE(answer.ok()) << words << ": " << answer.status();
    EXPECT_TRUE(answer->doubtful);
    etcd.Misbehave(fault, 1'000'000);
    answer = client->Txn(Get("k"));
    EXPECT_TRUE(absl::IsDataLoss(answer.status())) << answer.status();
    EXPECT_TRUE(absl::StrContains(answer.status().message(), words)) << answer.status();
    etcd.Behave();
    EXPECT_TRUE(client->Txn(Get("k")).ok()) << words;
  }
}

TEST(EtcdClientTest, SaysThatAnEarlierAttemptMayHaveComeThrough) {
  for (EtcdFault fault : {EtcdFault::kAnswerLost, EtcdFault::kAnswerSilent, EtcdFault::kSilent}) {
    FakeEtcd etcd(2);
    auto client = ClientFor(ConfigFor(etcd));
    EXPECT_FALSE(client->Txn(Get("k"))->doubtful);
    etcd.Misbehave(fault, 1);
    const auto answer = client->Txn(Set("k", "v"));
    ASSERT_TRUE(answer.ok()) << answer.status();
    EXPECT_TRUE(answer->doubtful);
  }
}

// Keys and certificates are made by openssl when the test runs.
class EtcdTlsTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    dir_ = new std::string(absl::StrCat(testing::TempDir(), "/etcd_tls_", ::getpid()));
    std::filesystem::create_directories(*dir_);
    Shell("openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=good -days 2 -keyout ca.key -out "
          "ca.pem");
    Shell("openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=other -days 2 -keyout other.key "
          "-out other.pem");
    Shell("printf 'subjectAltName=IP:127.0.0.1' > san");
    Shell("openssl req -newkey rsa:2048 -nodes -subj /CN=member -keyout member.key -out member.csr "
          "&& openssl x509 -req -in member.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 "
          "-extfile san -out member.pem");
  }
  static void TearDownTestSuite() {
    std::filesystem::remove_all(*dir_);
    delete dir_;
  }

  static void Shell(const std::string& command) {
    const std::string whole =
        absl::StrCat("cd ", *dir_, " && { ", command, "; } >log 2>&1");
    ASSERT_EQ(std::system(whole.c_str()), 0) << command << "\n" << File("log");
  }
  static std::string Path(const std::string& name) { return absl::StrCat(*dir_, "/", name); }
  static std::string File(const std::string& name) {
    std::ifstream file(Path(name));
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
  }
  // As `etcd --client-cert-auth` asks for it.
  static std::shared_ptr<grpc::ServerCredentials> Server() {
    grpc::SslServerCredentialsOptions options(
        GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
    options.pem_root_certs = File("ca.pem");
    options.pem_key_cert_pairs.push_back({File("member.key"), File("member.pem")});
    return grpc::SslServerCredentials(options);
  }
  static EtcdConfig WithFiles(const FakeEtcd& etcd) {
    EtcdConfig config = ConfigFor(etcd);
    config.ca = Path("ca.pem");
    config.cert = Path("member.pem");
    config.key = Path("member.key");
    return config;
  }
  static absl::Status Try(EtcdConfig config) {
    config.call_deadline = absl::Seconds(1);
    return ClientFor(std::move(config))->Txn(Get("k")).status();
  }

  static std::string* dir_;
};
std::string* EtcdTlsTest::dir_ = nullptr;

TEST_F(EtcdTlsTest, BothEndsShowCertificates) {
  FakeEtcd etcd(1, Server());
  const EtcdConfig config = WithFiles(etcd);
  EXPECT_TRUE(Try(config).ok()) << Try(config);

  EtcdConfig other_ca = config;
  other_ca.ca = Path("other.pem");
  EXPECT_TRUE(absl::IsUnavailable(Try(other_ca)));
  EtcdConfig no_certificate = config;
  no_certificate.cert = no_certificate.key = "";
  EXPECT_TRUE(absl::IsUnavailable(Try(no_certificate)));
  EtcdConfig plain = ConfigFor(etcd);
  EXPECT_TRUE(absl::IsUnavailable(Try(plain)));
}

TEST_F(EtcdTlsTest, FilesAreReadAnewWhenTheyChange) {
  FakeEtcd etcd(1, Server());
  EtcdConfig config = WithFiles(etcd);
  config.ca = Path("changing.pem");
  config.call_deadline = absl::Seconds(1);
  Shell("cp other.pem changing.pem");
  const std::unique_ptr<EtcdClient> client = ClientFor(config);
  EXPECT_TRUE(absl::IsUnavailable(client->Txn(Get("k")).status()));
  Shell("cp ca.pem new.pem && mv new.pem changing.pem");
  absl::Status status = absl::UnavailableError("not asked yet");
  for (int i = 0; i < 30 && !status.ok(); ++i) status = client->Txn(Get("k")).status();
  EXPECT_TRUE(status.ok()) << status;
}

TEST_F(EtcdTlsTest, ACertificateThatCannotWorkIsRefusedAtOnce) {
  FakeEtcd etcd(1, Server());
  EtcdConfig config = WithFiles(etcd);
  config.key = Path("other.key");
  const auto client = EtcdClient::Make(config);
  EXPECT_TRUE(absl::IsFailedPrecondition(client.status()));
  EXPECT_TRUE(absl::StrContains(client.status().message(), "is not the key of cert=")) << client.status();
  Shell("openssl x509 -req -in member.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days -1 -out old.pem");
  config.cert = Path("old.pem");
  config.key = Path("member.key");
  const absl::Status expired = EtcdClient::Make(config).status();
  EXPECT_TRUE(absl::StrContains(expired.message(), "old.pem: the certificate has expired")) << expired;
}

TEST_F(EtcdTlsTest, AFileThatCannotBeReadIsNamed) {
  FakeEtcd etcd(1);
  EtcdConfig config = ConfigFor(etcd);
  config.ca = Path("missing.pem");
  const auto client = EtcdClient::Make(config);
  EXPECT_TRUE(absl::IsFailedPrecondition(client.status()));
  EXPECT_TRUE(absl::StrContains(client.status().message(), "missing.pem")) << client.status();
}

}  // namespace
}  // namespace weir::catalog
