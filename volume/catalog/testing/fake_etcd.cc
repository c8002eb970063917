#include "volume/catalog/testing/fake_etcd.h"

#include <algorithm>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "grpcpp/server_builder.h"
#include "proto/base/check.h"

namespace weir::catalog {
namespace {

using etcdserverpb::Compare;
using etcdserverpb::RequestOp;
using etcdserverpb::TxnRequest;
using etcdserverpb::TxnResponse;

constexpr uint64_t kEtcdId = 0x1234;

bool IsChange(const google::protobuf::RepeatedPtrField<RequestOp>& operations) {
  return std::any_of(operations.begin(), operations.end(), [](const RequestOp& operation) {
    return operation.request_case() != RequestOp::kRequestRange;
  });
}

bool Compares(int64_t stored, Compare::CompareResult result, int64_t asked) {
  switch (result) {
    case Compare::EQUAL:
      return stored == asked;
    case Compare::GREATER:
      return stored > asked;
    case Compare::LESS:
      return stored < asked;
    default:
      return stored != asked;
  }
}

// The answer as `fault` makes it out to be.
void Distort(EtcdFault fault, TxnResponse* response) {
  auto& answers = *response->mutable_responses();
  etcdserverpb::KeyValue* kv = nullptr;
  for (auto& answer : answers) {
    if (!answer.has_response_range() || answer.response_range().kvs().empty()) continue;
    kv = answer.mutable_response_range()->mutable_kvs(0);
  }
  if (fault == EtcdFault::kOfAnotherEtcd) response->mutable_header()->set_cluster_id(kEtcdId + 1);
  if (fault == EtcdFault::kOldRevision) response->mutable_header()->set_revision(1);
  if (fault == EtcdFault::kNoHeader) response->clear_header();
  if (fault == EtcdFault::kTooFewAnswers && !answers.empty()) answers.RemoveLast();
  if (fault == EtcdFault::kWrongOperation && !answers.empty()) {
    answers.rbegin()->mutable_response_delete_range();
  }
  if (kv == nullptr) return;
  if (fault == EtcdFault::kWrongKey) kv->set_key("elsewhere");
  if (fault == EtcdFault::kFutureKey) kv->set_mod_revision(1'000'000);
  if (fault == EtcdFault::kBadValue) kv->mutable_value()->back() ^= 0x20;
}

}  // namespace

class FakeEtcd::Service final : public etcdserverpb::KV::Service {
 public:
  Service(FakeEtcd* etcd, int member) : etcd_(etcd), member_(member) {}
  grpc::Status Txn(grpc::ServerContext* context, const TxnRequest* request,
                   TxnResponse* response) override {
    return etcd_->Txn(member_, context, *request, response);
  }

