#include "proto/wire/reload.h"

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "proto/base/config_file.h"
#include "proto/base/log.h"
#include "proto/base/status_macros.h"
#include "proto/wire/certificates.h"
#include "proto/wire/identity.h"

namespace weir::wire {

absl::Status ReloadLog(const std::string& config) {
  if (config.empty()) return absl::OkStatus();
  ASSIGN_OR_RETURN(const auto flags, ReadConfig(config));
  std::optional<std::string> level;
  std::optional<std::string> format;
  for (const auto& [name, value] : flags) {
    if (name == "log_level") level = value;
    if (name == "log_format") format = value;
  }
  return SetLog(level, format);
}

void Reload(const std::string& config) {
  const absl::Status log = ReloadLog(config);
  if (!log.ok()) LOG(ERROR) << "SIGHUP: the log goes on as before: " << log.message();
  const TlsFiles files = IdentityFiles();
  if (!files.given()) {
    LOG(INFO) << "SIGHUP: read " << (config.empty() ? "nothing: there is no --config, and no certificate" : config);
    return;
  }
  const absl::StatusOr<CertificateEnds> ends = CheckCertificates(files);
  if (!ends.ok()) {
    LOG(ERROR) << "SIGHUP: the certificate in use stays: " << ends.status().message();
    return;
  }
  LOG(INFO) << "SIGHUP: the certificate in " << files.cert << " is good until " << absl::FormatTime(ends->certificate, absl::UTCTimeZone())
            << ", those in " << files.ca << " until " << absl::FormatTime(ends->authority, absl::UTCTimeZone());
}

}  // namespace weir::wire
