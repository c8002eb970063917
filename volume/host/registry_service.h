// RegistryService (proto/weir/v1/replica.proto): replicas that make themselves known.
#ifndef WEIR_VOLUME_HOST_REGISTRY_SERVICE_H_
#define WEIR_VOLUME_HOST_REGISTRY_SERVICE_H_

#include <functional>

#include "absl/status/status.h"
#include "grpcpp/support/server_callback.h"
#include "volume/host/work_queue.h"
#include "weir/v1/replica.grpc.pb.h"
#include "weir/v1/replica.pb.h"

namespace weir::host {

// Thread-safety: safe. `queue` outlives the server that it is registered with.
class RegistryService final : public v1::RegistryService::CallbackService {
 public:
  using Handler = std::function<absl::Status(const v1::RegisterRequest&)>;

  // `handler` may block; it runs on `queue`.
  RegistryService(Handler handler, WorkQueue* queue)
      : handler_(std::move(handler)), queue_(queue) {}

  grpc::ServerUnaryReactor* Register(grpc::CallbackServerContext* context,
                                     const v1::RegisterRequest* request,
                                     v1::RegisterResponse* response) override;

 private:
  const Handler handler_;
  WorkQueue* const queue_;
};

}  // namespace weir::host

#endif  // WEIR_VOLUME_HOST_REGISTRY_SERVICE_H_
