// One volume as NBD sees it: byte ranges in, whole requests to the host out.
#ifndef WEIR_CLIENT_NBD_EXPORT_H_
#define WEIR_CLIENT_NBD_EXPORT_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "volume/host/host.h"

namespace weir::nbd {

// Splits what is larger than the host takes in one request, submits the pieces
// together and waits for all of them, also after an error: when a call has
// returned, nothing of it is still to happen.
//
// Every status carries its errno (StatusToErrno). Thread-safe; all calls block.
class Export {
 public:
  // A hole reads as zeros and holds no data.
  struct Extent {
    uint64_t offset_bytes = 0;
    uint64_t length_bytes = 0;
    bool hole = false;
  };

  explicit Export(std::shared_ptr<host::HostedVolume> volume)
      : volume_(std::move(volume)) {}

  uint64_t size_bytes() const { return volume_->size_bytes(); }

  absl::Status Read(uint64_t offset_bytes, absl::Span<char> out);
  // Copies `data` once: the host keeps it for as long as a replica may need it again.
  absl::Status Write(uint64_t offset_bytes, absl::string_view data, bool fua);
  absl::Status WriteZeroes(uint64_t offset_bytes, uint64_t length_bytes, bool fua);
  absl::Status Discard(uint64_t offset_bytes, uint64_t length_bytes, bool fua);
  absl::Status Flush();
  // Contiguous extents from the block that holds `offset_bytes` on. They may
  // end before the range does, so that one call's work is bounded; an NBD
  // client asks again from there.
  absl::StatusOr<std::vector<Extent>> Extents(uint64_t offset_bytes, uint64_t length_bytes);

 private:
  // `absorb` gets each piece's outcome, in order, unless any piece failed.
  absl::Status Submit(const host::IoRequest& whole,
                      const std::function<absl::Status(const host::IoRequest& piece,
                                                       const host::IoOutcome&)>& absorb);

  const std::shared_ptr<host::HostedVolume> volume_;
};

}  // namespace weir::nbd

#endif  // WEIR_CLIENT_NBD_EXPORT_H_
