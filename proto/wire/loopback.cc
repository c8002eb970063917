#include "proto/wire/loopback.h"

#include "absl/strings/match.h"

namespace weir::wire {

bool IsThisMachine(absl::string_view address) {
  if (absl::StartsWith(address, "unix:")) return true;
  const absl::string_view host = address.substr(0, address.rfind(':'));
  // A name such as 127.example may be anybody's.
  const bool loopback = absl::StartsWith(host, "127.") &&
                        host.find_first_not_of("0123456789.") == absl::string_view::npos;
  return loopback || host == "localhost" || host == "[::1]";
}

}  // namespace weir::wire
