// CSI's Identity service: who the driver is, and whether it can work.
#ifndef WEIR_CLIENT_CSI_IDENTITY_H_
#define WEIR_CLIENT_CSI_IDENTITY_H_

#include "client/csi/frontends.h"
#include "csi/v1/csi.grpc.pb.h"

namespace weir::csi {

// Thread-safety: safe. `frontends` outlives it.
class Identity final : public ::csi::v1::Identity::Service {
 public:
  explicit Identity(Frontends* frontends) : frontends_(frontends) {}

  grpc::Status GetPluginInfo(grpc::ServerContext* context, const ::csi::v1::GetPluginInfoRequest* request,
                             ::csi::v1::GetPluginInfoResponse* response) override;
  grpc::Status GetPluginCapabilities(grpc::ServerContext* context,
                                     const ::csi::v1::GetPluginCapabilitiesRequest* request,
                                     ::csi::v1::GetPluginCapabilitiesResponse* response) override;
  // Ready while some frontend can be reached. That none can is no failure of ours: restarting the driver
  // would not help.
  grpc::Status Probe(grpc::ServerContext* context, const ::csi::v1::ProbeRequest* request,
                     ::csi::v1::ProbeResponse* response) override;

 private:
  Frontends* const frontends_;
};

}  // namespace weir::csi

#endif  // WEIR_CLIENT_CSI_IDENTITY_H_
