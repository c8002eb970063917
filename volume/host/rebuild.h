// Makes the records of a lost catalog anew, from the copies that replicas keep; engine/rebuild.h decides.
//
// Thread-safety: safe; they block.
#ifndef WEIR_VOLUME_HOST_REBUILD_H_
#define WEIR_VOLUME_HOST_REBUILD_H_

#include <cstdint>
#include <map>
#include <vector>

#include "absl/status/statusor.h"
#include "proto/base/position.h"
#include "volume/catalog/catalog.h"
#include "weir/v1/replica.pb.h"
#include "weir/v1/volume.pb.h"

namespace weir::host {

// One replica's answer, and where it was asked.
struct AnsweredReplica {
  std::string address;
  v1::ListRecordsResponse answer;
};

// By volume id: the epoch that all who have it have promised, so that whoever served it is refused; or why one has not.
using Fences = std::map<uint64_t, absl::StatusOr<Epoch>>;

// As VolumeService.RebuildCatalog, with what replicas have answered. `fences`: of volumes that the catalog does not have only
// those are made, and only while all answers keep that promise. Null: any.
absl::StatusOr<v1::RebuildCatalogResponse> RebuildCatalog(catalog::Catalog& catalog,
                                                          const std::vector<AnsweredReplica>& replicas,
                                                          const v1::RebuildCatalogRequest& request,
                                                          const Fences* fences = nullptr);

// Asks the replicas that the catalog knows, and those of the request, first. Unless it is a dry run those promise to refuse
// whoever served the volumes that are to be rebuilt, and are asked again: what is decided on is then not changed any more.
absl::StatusOr<v1::RebuildCatalogResponse> AskAndRebuildCatalog(catalog::Catalog& catalog,
                                                                const v1::RebuildCatalogRequest& request);

}  // namespace weir::host

#endif  // WEIR_VOLUME_HOST_REBUILD_H_
