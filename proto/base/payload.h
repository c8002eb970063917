// A run of bytes shared without a copy: between the clones of a request, the
// replay buffer and the wire.
#ifndef WEIR_PROTO_BASE_PAYLOAD_H_
#define WEIR_PROTO_BASE_PAYLOAD_H_

#include <cstddef>
#include <memory>
#include <utility>

#include "absl/strings/string_view.h"

namespace weir {

// An immutable slice of a buffer that all its slices keep alive. Copying is
// one reference count. Thread-safe as shared_ptr is.
class Payload {
 public:
  Payload() = default;
  // `owner` keeps `bytes` alive.
  Payload(std::shared_ptr<const void> owner, absl::string_view bytes)
      : owner_(std::move(owner)), bytes_(bytes) {}

  static Payload CopyOf(absl::string_view bytes);

  absl::string_view bytes() const { return bytes_; }
  size_t size() const { return bytes_.size(); }
  bool empty() const { return bytes_.empty(); }
  // REQUIRES: offset + size <= size().
  Payload Slice(size_t offset, size_t size) const {
    return Payload(owner_, bytes_.substr(offset, size));
  }

 private:
  std::shared_ptr<const void> owner_;
  absl::string_view bytes_;
};

}  // namespace weir

#endif  // WEIR_PROTO_BASE_PAYLOAD_H_
