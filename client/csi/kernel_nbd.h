// The attach where the kernel has its nbd module: weir-nbd makes a device of the volume.
//
//   STATE_DIR/VOLUME/nbd.log   of weir-nbd, which has it locked while it serves, and in common with others while it refuses
//
// What is attached the kernel tells: a device's backend is "weir:VOLUME:TAG NOTE:INSTANCE", without the space. The tag says
// that it is this state directory's: somebody may run weir-nbd by hand, and a machine have two drivers.
#ifndef WEIR_CLIENT_CSI_KERNEL_NBD_H_
#define WEIR_CLIENT_CSI_KERNEL_NBD_H_

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "client/csi/attach.h"
#include "client/nbd_device/kernel.h"
#include "proto/base/tls_files.h"

namespace weir::csi {

// Thread-safety: as BlockAttach. Owns nothing but what is on disk.
class KernelNbd final : public BlockAttach {
 public:
  struct Options {
    std::string state_dir;
    // weir-nbd. It goes into the background and is nobody's child then.
    std::string program;
    // Absolute paths; the certificate that each weir-nbd shows, and reads anew for as long as it lives.
    TlsFiles tls;
    // How many bytes the volume has.
    std::function<absl::StatusOr<uint64_t>(const std::string& volume, absl::Time deadline)> size_of;
    // How long a device that was told to end may take: one that takes longer is in use.
    absl::Duration gone_max = absl::Seconds(2);
    // And then its weir-nbd.
    absl::Duration ended_max = absl::Seconds(10);
  };

  // `kernel` outlives it.
  KernelNbd(Options options, nbd_device::NbdKernel* kernel);

  absl::StatusOr<AttachedDevice> Attach(const Request& request, absl::Time deadline) override;
  absl::StatusOr<std::optional<AttachedDevice>> Find(const std::string& volume) override;
  absl::Status Keep(const std::string& volume) override;
  absl::Status Fail(const std::string& volume) override;
  absl::Status Refuse(const std::string& volume, absl::Time deadline) override;
  absl::Status Detach(const std::string& volume, absl::Time deadline) override;
  absl::Status Resize(const std::string& volume, absl::Time deadline) override;

 private:
  std::string Folder(const std::string& volume) const { return options_.state_dir + "/" + volume; }
  std::string Log(const std::string& volume) const { return Folder(volume) + "/nbd.log"; }
  std::vector<nbd_device::NbdDevice> DevicesOf(const std::string& volume) {
    return nbd_device::DevicesOf(*kernel_, volume, tag_);
  }
  // FAILED_PRECONDITION: there is a device that is not ours.
  absl::Status CheckNobodyElses(const std::string& volume);
  absl::Status End(const std::string& volume, const nbd_device::NbdDevice& device);
  // False: some are still there.
  bool AwaitGone(const std::string& volume);
  // False: its weir-nbd is still there.
  bool AwaitEnded(const std::string& volume, absl::Time deadline);

  const Options options_;
  const std::string tag_;
  nbd_device::NbdKernel* const kernel_;
};

}  // namespace weir::csi

#endif  // WEIR_CLIENT_CSI_KERNEL_NBD_H_
