// Which frontend has a volume, when several share a catalog.
//
// Thread-safety: pure functions.
#ifndef WEIR_VOLUME_HOST_FRONTEND_H_
#define WEIR_VOLUME_HOST_FRONTEND_H_

#include <string>

#include "absl/status/status.h"
#include "weir/v1/catalog.pb.h"

namespace weir::host {

struct Frontend {
  std::string name;     // the same over restarts; no two of one catalog share it
  std::string address;  // of its VolumeService, for others; empty: none
  bool shared = false;  // others may use the catalog too
};

// The name of a frontend that was given none, by its host and `listen`.
std::string DefaultFrontendName(const std::string& listen);
// `listen` with the port it got, and this host's name where it says every address.
std::string AdvertisedAddress(const std::string& listen, int port);

// Whether another frontend than `self` had it last, and may have clients that would go on.
bool HadElsewhere(const v1::VolumeRecord& record, const Frontend& self);
// Whether another one has it, or last had it without a clean detach since.
bool IsElsewhere(const v1::VolumeRecord& record, const Frontend& self);
// For people: "frontend volume2 (10.0.0.2:7700)".
std::string WhereItIs(const v1::VolumeRecord& record);
// FAILED_PRECONDITION, if the volume is elsewhere: says where, and how to take it over.
absl::Status RefuseElsewhere(const v1::VolumeRecord& record, const Frontend& self);

}  // namespace weir::host

#endif  // WEIR_VOLUME_HOST_FRONTEND_H_
