#include "volume/host/frontend.h"

#include <unistd.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace weir::host {
namespace {

std::string HostName() {
  char host[256] = "localhost";
  (void)::gethostname(host, sizeof(host) - 1);
  return host;
}

}  // namespace

std::string DefaultFrontendName(const std::string& listen) {
  return absl::StrCat(HostName(), "/", listen);
}

std::string AdvertisedAddress(const std::string& listen, int port) {
  const size_t colon = listen.rfind(':');
  if (absl::StartsWith(listen, "unix:") || colon == std::string::npos) return listen;
  const std::string host = listen.substr(0, colon);
  const bool every = host.empty() || host == "0.0.0.0" || host == "[::]" || host == "*";
  return absl::StrCat(every ? HostName() : host, ":", port);
}

bool HadElsewhere(const v1::VolumeRecord& record, const Frontend& self) {
  return self.shared && !record.frontend().empty() && record.frontend() != self.name;
}

bool IsElsewhere(const v1::VolumeRecord& record, const Frontend& self) {
  const bool attached = record.state() == v1::VolumeRecord::ACTIVE ||
                        record.state() == v1::VolumeRecord::RECOVERING;
  return attached && HadElsewhere(record, self);
}

std::string WhereItIs(const v1::VolumeRecord& record) {
  if (record.frontend_address().empty()) return absl::StrCat("frontend ", record.frontend());
  return absl::StrCat("frontend ", record.frontend(), " (", record.frontend_address(), ")");
}

absl::Status RefuseElsewhere(const v1::VolumeRecord& record, const Frontend& self) {
  if (!IsElsewhere(record, self)) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      "volume ", record.name(), " is attached at ", WhereItIs(record),
      "; use that one, or take it over: weirctl volume attach ", record.name(),
      " at this frontend, ", self.name));
}

}  // namespace weir::host
