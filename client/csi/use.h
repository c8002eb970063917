// A VolumeCapability, understood: as what a volume is to be used, and by whom at once.
//
// Thread-safety: pure functions.
#ifndef WEIR_CLIENT_CSI_USE_H_
#define WEIR_CLIENT_CSI_USE_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "csi/v1/csi.pb.h"
#include "google/protobuf/repeated_ptr_field.h"

namespace weir::csi {

namespace v1csi = ::csi::v1;

struct Use {
  using Mode = v1csi::VolumeCapability::AccessMode::Mode;

  bool block = false;
  // Mounts only.
  std::string fs_type;  // ext4, also where none is named; xfs
  std::vector<std::string> mount_flags;
  std::string mount_group;  // a number; empty: leave the group alone
  Mode mode = v1csi::VolumeCapability::AccessMode::UNKNOWN;

  // SINGLE_NODE_READER_ONLY.
  bool reads_only() const;
  // Whether a node may show the volume at several paths.
  bool many_paths() const;
  // As what, without by whom: "block", "mount ext4".
  std::string kind() const;
  // Everything, as one line; equal if and only if the uses are.
  std::string ToText() const;
};

// INVALID_ARGUMENT: incomplete. UNIMPLEMENTED: complete, and nothing that we can do; the message says why.
absl::StatusOr<Use> UseOf(const v1csi::VolumeCapability& capability);

// Each of them. INVALID_ARGUMENT: none, incomplete, or nothing that we can do.
absl::StatusOr<std::vector<Use>> UsesOf(
    const google::protobuf::RepeatedPtrField<v1csi::VolumeCapability>& capabilities);

}  // namespace weir::csi

#endif  // WEIR_CLIENT_CSI_USE_H_
