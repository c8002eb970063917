// Which peers may call which methods: by the roles in their certificates.
//
// A role is a URI among the certificate's subject alternative names: weir://ROLE or
// weir://ROLE/NAME. A certificate may have several.
//
//   admin     everything
//   frontend  everything of a replica but injected faults
//   csi       volumes and snapshots: make, change, delete, attach, detach
//   client    attach, detach, and read and write data
//   replica   what replicas ask of frontends; nothing yet
//   viewer    look at things
//
// Thread-safety: free functions, safe.
#ifndef WEIR_PROTO_WIRE_ACCESS_H_
#define WEIR_PROTO_WIRE_ACCESS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace weir::wire {

using Roles = uint32_t;  // a set

inline constexpr Roles kAdmin = 1 << 0;
inline constexpr Roles kFrontend = 1 << 1;
inline constexpr Roles kCsi = 1 << 2;
inline constexpr Roles kClient = 1 << 3;
inline constexpr Roles kReplica = 1 << 4;
inline constexpr Roles kViewer = 1 << 5;

// Other URIs, and roles that are not known, count for nothing.
Roles RolesOf(const std::vector<std::string>& uris);

// "admin or frontend"
std::string Describe(Roles roles);

// One of these is enough. `method` as in "/weir.v1.VolumeService/CreateVolume". A method that is not
// known is for kAdmin.
Roles Allowed(absl::string_view method);

// Every method of ours that has a rule, for a test that none is forgotten.
std::vector<std::string> RuledMethods();

// Health and reflection: for every peer with a certificate of ours.
bool IsForAll(absl::string_view method);

}  // namespace weir::wire

#endif  // WEIR_PROTO_WIRE_ACCESS_H_
