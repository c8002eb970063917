#include "client/csi/identity.h"

#include "client/csi/answer.h"
#include "client/csi/names.h"
#include "proto/base/version.h"

namespace weir::csi {

grpc::Status Identity::GetPluginInfo(grpc::ServerContext*, const ::csi::v1::GetPluginInfoRequest*,
                                     ::csi::v1::GetPluginInfoResponse* response) {
  response->set_name(kDriverName);
  response->set_vendor_version(kVersion);
  return grpc::Status::OK;
}

grpc::Status Identity::GetPluginCapabilities(grpc::ServerContext*, const ::csi::v1::GetPluginCapabilitiesRequest*,
                                             ::csi::v1::GetPluginCapabilitiesResponse* response) {
  using ::csi::v1::PluginCapability;
  for (const auto type :
       {PluginCapability::Service::CONTROLLER_SERVICE, PluginCapability::Service::VOLUME_ACCESSIBILITY_CONSTRAINTS}) {
    response->add_capabilities()->mutable_service()->set_type(type);
  }
  response->add_capabilities()->mutable_volume_expansion()->set_type(PluginCapability::VolumeExpansion::ONLINE);
  return grpc::Status::OK;
}

grpc::Status Identity::Probe(grpc::ServerContext* context, const ::csi::v1::ProbeRequest*,
                             ::csi::v1::ProbeResponse* response) {
  response->mutable_ready()->set_value(frontends_->Live(DeadlineOf(*context)).ok());
  return grpc::Status::OK;
}

}  // namespace weir::csi
