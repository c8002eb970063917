#include "volume/catalog/unique_id.h"

#include <random>

#include "absl/strings/str_format.h"

namespace weir::catalog {

std::string NewUniqueId() {
  std::random_device random;
  std::string id;
  for (int i = 0; i < 4; ++i) absl::StrAppendFormat(&id, "%08x", random());
  return id;
}

}  // namespace weir::catalog
