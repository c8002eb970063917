// An etcd of several members in this process, behind real gRPC on loopback, that can
// misbehave. All members have one store, so they are always of one mind.
//
// Thread-safety: safe. Owns its servers; the destructor lets go of every held call.
#ifndef WEIR_VOLUME_CATALOG_TESTING_FAKE_ETCD_H_
#define WEIR_VOLUME_CATALOG_TESTING_FAKE_ETCD_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "etcd/etcd.grpc.pb.h"
#include "etcd/etcd.pb.h"
#include "grpcpp/security/server_credentials.h"
#include "grpcpp/server.h"

namespace weir::catalog {

// What one call meets with.
enum class EtcdFault {
  kSilent,            // is not carried out, and not answered
  kCarriedOutLate,    // only after the client has given up
  kAnswerLost,        // is carried out; the answer says UNAVAILABLE
  kAnswerSilent,      // is carried out, and not answered
  kNoLeader,
  kCompacted,         // OUT_OF_RANGE, as for a revision that is gone
  kNoSpace,
  kDenied,
  kOfAnotherEtcd,     // carried out, answered under another cluster id
  kOldRevision,       // carried out, answered with a revision from before
  kNoHeader,
  kTooFewAnswers,
  kWrongOperation,
  kWrongKey,
  kFutureKey,         // a key with a revision above the store's
  kBadValue,          // one byte of each value differs
  kDeniesComparisons, // says that they fail, whether they do or not; nothing is changed
};

class FakeEtcd {
 public:
  explicit FakeEtcd(int members,
                    std::shared_ptr<grpc::ServerCredentials> credentials = nullptr);
  ~FakeEtcd();

  const std::vector<std::string>& endpoints() const { return endpoints_; }
  // The next `count` calls to the member (-1: to any) meet with `fault`.
  void Misbehave(EtcdFault fault, int count, int member = -1);
  void Behave();
  // Calls that a member has got.
  int calls(int member);
  // Changes the store behind everybody's back.
  void Put(const std::string& key, const std::string& value);
  void Erase(const std::string& key);
  std::string Value(const std::string& key);
  std::vector<std::string> Keys();
  // Answered pages have at most so many keys, whatever the limit asked for.
  void set_page_keys_max(int keys);
  // Waits until as many calls were carried out after their client had given up.
  void AwaitCarriedOutLate(int calls);

 private:
  class Service;
  struct Planned {
    EtcdFault fault;
    int member;
    int left;
  };
  struct Entry {
    std::string value;
    int64_t create = 0;
    int64_t mod = 0;
    int64_t version = 0;
  };

  grpc::Status Txn(int member, grpc::ServerContext* context,
                   const etcdserverpb::TxnRequest& request, etcdserverpb::TxnResponse* response);
  const EtcdFault* NextFaultLocked(int member) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void AwaitGivenUp(grpc::ServerContext* context) ABSL_LOCKS_EXCLUDED(mu_);
  bool HoldsLocked(const etcdserverpb::Compare& compare) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void CarryOutLocked(const etcdserverpb::TxnRequest& request,
                      etcdserverpb::TxnResponse* response) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void RangeLocked(const etcdserverpb::RangeRequest& request,
                   etcdserverpb::RangeResponse* response) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void PutLocked(const std::string& key, const std::string& value)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  std::vector<std::string> endpoints_;
  std::vector<std::unique_ptr<Service>> services_;
  std::vector<std::unique_ptr<grpc::Server>> servers_;

  absl::Mutex mu_;
  bool ending_ ABSL_GUARDED_BY(mu_) = false;
  int64_t revision_ ABSL_GUARDED_BY(mu_) = 1;
  std::map<std::string, Entry> store_ ABSL_GUARDED_BY(mu_);
  std::vector<Planned> planned_ ABSL_GUARDED_BY(mu_);
  std::vector<int> calls_ ABSL_GUARDED_BY(mu_);
  int carried_out_late_ ABSL_GUARDED_BY(mu_) = 0;
  int page_keys_max_ ABSL_GUARDED_BY(mu_) = 1'000'000;
};

}  // namespace weir::catalog

#endif  // WEIR_VOLUME_CATALOG_TESTING_FAKE_ETCD_H_
