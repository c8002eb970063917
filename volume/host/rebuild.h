// Makes the records of a lost catalog anew, from the copies that replicas keep; engine/rebuild.h decides.
//
// Thread-safety: safe; they block.
#ifndef WEIR_VOLUME_HOST_REBUILD_H_
#define WEIR_VOLUME_HOST_REBUILD_H_

#include <vector>

#include "absl/status/statusor.h"
#include "volume/catalog/catalog.h"
#include "weir/v1/replica.pb.h"
#include "weir/v1/volume.pb.h"

namespace weir::host {

// One replica's answer, and where it was asked.
struct AnsweredReplica {
  std::string address;
  v1::ListRecordsResponse answer;
};

// As VolumeService.RebuildCatalog, with what replicas have answered.
absl::StatusOr<v1::RebuildCatalogResponse> RebuildCatalog(catalog::Catalog& catalog,
                                                          const std::vector<AnsweredReplica>& replicas,
                                                          const v1::RebuildCatalogRequest& request);

// Asks the replicas that the catalog knows, and those of the request, first. Unless it is a dry run those promise to refuse
// whoever served the volumes that are to be rebuilt, and are asked again: what is decided on is then not changed any more.
absl::StatusOr<v1::RebuildCatalogResponse> AskAndRebuildCatalog(catalog::Catalog& catalog,
                                                                const v1::RebuildCatalogRequest& request);

}  // namespace weir::host

#endif  // WEIR_VOLUME_HOST_REBUILD_H_
