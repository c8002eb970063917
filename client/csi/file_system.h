// File systems on a node's block device, by the node's own tools.
//
// Thread-safety: free functions, safe, one at a time a device.
#ifndef WEIR_CLIENT_CSI_FILE_SYSTEM_H_
#define WEIR_CLIENT_CSI_FILE_SYSTEM_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace weir::csi {

// What blkid finds: a file system, a partition table, ...; empty: nothing, so it may be formatted.
absl::StatusOr<std::string> ContentOf(const std::string& device, absl::Time deadline);

// Makes `fs_type` on a blank device. `options`: words for its mkfs.
absl::Status Format(const std::string& device, const std::string& fs_type, const std::string& options,
                    absl::Time deadline);

// Mends what can be mended without asking. FAILED_PRECONDITION: it needs a person.
absl::Status CheckFileSystem(const std::string& device, const std::string& fs_type, absl::Time deadline);

// INTERNAL, with mount's words: a flag that this file system does not know, perhaps.
absl::Status MountFileSystem(const std::string& device, const std::string& mount_point, const std::string& fs_type,
                             const std::vector<std::string>& flags, bool read_only, absl::Time deadline);

// Lets a mounted file system fill its device. Does nothing if it does. FAILED_PRECONDITION: not while it is mounted; for
// ext4 the kernel wants CAP_SYS_RESOURCE, which a container may lack.
absl::Status GrowFileSystem(const std::string& device, const std::string& mount_point, const std::string& fs_type,
                            absl::Time deadline);

// How many bytes of its device a mounted file system uses.
absl::StatusOr<uint64_t> FileSystemBytes(const std::string& device, const std::string& mount_point,
                                         const std::string& fs_type, absl::Time deadline);

// As GrowFileSystem, for an ext4 that is not mounted. Takes as long as looking at all of it.
absl::Status GrowUnmounted(const std::string& device, absl::Time deadline);

// Gives everything below `root` to a group, readable and writable, and what will be made there too. If the root is so
// already, so is the rest.
absl::Status GiveToGroup(const std::string& root, const std::string& group);

}  // namespace weir::csi

#endif  // WEIR_CLIENT_CSI_FILE_SYSTEM_H_
