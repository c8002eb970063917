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
// A frontend may be for some volumes only: weir://frontend/NAME/volume/ID, one URI for each.
// weir://frontend/NAME is for all.
//
// Thread-safety: free functions and values, safe.
#ifndef WEIR_PROTO_WIRE_ACCESS_H_
#define WEIR_PROTO_WIRE_ACCESS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
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

// For which volumes a peer may call what is for frontends.
class VolumeGrant {
 public:
  // For all: what a peer has whose permissions are looked at elsewhere.
  VolumeGrant() = default;
  // What a certificate's URIs say. An admin's is for all, one without any for none; a URI of a
  // frontend that goes on in another way than above counts for nothing.
  static VolumeGrant Of(const std::vector<std::string>& uris);

  bool Covers(uint64_t volume_id) const { return all_ || volumes_.contains(volume_id); }
  // PERMISSION_DENIED: not covered.
  absl::Status Check(uint64_t volume_id) const;
  // PERMISSION_DENIED: it is for some volumes only.
  absl::Status CheckAll() const;

 private:
  bool all_ = true;
  absl::flat_hash_set<uint64_t> volumes_;  // unless all_
};

}  // namespace weir::wire

#endif  // WEIR_PROTO_WIRE_ACCESS_H_
