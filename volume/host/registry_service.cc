#include "volume/host/registry_service.h"

#include "proto/wire/status.h"

namespace weir::host {

grpc::ServerUnaryReactor* RegistryService::Register(grpc::CallbackServerContext* context,
                                                    const v1::RegisterRequest* request,
                                                    v1::RegisterResponse*) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const bool taken = queue_->Run(
      [this, reactor, request] { reactor->Finish(wire::ToGrpc(handler_(*request))); });
  if (!taken) {
    reactor->Finish(wire::ToGrpc(absl::UnavailableError("this frontend is busy; try again")));
  }
  return reactor;
}

}  // namespace weir::host
