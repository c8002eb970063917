#include "volume/host/trace_call.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "proto/base/status_macros.h"
#include "proto/wire/status.h"
#include "volume/host/clock.h"

namespace weir::host {
namespace {

constexpr uint32_t kSecondsMax = 600;
constexpr uint32_t kSlowestMax = 100;

absl::StatusOr<Tracer::Options> OptionsOf(const v1::TraceRequest& request) {
  if (request.seconds() > kSecondsMax || request.slowest() > kSlowestMax) {
    return absl::InvalidArgumentError(absl::StrCat("a trace lasts at most ", kSecondsMax,
                                                   " seconds and tells at most ", kSlowestMax, " requests"));
  }
  Tracer::Options options;
  if (request.seconds() != 0) options.length = absl::Seconds(request.seconds());
  if (request.slowest() != 0) options.slowest = request.slowest();
  return options;
}

}  // namespace

grpc::ServerUnaryReactor* TraceCall::Begin(absl::StatusOr<std::shared_ptr<HostedVolume>> volume,
                                           const v1::TraceRequest& request, v1::TraceResponse* response) {
  std::shared_ptr<TraceCall> call(new TraceCall(response));
  call->self_ = call;
  const absl::Status started = call->Start(volume, request);
  if (!started.ok()) call->Finish(wire::ToGrpc(started));
  return call.get();
}

absl::Status TraceCall::Start(const absl::StatusOr<std::shared_ptr<HostedVolume>>& volume,
                              const v1::TraceRequest& request) {
  RETURN_IF_ERROR(volume.status());
  ASSIGN_OR_RETURN(const Tracer::Options options, OptionsOf(request));
  tracer_ = (*volume)->tracer();
  if (tracer_ == nullptr) return absl::UnimplementedError("this volume cannot be traced");
  const auto end = [weak = weak_from_this()] {
    if (auto self = weak.lock()) self->End();
  };
  absl::MutexLock lock(&mu_);
  RETURN_IF_ERROR(tracer_->Start(options, MonotonicNow(), end));
  alarm_.Set(absl::ToChronoTime(absl::Now() + options.length), [end](bool) { end(); });
  ended_ = false;
  return absl::OkStatus();
}

void TraceCall::End() {
  {
    absl::MutexLock lock(&mu_);
    if (std::exchange(ended_, true)) return;
  }
  *response_ = tracer_->Finish(MonotonicNow());
  alarm_.Cancel();
  Finish(grpc::Status::OK);
}

// Its answer goes nowhere; but it must be given, and the next one may trace.
void TraceCall::OnCancel() { End(); }

void TraceCall::OnDone() { self_.reset(); }

}  // namespace weir::host
