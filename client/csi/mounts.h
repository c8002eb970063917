// The node's mount table: the one place where it is written what is staged and published.
//
// Thread-safety: free functions, safe.
#ifndef WEIR_CLIENT_CSI_MOUNTS_H_
#define WEIR_CLIENT_CSI_MOUNTS_H_

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace weir::csi {

struct Mount {
  dev_t device = 0;         // of the file system
  std::string root;         // what of the file system is seen here: "/", or more for a bind mount
  std::string mount_point;
  bool read_only = false;        // here
  bool read_only_super = false;  // the file system as a whole
  std::string fs_type;
  std::string source;
};

// /proc/PID/mountinfo; lines that are none are passed over. In the order in which they were mounted.
std::vector<Mount> ParseMountinfo(absl::string_view text);

absl::StatusOr<std::vector<Mount>> ReadMounts();

// What is seen at a path: the last that was mounted there.
std::optional<Mount> MountAt(const std::vector<Mount>& mounts, absl::string_view path);

// Shows `source` at `target`, which exists. INTERNAL.
absl::Status BindMount(const std::string& source, const std::string& target, bool read_only);

// Unmounts whatever is mounted there, and does nothing if that is nothing. FAILED_PRECONDITION: it is in use.
absl::Status UnmountAll(const std::string& path);

// Removes what a mount stood on: an empty directory or a file that is empty. OK if there is nothing.
absl::Status RemoveMountPoint(const std::string& path);

}  // namespace weir::csi

#endif  // WEIR_CLIENT_CSI_MOUNTS_H_