 private:
  FakeEtcd* const etcd_;
  const int member_;
};

FakeEtcd::FakeEtcd(int members, std::shared_ptr<grpc::ServerCredentials> credentials) {
  if (credentials == nullptr) credentials = grpc::InsecureServerCredentials();
  {
    absl::MutexLock lock(&mu_);
    calls_.resize(static_cast<size_t>(members));
  }
  for (int i = 0; i < members; ++i) {
    services_.push_back(std::make_unique<Service>(this, i));
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", credentials, &port);
    builder.RegisterService(services_.back().get());
    servers_.push_back(builder.BuildAndStart());
    CHECK(servers_.back() != nullptr && port != 0);
    endpoints_.push_back(absl::StrCat("127.0.0.1:", port));
  }
}

FakeEtcd::~FakeEtcd() {
  {
    absl::MutexLock lock(&mu_);
    ending_ = true;
  }
  for (auto& server : servers_) server->Shutdown(absl::ToChronoTime(absl::Now()));
}

void FakeEtcd::Misbehave(EtcdFault fault, int count, int member) {
  absl::MutexLock lock(&mu_);
  planned_.push_back({fault, member, count});
}

void FakeEtcd::Behave() {
  absl::MutexLock lock(&mu_);
  planned_.clear();
}

int FakeEtcd::calls(int member) {
  absl::MutexLock lock(&mu_);
  return calls_[static_cast<size_t>(member)];
}

void FakeEtcd::Put(const std::string& key, const std::string& value) {
  absl::MutexLock lock(&mu_);
  ++revision_;
  PutLocked(key, value);
}

void FakeEtcd::Erase(const std::string& key) {
  absl::MutexLock lock(&mu_);
  ++revision_;
  store_.erase(key);
}

std::string FakeEtcd::Value(const std::string& key) {
  absl::MutexLock lock(&mu_);
  return store_[key].value;
}

std::vector<std::string> FakeEtcd::Keys() {
  absl::MutexLock lock(&mu_);
  std::vector<std::string> keys;
  for (const auto& [key, entry] : store_) keys.push_back(key);
  return keys;
}

void FakeEtcd::set_page_keys_max(int keys) {
  absl::MutexLock lock(&mu_);
  page_keys_max_ = keys;
}

void FakeEtcd::AwaitCarriedOutLate(int calls) {
  absl::MutexLock lock(&mu_);
  const auto enough = [this, calls] {
    mu_.AssertHeld();
    return carried_out_late_ >= calls;
  };
  mu_.Await(absl::Condition(&enough));
}

// gRPC's synchronous service has no notice of a client that gives up, so it is looked for.
void FakeEtcd::AwaitGivenUp(grpc::ServerContext* context) {
  absl::MutexLock lock(&mu_);
  while (!context->IsCancelled() && !ending_) {
    mu_.AwaitWithTimeout(absl::Condition(&ending_), absl::Milliseconds(2));
  }
}

const EtcdFault* FakeEtcd::NextFaultLocked(int member) {
  for (Planned& planned : planned_) {
    if (planned.left == 0 || (planned.member >= 0 && planned.member != member)) continue;
    --planned.left;
    return &planned.fault;
  }
  return nullptr;
}

grpc::Status FakeEtcd::Txn(int member, grpc::ServerContext* context, const TxnRequest& request,
                           TxnResponse* response) {
  std::optional<EtcdFault> fault;
  {
    absl::MutexLock lock(&mu_);
    ++calls_[static_cast<size_t>(member)];
    if (const EtcdFault* next = NextFaultLocked(member)) fault = *next;
  }
  if (fault == EtcdFault::kSilent || fault == EtcdFault::kCarriedOutLate) AwaitGivenUp(context);
  if (fault == EtcdFault::kSilent) return grpc::Status::CANCELLED;
  if (fault == EtcdFault::kNoLeader) {
    return {grpc::StatusCode::UNAVAILABLE, "etcdserver: no leader"};
  }
  if (fault == EtcdFault::kCompacted) {
    return {grpc::StatusCode::OUT_OF_RANGE,
            "etcdserver: mvcc: required revision has been compacted"};
  }
  if (fault == EtcdFault::kNoSpace) {
    return {grpc::StatusCode::RESOURCE_EXHAUSTED, "etcdserver: mvcc: database space exceeded"};
  }
  if (fault == EtcdFault::kDenied) {
    return {grpc::StatusCode::PERMISSION_DENIED, "etcdserver: permission denied"};
  }
  {
    absl::MutexLock lock(&mu_);
    TxnRequest asked = request;
    if (fault == EtcdFault::kDeniesComparisons) {
      *asked.mutable_success() = request.failure();
      asked.clear_compare();
    }
    CarryOutLocked(asked, response);
    if (fault == EtcdFault::kDeniesComparisons) response->set_succeeded(false);
    if (fault == EtcdFault::kCarriedOutLate) ++carried_out_late_;
  }
  if (fault == EtcdFault::kAnswerLost) {
    return {grpc::StatusCode::UNAVAILABLE, "etcdserver: request timed out"};
  }
  if (fault == EtcdFault::kAnswerSilent) AwaitGivenUp(context);
  if (fault.has_value()) Distort(*fault, response);
  return grpc::Status::OK;
}

bool FakeEtcd::HoldsLocked(const Compare& compare) {
  const auto found = store_.find(compare.key());
  const Entry entry = found == store_.end() ? Entry() : found->second;
  switch (compare.target()) {
    case Compare::VERSION:
      return Compares(entry.version, compare.result(), compare.version());
    case Compare::CREATE:
      return Compares(entry.create, compare.result(), compare.create_revision());
    case Compare::MOD:
      return Compares(entry.mod, compare.result(), compare.mod_revision());
    default:  // a value is never equal to that of a key that is not there
      return found != store_.end() &&
             Compares(entry.value.compare(compare.value()), compare.result(), 0);
  }
}

void FakeEtcd::CarryOutLocked(const TxnRequest& request, TxnResponse* response) {
  response->Clear();
  const bool holds = std::all_of(request.compare().begin(), request.compare().end(),
                                 [this](const Compare& compare) {
                                   mu_.AssertHeld();
                                   return HoldsLocked(compare);
                                 });
  response->set_succeeded(holds);
  const auto& operations = holds ? request.success() : request.failure();
  if (IsChange(operations)) ++revision_;
  for (const RequestOp& operation : operations) {
    etcdserverpb::ResponseOp* answer = response->add_responses();
    if (operation.has_request_range()) {
      RangeLocked(operation.request_range(), answer->mutable_response_range());
    } else if (operation.has_request_put()) {
      PutLocked(operation.request_put().key(), operation.request_put().value());
      answer->mutable_response_put();
    } else {
      const size_t erased = store_.erase(operation.request_delete_range().key());
      answer->mutable_response_delete_range()->set_deleted(static_cast<int64_t>(erased));
    }
  }
  response->mutable_header()->set_cluster_id(kEtcdId);
  response->mutable_header()->set_revision(revision_);
}

void FakeEtcd::RangeLocked(const etcdserverpb::RangeRequest& request,
                           etcdserverpb::RangeResponse* response) {
  int64_t limit = request.limit() == 0 ? page_keys_max_ : request.limit();
  limit = std::min<int64_t>(limit, page_keys_max_);
  for (auto it = store_.lower_bound(request.key()); it != store_.end(); ++it) {
    if (request.range_end().empty() ? it->first != request.key()
                                    : it->first >= request.range_end()) {
      break;
    }
    if (response->kvs_size() == limit) {
      response->set_more(true);
      break;
    }
    etcdserverpb::KeyValue* kv = response->add_kvs();
    kv->set_key(it->first);
    kv->set_value(it->second.value);
    kv->set_create_revision(it->second.create);
    kv->set_mod_revision(it->second.mod);
    kv->set_version(it->second.version);
  }
}

void FakeEtcd::PutLocked(const std::string& key, const std::string& value) {
  Entry& entry = store_[key];
  if (entry.version++ == 0) entry.create = revision_;
  entry.value = value;
  entry.mod = revision_;
}

}  // namespace weir::catalog
