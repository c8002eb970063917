#include "volume/catalog/unique_id.h"

#include <random>

#include "absl/algorithm/container.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace weir::catalog {

std::string NewUniqueId() {
  std::random_device random;
  std::string id;
  for (int i = 0; i < 4; ++i) absl::StrAppendFormat(&id, "%08x", random());
  return id;
}

absl::Status CheckClusterId(const std::string& id) {
  if (id.size() == 32 && absl::c_all_of(id, absl::ascii_isxdigit)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "catalog: '", id, "' is no id of a cluster, which has 32 hexadecimal digits; weirctl replica show says it"));
}

absl::Status CheckCluster(const std::string& wanted, const std::string& found) {
  if (wanted.empty() || wanted == found) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      "the catalog is there, and of cluster ", found, ", not ", wanted,
      "; give another place for a new one, or leave out cluster="));
}

}  // namespace weir::catalog
