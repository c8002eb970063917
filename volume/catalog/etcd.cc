#include "volume/catalog/etcd.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/base/crc32c.h"
#include "proto/base/status_macros.h"
#include "volume/catalog/unique_id.h"

namespace weir::catalog {
namespace {

using etcdserverpb::Compare;
using etcdserverpb::KeyValue;
using etcdserverpb::RangeResponse;
using etcdserverpb::RequestOp;
using etcdserverpb::ResponseOp;
using etcdserverpb::TxnRequest;

constexpr uint32_t kFormat = 1;
constexpr char kClusterName[] = "cluster";
constexpr char kVolumes[] = "volume/";
constexpr char kReplicas[] = "replica/";
constexpr char kFrontends[] = "frontend/";
// A record is about a kilobyte.
constexpr int64_t kPageRecords = 512;

uint32_t Checksum(absl::string_view key, const v1::StoredRecord& stored) {
  return Crc32c(absl::StrCat(key, stored.write_id(), stored.record()));
}

RequestOp RangeOf(const std::string& key, const std::string& end = "") {
  RequestOp operation;
  operation.mutable_request_range()->set_key(key);
  operation.mutable_request_range()->set_range_end(end);
  if (!end.empty()) operation.mutable_request_range()->set_limit(kPageRecords);
  return operation;
}

void CompareRevision(const std::string& key, uint64_t revision, TxnRequest* request) {
  Compare* compare = request->add_compare();
  compare->set_target(Compare::MOD);
  compare->set_key(key);
  compare->set_mod_revision(static_cast<int64_t>(revision));  // 0: no such key
}

// The end of the range of all keys that begin with `prefix`, which ends in '/'.
std::string EndOf(std::string prefix) {
  ++prefix.back();
  return prefix;
}

}  // namespace

absl::StatusOr<std::unique_ptr<EtcdCatalog>> EtcdCatalog::Open(EtcdConfig config) {
  ASSIGN_OR_RETURN(std::unique_ptr<EtcdClient> client, EtcdClient::Make(std::move(config)));
  std::unique_ptr<EtcdCatalog> catalog(new EtcdCatalog(std::move(client)));
  RETURN_IF_ERROR(catalog->MakeOrCheck());
  RETURN_IF_ERROR(catalog::CheckCluster(catalog->client_->config().cluster, catalog->cluster_id_));
  return catalog;
}

absl::Status EtcdCatalog::MakeOrCheck() {
  v1::ClusterRecord made;
  const std::string& wanted = client_->config().cluster;
  made.set_cluster_id(wanted.empty() ? NewUniqueId() : wanted);
  made.set_format(kFormat);
  const std::string key = Key("", kClusterName);
  TxnRequest request;
  CompareRevision(key, 0, &request);
  request.add_success()->mutable_request_put()->set_key(key);
  request.mutable_success(0)->mutable_request_put()->set_value(made.SerializeAsString());
  *request.add_failure() = RangeOf(key);
  ASSIGN_OR_RETURN(const EtcdClient::Answer answer, client_->Txn(request));
  if (answer.response.succeeded()) return ReadCluster(made.SerializeAsString());
  const RangeResponse& found = answer.response.responses(0).response_range();
  if (found.kvs().empty()) return Damaged(key, "it is there and is not");
  return ReadCluster(found.kvs(0).value());
}

absl::Status EtcdCatalog::ReadCluster(const std::string& stored) {
  v1::ClusterRecord record;
  if (!record.ParseFromString(stored) || record.cluster_id().empty() || record.format() == 0) {
    return Damaged(Key("", kClusterName), "it cannot be read; is the prefix another program's?");
  }
  if (record.format() > kFormat) {
    return absl::FailedPreconditionError(
        absl::StrCat("the catalog in ", client_->Name(), " has format ", record.format(),
                     ", this program knows up to ", kFormat, "; use a newer weir-volume"));
  }
  cluster_record_ = stored;
  cluster_id_ = record.cluster_id();
  return absl::OkStatus();
}

std::string EtcdCatalog::Key(absl::string_view folder, absl::string_view name) const {
  return absl::StrCat(client_->config().prefix, folder, name);
}

absl::Status EtcdCatalog::Damaged(absl::string_view key, absl::string_view what) const {
  return absl::DataLossError(absl::StrCat(
      "the catalog in ", client_->Name(), " is damaged, key ", key, ": ", what,
      ". Nothing is changed by it. Mend that etcd, and keep a copy of what it has"));
}

TxnRequest EtcdCatalog::Guarded() const {
  const std::string key = Key("", kClusterName);
  TxnRequest request;
  Compare* compare = request.add_compare();
  compare->set_target(Compare::VALUE);
  compare->set_key(key);
  compare->set_value(cluster_record_);
  *request.add_failure() = RangeOf(key);
  return request;
}

absl::Status EtcdCatalog::CheckCluster(const ResponseOp& answer) const {
  const RangeResponse& found = answer.response_range();
  if (!found.kvs().empty() && found.kvs(0).value() == cluster_record_) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat(
      client_->Name(), found.kvs().empty() ? " has lost the catalog" : " has another catalog",
      " since this frontend started (cluster ", cluster_id_,
      "). Nothing is changed any more, attached volumes go on. Bring back that etcd's own data"));
}

