// A fuzzer's bytes, cut into what a target makes of them.
//
// Not LLVM's FuzzedDataProvider: that takes numbers from the end and escapes strings, so that a
// message in a seed would not be the plain message, and nobody could read or make one.
#ifndef WEIR_TESTS_FUZZ_INPUT_H_
#define WEIR_TESTS_FUZZ_INPUT_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "absl/strings/string_view.h"

namespace weir::fuzz {

// Thread-safety: none. Does not own the bytes. Beyond the end all bytes are 0.
class Input {
 public:
  Input(const uint8_t* data, size_t size)
      : left_(reinterpret_cast<const char*>(data), size) {}

  bool empty() const { return left_.empty(); }

  uint8_t Byte() {
    if (left_.empty()) return 0;
    const uint8_t byte = static_cast<uint8_t>(left_[0]);
    left_.remove_prefix(1);
    return byte;
  }

  // Little endian.
  uint64_t Number(int bytes) {
    uint64_t number = 0;
    for (int i = 0; i < bytes; ++i) number |= uint64_t{Byte()} << (8 * i);
    return number;
  }

  // Two bytes of length, then so many, or what there is.
  absl::string_view Message() {
    const size_t size = std::min<size_t>(Number(2), left_.size());
    const absl::string_view message = left_.substr(0, size);
    left_.remove_prefix(size);
    return message;
  }

  absl::string_view Rest() {
    const absl::string_view rest = left_;
    left_ = absl::string_view();
    return rest;
  }

 private:
  absl::string_view left_;
};

// False if `bytes` are no such message.
template <typename Proto>
bool Parse(absl::string_view bytes, Proto* message) {
  return message->ParseFromArray(bytes.data(), static_cast<int>(bytes.size()));
}

}  // namespace weir::fuzz

#endif  // WEIR_TESTS_FUZZ_INPUT_H_
