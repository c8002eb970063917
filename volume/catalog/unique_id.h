// Names that nobody else has drawn.
#ifndef WEIR_VOLUME_CATALOG_UNIQUE_ID_H_
#define WEIR_VOLUME_CATALOG_UNIQUE_ID_H_

#include <string>

#include "absl/status/status.h"

namespace weir::catalog {

// 128 bits from the system, as 32 hexadecimal digits. Thread-safe.
std::string NewUniqueId();

// INVALID_ARGUMENT: `id` is no such name.
absl::Status CheckClusterId(const std::string& id);

// FAILED_PRECONDITION unless `wanted` is empty or what was `found`.
absl::Status CheckCluster(const std::string& wanted, const std::string& found);

}  // namespace weir::catalog

#endif  // WEIR_VOLUME_CATALOG_UNIQUE_ID_H_
