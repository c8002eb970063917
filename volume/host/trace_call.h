// One call of VolumeService.Trace: ends by itself once its time is over, and earlier if the client goes away or
// the volume is let go. No thread waits for it.
//
// Thread-safety: reactions and the end may come from any thread. Holds itself until gRPC has no more use for it.
#ifndef WEIR_VOLUME_HOST_TRACE_CALL_H_
#define WEIR_VOLUME_HOST_TRACE_CALL_H_

#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "grpcpp/alarm.h"
#include "grpcpp/support/server_callback.h"
#include "volume/host/host.h"
#include "volume/host/tracer.h"
#include "weir/v1/volume.pb.h"

namespace weir::host {

class TraceCall final : public grpc::ServerUnaryReactor, public std::enable_shared_from_this<TraceCall> {
 public:
  // The reactor to give to gRPC. Without a volume it ends at once, with that status.
  static grpc::ServerUnaryReactor* Begin(absl::StatusOr<std::shared_ptr<HostedVolume>> volume,
                                         const v1::TraceRequest& request, v1::TraceResponse* response);

  void OnCancel() override;
  void OnDone() override;

 private:
  explicit TraceCall(v1::TraceResponse* response) : response_(response) {}

  absl::Status Start(const absl::StatusOr<std::shared_ptr<HostedVolume>>& volume, const v1::TraceRequest& request);
  void End();

  v1::TraceResponse* const response_;  // gRPC's, until Finish
  std::shared_ptr<Tracer> tracer_;     // set by Start
  grpc::Alarm alarm_;
  absl::Mutex mu_;  // held while it starts, so that no end overtakes that
  bool ended_ ABSL_GUARDED_BY(mu_) = true;  // or has not begun
  std::shared_ptr<TraceCall> self_;  // cleared by OnDone
};

}  // namespace weir::host

#endif  // WEIR_VOLUME_HOST_TRACE_CALL_H_