// --- reading ---

absl::StatusOr<RangeResponse> EtcdCatalog::Read(const std::string& from, const std::string& end) {
  TxnRequest request = Guarded();
  *request.add_success() = RangeOf(from, end);
  ASSIGN_OR_RETURN(EtcdClient::Answer answer, client_->Txn(request));
  ResponseOp& first = *answer.response.mutable_responses(0);
  if (!answer.response.succeeded()) {
    RETURN_IF_ERROR(CheckCluster(first));
    return Damaged(Key("", kClusterName), "it differs from itself");
  }
  return std::move(*first.mutable_response_range());
}

absl::StatusOr<v1::StoredRecord> EtcdCatalog::Decode(const KeyValue& kv) const {
  v1::StoredRecord stored;
  if (!stored.ParseFromString(kv.value()) || stored.crc32c() != Checksum(kv.key(), stored)) {
    return Damaged(kv.key(), "its value is not what was written");
  }
  return stored;
}

template <typename Record>
absl::StatusOr<Versioned<Record>> EtcdCatalog::DecodeAs(const KeyValue& kv) const {
  ASSIGN_OR_RETURN(const v1::StoredRecord stored, Decode(kv));
  Versioned<Record> versioned;
  versioned.revision = static_cast<uint64_t>(kv.mod_revision());
  if (!versioned.record.ParseFromString(stored.record())) {
    return Damaged(kv.key(), "its record cannot be read");
  }
  return versioned;
}

template <typename Record>
absl::StatusOr<Versioned<Record>> EtcdCatalog::Get(absl::string_view folder,
                                                   const std::string& name) {
  const std::string key = Key(folder, name);
  ASSIGN_OR_RETURN(const RangeResponse found, Read(key, ""));
  if (found.kvs().empty()) return absl::NotFoundError(key);
  return DecodeAs<Record>(found.kvs(0));
}

template <typename Record>
absl::StatusOr<std::vector<Versioned<Record>>> EtcdCatalog::List(absl::string_view folder) {
  std::vector<Versioned<Record>> records;
  std::string from = Key(folder, "");
  const std::string end = EndOf(from);
  bool more = true;
  while (more) {
    ASSIGN_OR_RETURN(const RangeResponse page, Read(from, end));
    for (const KeyValue& kv : page.kvs()) {
      ASSIGN_OR_RETURN(Versioned<Record> record, DecodeAs<Record>(kv));
      records.push_back(std::move(record));
    }
    more = page.more();
    if (more) from = page.kvs().rbegin()->key() + '\0';
  }
  return records;
}

absl::StatusOr<VersionedVolume> EtcdCatalog::GetVolume(const std::string& name) {
  absl::StatusOr<VersionedVolume> volume = Get<v1::VolumeRecord>(kVolumes, name);
  if (absl::IsNotFound(volume.status())) {
    return absl::NotFoundError(absl::StrCat("there is no volume '", name, "'"));
  }
  return volume;
}

absl::StatusOr<std::vector<VersionedVolume>> EtcdCatalog::ListVolumes() {
  return List<v1::VolumeRecord>(kVolumes);
}

