// The attach where the kernel has no nbd module: weir-fuse shows the volume as a file, and a loop device makes a
// block device of that.
//
//   STATE_DIR/VOLUME/fuse/volume   the file; the mount table has the note
//   STATE_DIR/VOLUME/log           of weir-fuse
#ifndef WEIR_CLIENT_CSI_FUSE_LOOP_H_
#define WEIR_CLIENT_CSI_FUSE_LOOP_H_

#include <string>
#include <utility>

#include "client/csi/attach.h"
#include "proto/base/tls_files.h"

namespace weir::csi {

// Thread-safety: as BlockAttach. Owns nothing but what is on disk.
class FuseLoop final : public BlockAttach {
 public:
  // `program`: weir-fuse. It goes into the background and is nobody's child then. `tls`: absolute paths; the certificate
  // that each weir-fuse shows, and reads anew for as long as it lives.
  FuseLoop(std::string state_dir, std::string program, TlsFiles tls)
      : state_dir_(std::move(state_dir)), program_(std::move(program)), tls_(std::move(tls)) {}

  absl::StatusOr<AttachedDevice> Attach(const Request& request, absl::Time deadline) override;
  absl::StatusOr<std::optional<AttachedDevice>> Find(const std::string& volume) override;
  // Nothing of it waits for longer than weir-fuse lives.
  absl::Status Keep(const std::string&) override { return absl::OkStatus(); }
  absl::Status Fail(const std::string&) override { return absl::OkStatus(); }
  absl::Status Refuse(const std::string&, absl::Time) override { return absl::OkStatus(); }
  absl::Status Detach(const std::string& volume, absl::Time deadline) override;
  absl::Status Resize(const std::string& volume, absl::Time deadline) override;

 private:
  std::string Folder(const std::string& volume) const { return state_dir_ + "/" + volume; }
  std::string MountPoint(const std::string& volume) const { return Folder(volume) + "/fuse"; }
  std::string File(const std::string& volume) const { return MountPoint(volume) + "/volume"; }

  const std::string state_dir_;
  const std::string program_;
  const TlsFiles tls_;
};

}  // namespace weir::csi

#endif  // WEIR_CLIENT_CSI_FUSE_LOOP_H_
