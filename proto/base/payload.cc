#include "proto/base/payload.h"

#include <cstring>

namespace weir {

Payload Payload::CopyOf(absl::string_view bytes) {
  // Not make_shared<char[]>: that would zero the buffer first.
  std::shared_ptr<char[]> buffer(new char[bytes.size()]);
  std::memcpy(buffer.get(), bytes.data(), bytes.size());
  absl::string_view copy(buffer.get(), bytes.size());
  return Payload(std::move(buffer), copy);
}

}  // namespace weir
