#include "volume/catalog/catalog.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "proto/base/status_macros.h"
#include "volume/catalog/embedded.h"
#include "volume/catalog/etcd.h"
#include "volume/catalog/etcd_client.h"

namespace weir::catalog {
namespace {

absl::Status UnknownScheme(const std::string& spec) {
  return absl::InvalidArgumentError(absl::StrCat(
      "catalog '", spec, "': give embedded:DIR or etcd:HOST:PORT,HOST:PORT..."));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Catalog>> Catalog::Open(const std::string& spec) {
  absl::string_view rest = spec;
  std::unique_ptr<Catalog> catalog;
  if (absl::ConsumePrefix(&rest, "embedded:") && !rest.empty()) {
    ASSIGN_OR_RETURN(catalog, EmbeddedCatalog::Open(std::string(rest)));
    return catalog;
  }
  if (absl::ConsumePrefix(&rest, "etcd:")) {
    ASSIGN_OR_RETURN(EtcdConfig config, EtcdConfig::Parse(rest));
    ASSIGN_OR_RETURN(catalog, EtcdCatalog::Open(std::move(config)));
    return catalog;
  }
  return UnknownScheme(spec);
}

absl::Status Catalog::Check(const std::string& spec) {
  absl::string_view rest = spec;
  if (absl::ConsumePrefix(&rest, "embedded:") && !rest.empty()) return absl::OkStatus();
  if (!absl::ConsumePrefix(&rest, "etcd:")) return UnknownScheme(spec);
  ASSIGN_OR_RETURN(EtcdConfig config, EtcdConfig::Parse(rest));
  return EtcdClient::Make(std::move(config)).status();
}

}  // namespace weir::catalog
