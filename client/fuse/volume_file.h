// A volume as what a block device stands on: the one file of weir-fuse, or what weir-nbd serves to the kernel.
//
// Why not nbdfuse: it fails requests when its server is restarted, and its file never grows. This one goes
// through the C++ library, so requests are held while the frontend is away and go on if nothing was lost.
#ifndef WEIR_CLIENT_FUSE_VOLUME_FILE_H_
#define WEIR_CLIENT_FUSE_VOLUME_FILE_H_

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/weir/client.h"

namespace weir::fuse {

// Requests of the file, answered by callbacks that get an errno, 0 for success. They run as the library's do:
// once, on a thread of gRPC's or the caller's.
//
// Thread-safety: safe. The destructor waits for what is unanswered.
class VolumeFile {
 public:
  using Done = std::function<void(int error)>;
  using DoneReading = std::function<void(int error, std::string data)>;

  // `control` is asked how large the volume is by now.
  VolumeFile(std::string name, std::unique_ptr<Client> control, std::unique_ptr<Volume> volume, bool read_only);

  // Offsets and lengths that are no multiples of 4096 are EINVAL. Past the end a read is short, a write ENOSPC.
  void Read(uint64_t offset, uint64_t length, DoneReading done);
  void Write(uint64_t offset, std::string data, bool fua, Done done);
  void Flush(Done done);
  // `mode`: of fallocate(2). A hole is discarded, a zeroed range keeps nothing either; both within the
  // file, which never grows by them: EOPNOTSUPP for all else.
  void Allocate(int mode, uint64_t offset, uint64_t length, Done done);

  uint64_t size_bytes() const { return size_bytes_; }
  // Of one read or write.
  uint32_t length_bytes_max() const { return volume_->length_bytes_max(); }
  bool read_only() const { return read_only_; }
  // Asks; blocks for the control client's timeout at most. False: there was no answer, and the size that was known stays.
  bool RefreshSize();
  // That it has this many bytes, if more than was known: until the next answer the frontend is to judge what lies beyond.
  void AssumeSize(uint64_t size_bytes);

 private:
  const std::string name_;
  const std::unique_ptr<Client> control_;
  const std::unique_ptr<Volume> volume_;
  const bool read_only_;
  std::atomic<uint64_t> size_bytes_;
};

}  // namespace weir::fuse

#endif  // WEIR_CLIENT_FUSE_VOLUME_FILE_H_
