// The floor beside an embedded catalog: the cluster id and the last revision
// that was answered OK. Written whole (new file, sync, rename, sync of the
// folder), so a crash leaves the old one or the new one.
//
// Thread-safety: none; the catalog's mutex guards it.
#ifndef WEIR_VOLUME_CATALOG_FLOOR_H_
#define WEIR_VOLUME_CATALOG_FLOOR_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace weir::catalog {

struct Floor {
  std::string cluster_id;
  uint64_t revision = 0;
};

// NOT_FOUND; DATA_LOSS: the file is damaged.
absl::StatusOr<Floor> ReadFloor(const std::string& dir);
// An error may have left either floor; the caller must not go on.
absl::Status WriteFloor(const std::string& dir, const Floor& floor);

// Replaces DIR/name by `text` as described above; `text` is short.
absl::Status WriteFileDurably(const std::string& dir, const std::string& name,
                              absl::string_view text);
// NOT_FOUND, or INTERNAL with the reason.
absl::StatusOr<std::string> ReadWholeFile(const std::string& path);

}  // namespace weir::catalog

#endif  // WEIR_VOLUME_CATALOG_FLOOR_H_
