// Transactions with an etcd of several members: fail-over, deadlines, and the refusal of
// answers that cannot be true.
//
// Each attempt goes to one member. One that is silent for attempt_deadline, that has no leader
// or whose answer is refused is left for the next one, round and round until call_deadline.
//
// An answer is refused, with words, if it is not well formed, if it comes from another etcd
// than the first one did, or if its revision lies before one that was seen before the
// transaction was sent: linearizable answers never go back, an etcd that was restored from a
// backup does.
//
// Thread-safety: safe; calls block. Owns its channels.
#ifndef WEIR_VOLUME_CATALOG_ETCD_CLIENT_H_
#define WEIR_VOLUME_CATALOG_ETCD_CLIENT_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "etcd/etcd.grpc.pb.h"
#include "etcd/etcd.pb.h"

namespace weir::catalog {

struct EtcdConfig {
  std::vector<std::string> endpoints;  // HOST:PORT
  std::string prefix = "weir/";        // of every key; several clusters may share an etcd
  std::string cluster;                 // see Catalog::Open; may be empty
  // PEM files, read once. Empty `ca`: no TLS. `cert` and `key`: both or neither.
  std::string ca, cert, key;
  // Above the time in which a member of a good cluster answers, fsync included.
  absl::Duration attempt_deadline = absl::Milliseconds(1500);
  // Above the time in which etcd elects a leader (1 to 2 s) and one frozen member is found out.
  absl::Duration call_deadline = absl::Seconds(6);
  absl::Duration round_delay = absl::Milliseconds(100);  // between rounds over all members

  // "HOST:PORT,HOST:PORT?ca=FILE&cert=FILE&key=FILE&prefix=TEXT&timeout=DURATION&cluster=ID"; `timeout` is
  // call_deadline. INVALID_ARGUMENT.
  static absl::StatusOr<EtcdConfig> Parse(absl::string_view text);
};

class EtcdClient {
 public:
  // Connects lazily. FAILED_PRECONDITION: a TLS file cannot be read.
  static absl::StatusOr<std::unique_ptr<EtcdClient>> Make(EtcdConfig config);

  struct Answer {
    etcdserverpb::TxnResponse response;  // as the request asks: each operation has its answer
    // An earlier attempt of this very transaction may have been carried out, or not.
    bool doubtful = false;
  };
  // UNAVAILABLE: no member has answered in time, or there is no quorum. DATA_LOSS: what was
  // answered is refused. FAILED_PRECONDITION: every member says no, for a reason that stays
  // (credentials, space). With each of them the transaction may have been carried out.
  absl::StatusOr<Answer> Txn(const etcdserverpb::TxnRequest& request);

  const EtcdConfig& config() const { return config_; }
  std::string Name() const;  // for people: "etcd at a:1,b:2"

 private:
  struct Endpoint {
    std::string address;
    std::unique_ptr<etcdserverpb::KV::Stub> stub;
  };
  // What a call has learned so far.
  struct Attempts {
    bool doubtful = false;
    size_t finals = 0;     // members that have said no in this round; all: no use to go on
    std::string refused;   // the last answer that cannot be true, and who gave it
    std::string last;      // what went wrong last
  };

  explicit EtcdClient(EtcdConfig config) : config_(std::move(config)) {}
  absl::Status Attempt(Endpoint& endpoint, const etcdserverpb::TxnRequest& request,
                       absl::Duration deadline, etcdserverpb::TxnResponse* response);
  static void Note(const Endpoint& endpoint, const absl::Status& status, Attempts* attempts);
  absl::Status Failure(const Attempts& attempts) const;
  // Logs the first of several in a row, too.
  absl::Status Failed(const Attempts& attempts);
  // DATA_LOSS; else notes the revision. `floor`: the highest seen before the attempt.
  absl::Status Accept(const etcdserverpb::TxnRequest& request,
                      const etcdserverpb::TxnResponse& response, int64_t floor);

  const EtcdConfig config_;
  std::vector<Endpoint> endpoints_;  // fixed by Make

  absl::Mutex mu_;
  size_t preferred_ ABSL_GUARDED_BY(mu_) = 0;      // who has answered last
  uint64_t etcd_id_ ABSL_GUARDED_BY(mu_) = 0;      // of the first answer; 0: none yet
  int64_t revision_ ABSL_GUARDED_BY(mu_) = 0;      // highest seen
  absl::Duration silent_since_ ABSL_GUARDED_BY(mu_) = absl::InfiniteDuration();  // it answers
};

}  // namespace weir::catalog

#endif  // WEIR_VOLUME_CATALOG_ETCD_CLIENT_H_
