// A frontend whose certificate names volumes: what it asks of others is refused, by whatever method.
#include <memory>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/message.h"
#include "grpcpp/generic/generic_stub.h"
#include "grpcpp/grpcpp.h"
#include "gtest/gtest.h"
#include "proto/wire/status.h"
#include "proto/wire/testing/certificates.h"
#include "replica/server/server_fixture.h"

namespace weir::replica {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::MethodDescriptor;
using grpc::StatusCode;

// Any call: sends one message, takes all answers, waits for the end.
class AnyCall final : public grpc::ClientBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer> {
 public:
  AnyCall(const std::shared_ptr<grpc::Channel>& channel, const std::string& method, const Message& request)
      : stub_(channel) {
    context_.set_deadline(absl::ToChronoTime(absl::Now() + absl::Seconds(20)));
    const grpc::Slice slice(request.SerializeAsString());
    request_ = grpc::ByteBuffer(&slice, 1);
    stub_.PrepareBidiStreamingCall(&context_, method, grpc::StubOptions(), this);
    StartWriteLast(&request_, grpc::WriteOptions());
    StartRead(&response_);
    StartCall();
  }
  grpc::Status Wait() {
    done_.WaitForNotification();
    return status_;
  }
  void OnReadDone(bool ok) override {
    if (ok) StartRead(&response_);
  }
  void OnDone(const grpc::Status& status) override {
    status_ = status;
    done_.Notify();
  }

 private:
  grpc::GenericStub stub_;
  grpc::ClientContext context_;
  grpc::ByteBuffer request_;
  grpc::ByteBuffer response_;
  grpc::Status status_;
  absl::Notification done_;
};

// The fence of a request, wherever it stands; null: it has none.
v1::Fence* FenceIn(Message* request) {
  if (auto* frame = dynamic_cast<v1::IoFrame*>(request)) return frame->mutable_hello()->mutable_fence();
  const FieldDescriptor* field = request->GetDescriptor()->FindFieldByName("fence");
  if (field == nullptr) return nullptr;
  return dynamic_cast<v1::Fence*>(request->GetReflection()->MutableMessage(request, field));
}

class GrantTest : public ServerFixture {
 protected:
  static void SetUpTestSuite() {
    certificates_ = new wire::TestCertificates;
    certificates_->MakeAuthority("ca");
    certificates_->Make("replica", "IP:127.0.0.1,URI:weir://replica/r1");
    certificates_->Make("admin", "URI:weir://admin/me");
    certificates_->Make("any", "URI:weir://frontend/any");
    certificates_->Make("some", absl::StrCat("URI:weir://frontend/some/volume/", kVolume, ",URI:weir://frontend/some/volume/7"));
  }
  static void TearDownTestSuite() { delete certificates_; }

  void SetUp() override {
    options_.tls = certificates_->Files("replica");
    Start();
    As("admin");
    ASSERT_TRUE(CreateVolume().ok());
    TakeOver(1);
  }
  void As(const std::string& name) {
    channel_ = grpc::CreateChannel(server_->address(), certificates_->Credentials(name));
    stub_ = v1::ReplicaService::NewStub(channel_);
  }
  // `volume`: in the fence that it carries.
  StatusCode CallWith(const MethodDescriptor& method, Message* request, uint64_t volume) {
    v1::Fence* fence = FenceIn(request);
    *fence = FenceOf(1);
    fence->set_volume_id(volume);
    AnyCall call(channel_, absl::StrCat("/", method.service()->full_name(), "/", method.name()), *request);
    return call.Wait().error_code();
  }

  static wire::TestCertificates* certificates_;
};
wire::TestCertificates* GrantTest::certificates_ = nullptr;

TEST_F(GrantTest, EveryMethodIsForTheVolumesOfTheCallersCertificate) {
  As("some");
  const auto* service = v1::Fence::descriptor()->file()->FindServiceByName("ReplicaService");
  ASSERT_NE(service, nullptr);
  std::set<std::string> without;
  for (int i = 0; i < service->method_count(); ++i) {
    const MethodDescriptor& method = *service->method(i);
    const std::unique_ptr<Message> request(
        google::protobuf::MessageFactory::generated_factory()->GetPrototype(method.input_type())->New());
    if (FenceIn(request.get()) == nullptr) {
      without.insert(method.name());
      continue;
    }
    EXPECT_EQ(CallWith(method, request.get(), kVolume + 1), StatusCode::PERMISSION_DENIED) << method.name();
    EXPECT_EQ(CallWith(method, request.get(), 0), StatusCode::PERMISSION_DENIED) << method.name();
    EXPECT_NE(CallWith(method, request.get(), kVolume), StatusCode::PERMISSION_DENIED) << method.name();
  }
  // The first shows no data, the second is tried below; the others are for admins.
  EXPECT_THAT(without, testing::UnorderedElementsAre("GetReplica", "ListRecords", "SetFault", "ListFaults", "ClearFaults"));
}

TEST_F(GrantTest, AFrontendForAllVolumesIsRefusedNone) {
  As("any");
  v1::SealResponse sealed;
  EXPECT_TRUE(Seal(2, &sealed).ok());
}

TEST_F(GrantTest, AFrontendServesItsOwnVolume) {
  As("some");
  EXPECT_NE(Open(), nullptr);
  v1::SealResponse sealed;
  EXPECT_TRUE(Seal(2, &sealed).ok());
}

TEST_F(GrantTest, RecordsAreForWhoMayHaveAllVolumes) {
  for (const auto& [who, code] : {std::pair("admin", StatusCode::OK), std::pair("any", StatusCode::OK),
                                  std::pair("some", StatusCode::PERMISSION_DENIED)}) {
    As(who);
    grpc::ClientContext context;
    v1::ListRecordsResponse response;
    EXPECT_EQ(stub_->ListRecords(&context, {}, &response).error_code(), code) << who;
  }
}

}  // namespace
}  // namespace weir::replica
