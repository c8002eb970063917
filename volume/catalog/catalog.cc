#include "volume/catalog/catalog.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "proto/base/status_macros.h"
#include "proto/wire/loopback.h"
#include "volume/catalog/embedded.h"
#include "volume/catalog/etcd.h"
#include "volume/catalog/etcd_client.h"
#include "volume/catalog/unique_id.h"

namespace weir::catalog {
namespace {

struct EmbeddedSpec {
  std::string directory;
  std::string cluster;
};

absl::StatusOr<EmbeddedSpec> ParseEmbedded(absl::string_view spec) {
  absl::string_view rest = spec;
  if (absl::ConsumePrefix(&rest, "embedded:") && !rest.empty()) {
    const std::pair<absl::string_view, absl::string_view> parts =
        absl::StrSplit(rest, absl::MaxSplits("?cluster=", 1));
    const EmbeddedSpec embedded{std::string(parts.first), std::string(parts.second)};
    if (!parts.second.empty()) RETURN_IF_ERROR(CheckClusterId(embedded.cluster));
    return embedded;
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "catalog '", spec, "': give embedded:DIR or etcd:HOST:PORT,HOST:PORT..."));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Catalog>> Catalog::Open(const std::string& spec) {
  absl::string_view rest = spec;
  std::unique_ptr<Catalog> catalog;
  if (absl::ConsumePrefix(&rest, "etcd:")) {
    ASSIGN_OR_RETURN(EtcdConfig config, EtcdConfig::Parse(rest));
    ASSIGN_OR_RETURN(catalog, EtcdCatalog::Open(std::move(config)));
    return catalog;
  }
  ASSIGN_OR_RETURN(const EmbeddedSpec embedded, ParseEmbedded(spec));
  ASSIGN_OR_RETURN(catalog, EmbeddedCatalog::Open(embedded.directory, embedded.cluster));
  return catalog;
}

absl::Status Catalog::Check(const std::string& spec) {
  absl::string_view rest = spec;
  if (!absl::ConsumePrefix(&rest, "etcd:")) return ParseEmbedded(spec).status();
  ASSIGN_OR_RETURN(EtcdConfig config, EtcdConfig::Parse(rest));
  return EtcdClient::Make(std::move(config)).status();
}

absl::Status Catalog::CheckPlainText(const std::string& spec) {
  absl::string_view rest = spec;
  if (!absl::ConsumePrefix(&rest, "etcd:")) return absl::OkStatus();
  const absl::StatusOr<EtcdConfig> config = EtcdConfig::Parse(rest);
  if (!config.ok() || !config->ca.empty()) return absl::OkStatus();
  for (const std::string& endpoint : config->endpoints) {
    if (wire::IsThisMachine(endpoint)) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("catalog: etcd at ", endpoint, " would be spoken to in plain text, and whoever changes what is on the "
                     "wire could change who a volume's members are; give ca=FILE, or say insecure if the network is trusted"));
  }
  return absl::OkStatus();
}

TlsFiles Catalog::EtcdFiles(absl::string_view spec) {
  if (!absl::ConsumePrefix(&spec, "etcd:")) return {};
  const absl::StatusOr<EtcdConfig> config = EtcdConfig::Parse(spec);
  return config.ok() ? TlsFiles{config->cert, config->key, config->ca} : TlsFiles{};
}

std::string Catalog::EmbeddedDirectory(absl::string_view spec) {
  const absl::StatusOr<EmbeddedSpec> embedded = ParseEmbedded(spec);
  return embedded.ok() ? embedded->directory : "";
}

}  // namespace weir::catalog
