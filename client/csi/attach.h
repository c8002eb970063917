// How a volume becomes a block device of this node.
//
// What is attached lives apart from the driver: it survives the driver's end, and a driver that is started again
// finds it by asking the system. The note that was given with it comes back then; it says for what it was
// attached. A device that somebody else has made of the volume is never found, nor changed.
#ifndef WEIR_CLIENT_CSI_ATTACH_H_
#define WEIR_CLIENT_CSI_ATTACH_H_

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace weir::csi {

struct AttachedDevice {
  std::string path;  // "/dev/loop3"
  std::string note;
  // Whether requests can still be served; a device may outlive what serves it.
  bool serves = true;
};

// Thread-safety: safe for different volumes; calls about one are the caller's to keep apart.
class BlockAttach {
 public:
  struct Request {
    std::string volume;
    std::string frontend;  // the address of its VolumeService
    std::string note;      // hex digits
    bool read_only = false;
    // How long requests wait for a frontend that is away.
    absl::Duration hold = absl::Minutes(5);
  };

  virtual ~BlockAttach() = default;

  // A block device with blocks of 4096 bytes. REQUIRES: it is not attached. After an error nothing is left.
  // FAILED_PRECONDITION: somebody else has made a device of the volume.
  virtual absl::StatusOr<AttachedDevice> Attach(const Request& request, absl::Time deadline) = 0;
  // What is attached for the volume; none: nothing, or remains, which Detach removes.
  virtual absl::StatusOr<std::optional<AttachedDevice>> Find(const std::string& volume) = 0;
  // Has what is attached stay so, which an earlier Detach, cut off, may have told to end. An error: it is ending.
  virtual absl::Status Keep(const std::string& volume) = 0;
  // Where requests of a device that does not serve would wait for ever, ends them, with errors. The device may be gone then,
  // and its path another volume's: not while the device's node is published. May be called at any time.
  virtual absl::Status Fail(const std::string& volume) = 0;
  // The same, within some time, for a device whose node is published: it stays until Detach, and its path its own. May be
  // called at any time.
  virtual absl::Status Refuse(const std::string& volume, absl::Time deadline) = 0;
  // Ends what there is, remains too; OK if there is nothing. FAILED_PRECONDITION: the device is in use.
  virtual absl::Status Detach(const std::string& volume, absl::Time deadline) = 0;
  // Lets the device have the size that the volume has by now.
  virtual absl::Status Resize(const std::string& volume, absl::Time deadline) = 0;
};

}  // namespace weir::csi

#endif  // WEIR_CLIENT_CSI_ATTACH_H_
