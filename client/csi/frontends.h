// The frontends of a cluster, as the driver asks them.
#ifndef WEIR_CLIENT_CSI_FRONTENDS_H_
#define WEIR_CLIENT_CSI_FRONTENDS_H_

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "grpcpp/channel.h"
#include "weir/v1/volume.grpc.pb.h"

namespace weir::csi {

// Thread-safety: safe; all calls block, until `deadline` at most. Owns its connections, one an address.
class Frontends {
 public:
  using Stub = v1::VolumeService::Stub;
  template <typename Request, typename Response>
  using Method = grpc::Status (Stub::*)(grpc::ClientContext*, const Request&, Response*);

  // `seeds`: addresses of some frontends. Others are asked too once the seeds have told of them.
  explicit Frontends(std::vector<std::string> seeds) : seeds_(std::move(seeds)) {}

  // Asks one that is live. UNAVAILABLE: none is.
  template <typename Request, typename Response>
  absl::StatusOr<Response> Call(Method<Request, Response> method, const Request& request, absl::Time deadline) {
    Response response;
    absl::StatusOr<std::string> address = Live(deadline);
    if (!address.ok()) return address.status();
    absl::Status status = Run(*address, deadline, Bound(method, request, &response));
    if (!status.ok()) return status;
    return response;
  }

  // Asks this one.
  template <typename Request, typename Response>
  absl::StatusOr<Response> CallAt(const std::string& address, Method<Request, Response> method,
                                  const Request& request, absl::Time deadline) {
    Response response;
    absl::Status status = Run(address, deadline, Bound(method, request, &response));
    if (!status.ok()) return status;
    return response;
  }

  // The address of one that is live: the last such one, if it still is.
  absl::StatusOr<std::string> Live(absl::Time deadline);
  // Whether it answers within a second. One that is frozen, or whose host is gone, has its connections
  // open and answers nothing.
  bool IsLive(const std::string& address, absl::Time deadline);

  // NOT_FOUND.
  absl::StatusOr<v1::Volume> GetVolume(const std::string& name, absl::Time deadline);
  absl::StatusOr<std::vector<v1::FrontendSummary>> List(absl::Time deadline);
  // The frontend of a node: it has the node's name. NOT_FOUND.
  absl::StatusOr<v1::FrontendSummary> OfNode(const std::string& node, absl::Time deadline);

 private:
  using BoundCall = std::function<grpc::Status(Stub&, grpc::ClientContext*)>;

  template <typename Request, typename Response>
  static BoundCall Bound(Method<Request, Response> method, const Request& request, Response* response) {
    return [method, &request, response](Stub& stub, grpc::ClientContext* context) {
      return (stub.*method)(context, request, response);
    };
  }

  struct Connection {
    std::shared_ptr<grpc::Channel> channel;
    std::unique_ptr<Stub> stub;
  };

  absl::Status Run(const std::string& address, absl::Time deadline, const BoundCall& call);
  std::shared_ptr<Connection> ConnectionTo(const std::string& address);

  const std::vector<std::string> seeds_;
  absl::Mutex mutex_;
  std::map<std::string, std::shared_ptr<Connection>> connections_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::string> known_ ABSL_GUARDED_BY(mutex_);  // addresses, from the last List
  std::string last_live_ ABSL_GUARDED_BY(mutex_);           // address; empty: none yet
};

// Where a frontend's node is, as segments of a Topology: its labels, or by its name if it has none, since a driver that
// speaks of places must give each node one.
std::map<std::string, std::string> PlaceOf(const v1::FrontendSummary& frontend);

}  // namespace weir::csi

#endif  // WEIR_CLIENT_CSI_FRONTENDS_H_