absl::StatusOr<VersionedReplica> EtcdCatalog::GetReplica(const std::string& name) {
  absl::StatusOr<VersionedReplica> replica = Get<v1::ReplicaRecord>(kReplicas, name);
  if (absl::IsNotFound(replica.status())) {
    return absl::NotFoundError(absl::StrCat("there is no replica '", name, "'"));
  }
  return replica;
}

absl::StatusOr<std::vector<VersionedReplica>> EtcdCatalog::ListReplicas() {
  return List<v1::ReplicaRecord>(kReplicas);
}

absl::StatusOr<VersionedFrontend> EtcdCatalog::GetFrontend(const std::string& name) {
  absl::StatusOr<VersionedFrontend> frontend = Get<v1::FrontendRecord>(kFrontends, name);
  if (absl::IsNotFound(frontend.status())) {
    return absl::NotFoundError(absl::StrCat("there is no frontend '", name, "'"));
  }
  return frontend;
}

absl::StatusOr<std::vector<VersionedFrontend>> EtcdCatalog::ListFrontends() {
  return List<v1::FrontendRecord>(kFrontends);
}

// --- changing ---

absl::StatusOr<uint64_t> EtcdCatalog::Change(const std::string& key, uint64_t revision,
                                             const RequestOp& change,
                                             const std::string& write_id) {
  TxnRequest request = Guarded();
  CompareRevision(key, revision, &request);
  *request.add_success() = change;
  *request.add_failure() = RangeOf(key);
  ASSIGN_OR_RETURN(const EtcdClient::Answer answer, client_->Txn(request));
  if (answer.response.succeeded()) {
    return static_cast<uint64_t>(answer.response.header().revision());
  }
  RETURN_IF_ERROR(CheckCluster(answer.response.responses(0)));
  const RangeResponse& found = answer.response.responses(1).response_range();
  const uint64_t at =
      found.kvs().empty() ? 0 : static_cast<uint64_t>(found.kvs(0).mod_revision());
  if (found.kvs().empty() && answer.doubtful && write_id.empty() && revision != 0) return at;
  if (!found.kvs().empty() && answer.doubtful && !write_id.empty()) {
    ASSIGN_OR_RETURN(const v1::StoredRecord stored, Decode(found.kvs(0)));
    if (stored.write_id() == write_id) return at;
  }
  // ABORTED ends a frontend, so it is not said on the word of an answer that contradicts itself.
  if (at == revision) return Damaged(key, "etcd denies a comparison that holds");
  return absl::AbortedError(absl::StrCat(
      key, " is at revision ", at, ", not ", revision,
      ": it was changed meanwhile; read it again and decide anew"));
}

absl::StatusOr<uint64_t> EtcdCatalog::Put(const std::string& key, const std::string& record,
                                          uint64_t revision) {
  v1::StoredRecord stored;
  stored.set_write_id(NewUniqueId());
  stored.set_record(record);
  stored.set_crc32c(Checksum(key, stored));
  RequestOp put;
  put.mutable_request_put()->set_key(key);
  put.mutable_request_put()->set_value(stored.SerializeAsString());
  return Change(key, revision, put, stored.write_id());
}

absl::StatusOr<uint64_t> EtcdCatalog::PutVolume(const v1::VolumeRecord& record,
                                                uint64_t revision) {
  return Put(Key(kVolumes, record.name()), record.SerializeAsString(), revision);
}

absl::StatusOr<uint64_t> EtcdCatalog::PutReplica(const v1::ReplicaRecord& record,
                                                 uint64_t revision) {
  return Put(Key(kReplicas, record.name()), record.SerializeAsString(), revision);
}

absl::StatusOr<uint64_t> EtcdCatalog::PutFrontend(const v1::FrontendRecord& record,
                                                  uint64_t revision) {
  return Put(Key(kFrontends, record.name()), record.SerializeAsString(), revision);
}

absl::Status EtcdCatalog::Delete(const std::string& key, uint64_t revision) {
  RequestOp remove;
  remove.mutable_request_delete_range()->set_key(key);
  return Change(key, revision, remove, "").status();
}

absl::Status EtcdCatalog::DeleteVolume(const std::string& name, uint64_t revision) {
  return Delete(Key(kVolumes, name), revision);
}

absl::Status EtcdCatalog::DeleteReplica(const std::string& name, uint64_t revision) {
  return Delete(Key(kReplicas, name), revision);
}

}  // namespace weir::catalog
