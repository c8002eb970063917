// A whole Weir cluster inside your process, for unit tests: replicas with real
// stores, a frontend with its catalog, and a client that is connected to it.
//
//   auto cluster = weir::testing::Cluster::Start({});
//   ASSERT_TRUE(cluster.ok()) << cluster.status();
//   auto volume = (*cluster)->CreateAndOpenVolume("demo", 64 << 20);
//
// Nothing is faked: bytes go over gRPC (unix sockets) into RocksDB. A start takes a
// fraction of a second.
#ifndef WEIR_CLIENT_TESTING_CLUSTER_H_
#define WEIR_CLIENT_TESTING_CLUSTER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/weir/client.h"
#include "replica/server/server.h"
#include "volume/host/host.h"
#include "weir/v1/replica.pb.h"

namespace weir::testing {

struct ClusterOptions {
  int replicas = 3;
  // Of each replica; as many flush requests it gets.
  int data_dirs = 2;
  // Where everything lies. Empty: a directory under /tmp that the destructor
  // removes. Another cluster may be started on it later and finds the volumes.
  // At most 80 bytes: unix sockets lie there.
  std::string dir;
  bool enable_fault_injection = false;
  // Replicas make themselves known to the frontend; else they are named in its options.
  bool replicas_register = false;
  ClientOptions client;
  // The frontend's deadlines and limits. Its catalog, replicas and address are
  // set by the cluster.
  host::HostOptions frontend;
};

// Thread-safety: none; one thread starts and stops. client() and host() may be
// used from any. Owns all servers; the destructor stops the frontend, which
// detaches its volumes, then the replicas. Drop volumes and other handles first.
class Cluster {
 public:
  static absl::StatusOr<std::unique_ptr<Cluster>> Start(ClusterOptions options);
  ~Cluster();
  Cluster(const Cluster&) = delete;
  Cluster& operator=(const Cluster&) = delete;

  Client& client() { return *client_; }
  // Of that size, on all replicas, attached. min_in_sync 0: the default. With as many as there
  // are replicas none may leave: what one answers reaches the client.
  absl::StatusOr<std::unique_ptr<Volume>> CreateAndOpenVolume(const std::string& name,
                                                              uint64_t size_bytes,
                                                              uint32_t min_in_sync = 0);

  const std::string& dir() const { return dir_; }
  // For clients of your own: "unix:PATH". Stays the same over restarts.
  const std::string& volume_addr() const { return volume_addr_; }
  // REQUIRES: it runs.
  host::Host& host() { return *host_; }
  // The frontend goes away in an orderly way, and comes back.
  void StopFrontend();
  absl::Status StartFrontend();

  // Replica `i`, counted from 0, is named replica_name(i): "replica1" is the first.
  int replicas() const { return static_cast<int>(replicas_.size()); }
  const std::string& replica_name(int i) const { return replicas_[i].name; }
  const std::string& replica_addr(int i) const { return replicas_[i].address; }
  // In an orderly way. Its data stays, and StartReplica serves them again.
  void StopReplica(int i);
  absl::Status StartReplica(int i);
  // Its disks are replaced by empty ones. REQUIRES: it is stopped.
  void LoseDisks(int i);

  // REQUIRES: enable_fault_injection, and the replica runs.
  absl::Status SetFault(int i, const v1::Fault& fault);
  // On every replica that runs.
  absl::Status ClearFaults();

 private:
  struct Replica {
    std::string name;
    std::string address;
    std::vector<std::string> data_dirs;
    std::unique_ptr<replica::Server> server;  // null: stopped
  };

  Cluster(ClusterOptions options, std::string dir, bool remove_dir);
  absl::Status StartAll();
  absl::Status AwaitRegistrations();

  ClusterOptions options_;
  const std::string dir_;
  const bool remove_dir_;
  const std::string volume_addr_;
  std::vector<Replica> replicas_;
  std::unique_ptr<host::Host> host_;
  std::unique_ptr<Client> client_;
};

}  // namespace weir::testing

#endif  // WEIR_CLIENT_TESTING_CLUSTER_H_
