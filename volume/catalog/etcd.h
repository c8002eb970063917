// The catalog of several machines, in etcd.
//
//   PREFIX cluster        ClusterRecord, made by whoever comes first
//   PREFIX volume/NAME    StoredRecord with a VolumeRecord
//   PREFIX replica/NAME   StoredRecord with a ReplicaRecord
//
// Compare-and-swap is by etcd's mod_revision. Every transaction, reads included, also compares
// the cluster record with the one read at Open: an etcd that was wiped and made anew, perhaps
// under the old id, never passes for one in which a volume was deleted.
//
// A change whose answer was lost is tried again, as the same transaction with the same
// `write_id`: at most one of the attempts can succeed, and whoever finds the record changed sees by
// the write_id whether it was an attempt of its own.
//
// Thread-safety: safe; calls block, at most for EtcdConfig::call_deadline.
#ifndef WEIR_VOLUME_CATALOG_ETCD_H_
#define WEIR_VOLUME_CATALOG_ETCD_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "etcd/etcd.pb.h"
#include "volume/catalog/catalog.h"
#include "volume/catalog/etcd_client.h"

namespace weir::catalog {

class EtcdCatalog : public Catalog {
 public:
  // Makes the catalog if there is none under the prefix. UNAVAILABLE: etcd does not answer.
  // FAILED_PRECONDITION: of a newer format, TLS files that cannot be read, not etcd.
  static absl::StatusOr<std::unique_ptr<EtcdCatalog>> Open(EtcdConfig config);

  std::string cluster_id() const override { return cluster_id_; }
  bool shared() const override { return true; }
  absl::StatusOr<VersionedVolume> GetVolume(const std::string& name) override;
  absl::StatusOr<std::vector<VersionedVolume>> ListVolumes() override;
  absl::StatusOr<uint64_t> PutVolume(const v1::VolumeRecord& record, uint64_t revision) override;
  absl::Status DeleteVolume(const std::string& name, uint64_t revision) override;
  absl::StatusOr<VersionedReplica> GetReplica(const std::string& name) override;
  absl::StatusOr<std::vector<VersionedReplica>> ListReplicas() override;
  absl::Status DeleteReplica(const std::string& name, uint64_t revision) override;
  absl::StatusOr<uint64_t> PutReplica(const v1::ReplicaRecord& record, uint64_t revision) override;
  absl::StatusOr<VersionedFrontend> GetFrontend(const std::string& name) override;
  absl::StatusOr<std::vector<VersionedFrontend>> ListFrontends() override;
  absl::StatusOr<uint64_t> PutFrontend(const v1::FrontendRecord& record,
                                       uint64_t revision) override;

 private:
  explicit EtcdCatalog(std::unique_ptr<EtcdClient> client) : client_(std::move(client)) {}

  absl::Status MakeOrCheck();
  absl::Status ReadCluster(const std::string& stored);
  std::string Key(absl::string_view folder, absl::string_view name) const;
  // Compares the cluster record; if it is not ours the answer has it alone.
  etcdserverpb::TxnRequest Guarded() const;
  // DATA_LOSS if the answer's cluster record, as a failed Guarded has it, is not ours.
  absl::Status CheckCluster(const etcdserverpb::ResponseOp& answer) const;
  absl::Status Damaged(absl::string_view key, absl::string_view what) const;

  absl::StatusOr<v1::StoredRecord> Decode(const etcdserverpb::KeyValue& kv) const;
  // From `from` to below `end` (empty: `from` alone), at most a page.
  absl::StatusOr<etcdserverpb::RangeResponse> Read(const std::string& from,
                                                   const std::string& end);
  template <typename Record>
  absl::StatusOr<Versioned<Record>> DecodeAs(const etcdserverpb::KeyValue& kv) const;
  template <typename Record>
  absl::StatusOr<Versioned<Record>> Get(absl::string_view folder, const std::string& name);
  template <typename Record>
  absl::StatusOr<std::vector<Versioned<Record>>> List(absl::string_view folder);
  // Carries `change` out if `key` is at `revision`. `write_id`: what the key has once it is
  // changed; empty: it is gone then. The revision of the change, or ABORTED.
  absl::StatusOr<uint64_t> Change(const std::string& key, uint64_t revision,
                                  const etcdserverpb::RequestOp& change,
                                  const std::string& write_id);
  absl::StatusOr<uint64_t> Put(const std::string& key, const std::string& record,
                               uint64_t revision);
  absl::Status Delete(const std::string& key, uint64_t revision);

  const std::unique_ptr<EtcdClient> client_;
  // Set once, by Open.
  std::string cluster_record_;  // as it is stored
  std::string cluster_id_;
};

}  // namespace weir::catalog

#endif  // WEIR_VOLUME_CATALOG_ETCD_H_
