// The FUSE file system around a VolumeFile: a directory with the file "volume" in it.
#ifndef WEIR_CLIENT_FUSE_FILE_SYSTEM_H_
#define WEIR_CLIENT_FUSE_FILE_SYSTEM_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "client/fuse/volume_file.h"

struct fuse_session;

namespace weir::fuse {

inline constexpr char kFileName[] = "volume";

// A mounted file system. One thread mounts it and calls Serve; it ends when it is unmounted, or by SIGTERM.
class FileSystem {
 public:
  // `source` is what the mount table shows as the device; the type there is fuse.weir. FAILED_PRECONDITION:
  // cannot be mounted there. `file` outlives it.
  static absl::StatusOr<std::unique_ptr<FileSystem>> Mount(VolumeFile* file, const std::string& mount_point,
                                                           const std::string& source);
  ~FileSystem();

  // Until it is unmounted.
  absl::Status Serve();

 private:
  explicit FileSystem(fuse_session* session) : session_(session) {}

  fuse_session* const session_;
  bool handles_signals_ = false;
};

}  // namespace weir::fuse

#endif  // WEIR_CLIENT_FUSE_FILE_SYSTEM_H_
