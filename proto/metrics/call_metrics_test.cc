#include "proto/metrics/call_metrics.h"

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "csi/v1/csi.grpc.pb.h"
#include "csi/v1/csi.pb.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/generic/generic_stub.h"
#include "grpcpp/security/credentials.h"
#include "grpcpp/server.h"
#include "grpcpp/server_builder.h"
#include "grpcpp/support/byte_buffer.h"
#include "gtest/gtest.h"

namespace weir::metrics {
namespace {

class Service : public ::csi::v1::Identity::Service {
 public:
  grpc::Status Probe(grpc::ServerContext*, const ::csi::v1::ProbeRequest*, ::csi::v1::ProbeResponse*) override {
    return answer;
  }
  grpc::Status answer;
};

class CallMetricsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
    builder.RegisterService(&service_);
    std::vector<std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>> interceptors;
    interceptors.push_back(CountCalls(metrics_));
    builder.experimental().SetInterceptorCreators(std::move(interceptors));
    server_ = builder.BuildAndStart();
    ASSERT_NE(server_, nullptr);
    channel_ = grpc::CreateChannel("127.0.0.1:" + std::to_string(port_), grpc::InsecureChannelCredentials());
  }
  // A call is counted after its caller has the answer, but not after the server has ended.
  void TearDown() override { End(); }
  void End() {
    if (server_ == nullptr) return;
    server_->Shutdown();
    server_.reset();
  }

  void Probe(grpc::Status answer) {
    service_.answer = answer;
    grpc::ClientContext context;
    ::csi::v1::ProbeResponse response;
    EXPECT_EQ(::csi::v1::Identity::NewStub(channel_)->Probe(&context, {}, &response).error_code(),
              answer.error_code());
  }

  // "method code" to how many.
  std::map<std::string, double> Calls() const {
    std::map<std::string, double> calls;
    for (const prometheus::MetricFamily& family : metrics_->Collect()) {
      if (family.name != "weir_tested_calls_total") continue;
      for (const prometheus::ClientMetric& series : family.metric) {
        std::map<std::string, std::string> labels;
        for (const auto& label : series.label) labels[label.name] = label.value;
        calls[labels["method"] + " " + labels["code"]] = series.counter.value;
      }
    }
    return calls;
  }

  Service service_;
  std::shared_ptr<CallMetrics> metrics_ = std::make_shared<CallMetrics>("tested");
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
  std::shared_ptr<grpc::Channel> channel_;
};

TEST_F(CallMetricsTest, CallsAreCountedByMethodAndCode) {
  Probe(grpc::Status::OK);
  Probe(grpc::Status::OK);
  Probe(grpc::Status(grpc::StatusCode::NOT_FOUND, "gone"));
  End();
  EXPECT_EQ(Calls(), (std::map<std::string, double>{{"Probe OK", 2}, {"Probe NOT_FOUND", 1}}));
  for (const prometheus::MetricFamily& family : metrics_->Collect()) {
    if (family.name == "weir_tested_running_calls") EXPECT_EQ(family.metric.at(0).gauge.value, 0);
    if (family.name != "weir_tested_call_duration_seconds") continue;
    ASSERT_EQ(family.metric.size(), 1u);
    EXPECT_EQ(family.metric[0].histogram.sample_count, 3u);
  }
}

TEST_F(CallMetricsTest, MethodsThatNobodyHasMakeOneSeriesAtMost) {
  grpc::GenericStub stub(channel_);
  for (const char* method : {"/csi.v1.Identity/Nothing", "/a/b", "/c/d"}) {
    grpc::ClientContext context;
    grpc::CompletionQueue queue;
    auto call = stub.PrepareUnaryCall(&context, method, grpc::ByteBuffer(), &queue);
    call->StartCall();
    grpc::ByteBuffer answer;
    grpc::Status status;
    call->Finish(&answer, &status, this);
    void* tag = nullptr;
    bool ok = false;
    ASSERT_TRUE(queue.Next(&tag, &ok));
    EXPECT_EQ(status.error_code(), grpc::StatusCode::UNIMPLEMENTED);
  }
  End();
  for (const auto& [call, count] : Calls()) EXPECT_EQ(call, "other UNIMPLEMENTED");
}

TEST_F(CallMetricsTest, NoNameOfAMethodMakesALabel) {
  metrics_->Began();
  metrics_->Ended("/a\"}/b", grpc::StatusCode::OK, absl::Seconds(1));
  metrics_->Began();
  metrics_->Ended("", static_cast<grpc::StatusCode>(20), absl::Seconds(1));  // no name, and yet of the type
  EXPECT_EQ(Calls(), (std::map<std::string, double>{{"other OK", 1}, {"other UNKNOWN", 1}}));
}

}  // namespace
}  // namespace weir::metrics
