#include "proto/metrics/call_metrics.h"

#include <chrono>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"
#include "google/protobuf/descriptor.h"

namespace weir::metrics {
namespace {

using grpc::experimental::InterceptionHookPoints;
using grpc::experimental::InterceptorBatchMethods;

// 1 ms, something looked up, to 64 s, a file system made, in steps of 4.
prometheus::Histogram::BucketBoundaries CallBuckets() {
  return {1e-3, 4e-3, 16e-3, 64e-3, 256e-3, 1, 4, 16, 64};
}

// "NodeStageVolume"
std::string MethodLabel(absl::string_view method) {
  absl::ConsumePrefix(&method, "/");
  const std::string full = absl::StrReplaceAll(method, {{"/", "."}});
  const auto* found = google::protobuf::DescriptorPool::generated_pool()->FindMethodByName(full);
  return found == nullptr ? "other" : found->name();
}

std::string CodeLabel(grpc::StatusCode code) {
  const std::string name = absl::StatusCodeToString(static_cast<absl::StatusCode>(code));
  return name.empty() ? "UNKNOWN" : name;
}

// Owned by gRPC, one a call.
class Interceptor : public grpc::experimental::Interceptor {
 public:
  Interceptor(std::shared_ptr<CallMetrics> metrics, std::string method)
      : metrics_(std::move(metrics)), method_(std::move(method)), begun_(std::chrono::steady_clock::now()) {
    metrics_->Began();
  }
  // A call that ended without a status was given up by its caller.
  ~Interceptor() override {
    metrics_->Ended(method_, code_, absl::FromChrono(std::chrono::steady_clock::now() - begun_));
  }
  void Intercept(InterceptorBatchMethods* methods) override {
    if (methods->QueryInterceptionHookPoint(InterceptionHookPoints::PRE_SEND_STATUS)) {
      code_ = methods->GetSendStatus().error_code();
    }
    methods->Proceed();
  }

 private:
  const std::shared_ptr<CallMetrics> metrics_;
  const std::string method_;
  const std::chrono::steady_clock::time_point begun_;
  grpc::StatusCode code_ = grpc::StatusCode::CANCELLED;
};

class Factory : public grpc::experimental::ServerInterceptorFactoryInterface {
 public:
  explicit Factory(std::shared_ptr<CallMetrics> metrics) : metrics_(std::move(metrics)) {}
  grpc::experimental::Interceptor* CreateServerInterceptor(grpc::experimental::ServerRpcInfo* info) override {
    return new Interceptor(metrics_, info->method());
  }

 private:
  const std::shared_ptr<CallMetrics> metrics_;
};

}  // namespace

CallMetrics::CallMetrics(const std::string& component)
    : running_(prometheus::BuildGauge()
                   .Name(absl::StrCat("weir_", component, "_running_calls"))
                   .Help("Calls that are not answered yet.")
                   .Register(registry_)
                   .Add({})),
      calls_(prometheus::BuildCounter()
                 .Name(absl::StrCat("weir_", component, "_calls_total"))
                 .Help("Calls answered, by method and status code.")
                 .Register(registry_)),
      seconds_(prometheus::BuildHistogram()
                   .Name(absl::StrCat("weir_", component, "_call_duration_seconds"))
                   .Help("From a call's arrival to its answer, by method.")
                   .Register(registry_)) {}

void CallMetrics::Ended(absl::string_view method, grpc::StatusCode code, absl::Duration took) {
  const std::string label = MethodLabel(method);
  running_.Decrement();
  calls_.Add({{"method", label}, {"code", CodeLabel(code)}}).Increment();
  seconds_.Add({{"method", label}}, CallBuckets()).Observe(absl::ToDoubleSeconds(took));
}

std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface> CountCalls(
    std::shared_ptr<CallMetrics> metrics) {
  return std::make_unique<Factory>(std::move(metrics));
}

}  // namespace weir::metrics
