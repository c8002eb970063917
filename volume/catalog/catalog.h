// The catalog: the one place that says who a volume's members are and who may
// write. Records are replaced whole, by compare-and-swap on a revision.
//
// Thread-safety: all methods may be called from any thread; they block for the
// storage behind them. What a call answered OK is durable.
#ifndef WEIR_VOLUME_CATALOG_CATALOG_H_
#define WEIR_VOLUME_CATALOG_CATALOG_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "proto/base/tls_files.h"
#include "weir/v1/catalog.pb.h"

namespace weir::catalog {

// A record and the revision it was read at, to be named by the next update.
template <typename Record>
struct Versioned {
  Record record;
  uint64_t revision = 0;
};
using VersionedVolume = Versioned<v1::VolumeRecord>;
using VersionedReplica = Versioned<v1::ReplicaRecord>;
using VersionedFrontend = Versioned<v1::FrontendRecord>;

class Catalog {
 public:
  // "embedded:DIR", or "etcd:HOST:PORT,...", see EtcdConfig::Parse. Either may end in ?cluster=ID: a catalog that is made has that
  // id, and one that is there must have it; for a cluster whose catalog was lost. INVALID_ARGUMENT for
  // another scheme. FAILED_PRECONDITION: DIR is in use by another frontend (names its pid), of
  // a newer format, or not what it should be. UNAVAILABLE: etcd does not answer.
  static absl::StatusOr<std::unique_ptr<Catalog>> Open(const std::string& spec);

  // What is wrong with `spec` as far as can be said without opening it: INVALID_ARGUMENT, or FAILED_PRECONDITION for
  // TLS files that cannot be read.
  static absl::Status Check(const std::string& spec);

  // INVALID_ARGUMENT if `spec` is an etcd that would be spoken to in plain text over a network: without ca, and not all of
  // its endpoints are on this machine. OK for what Check refuses.
  static absl::Status CheckPlainText(const std::string& spec);

  // What etcd is shown and how it is checked; none: there is no TLS, or no etcd.
  static TlsFiles EtcdFiles(absl::string_view spec);

  // The DIR of an embedded one; empty: it is none.
  static std::string EmbeddedDirectory(absl::string_view spec);

  virtual ~Catalog() = default;

  // Made with the catalog; never changes.
  virtual std::string cluster_id() const = 0;

  // Whether other frontends may use it at the same time.
  virtual bool shared() const = 0;

  // NOT_FOUND.
  virtual absl::StatusOr<VersionedVolume> GetVolume(const std::string& name) = 0;
  virtual absl::StatusOr<std::vector<VersionedVolume>> ListVolumes() = 0;
  // Stores `record` if the record of that name is still at `revision` (0: if there is
  // none) and answers the new revision. ABORTED: it is not. Any other error: the outcome is
  // unknown; read back.
  virtual absl::StatusOr<uint64_t> PutVolume(const v1::VolumeRecord& record,
                                             uint64_t revision) = 0;
  // ABORTED unless at `revision`.
  virtual absl::Status DeleteVolume(const std::string& name, uint64_t revision) = 0;

  virtual absl::StatusOr<VersionedReplica> GetReplica(const std::string& name) = 0;
  virtual absl::StatusOr<std::vector<VersionedReplica>> ListReplicas() = 0;
  virtual absl::StatusOr<uint64_t> PutReplica(const v1::ReplicaRecord& record,
                                              uint64_t revision) = 0;
  virtual absl::Status DeleteReplica(const std::string& name, uint64_t revision) = 0;

  virtual absl::StatusOr<VersionedFrontend> GetFrontend(const std::string& name) = 0;
  virtual absl::StatusOr<std::vector<VersionedFrontend>> ListFrontends() = 0;
  virtual absl::StatusOr<uint64_t> PutFrontend(const v1::FrontendRecord& record,
                                               uint64_t revision) = 0;
};

}  // namespace weir::catalog

#endif  // WEIR_VOLUME_CATALOG_CATALOG_H_
