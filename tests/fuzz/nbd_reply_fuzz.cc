// client/nbd: what nbdkit is about to send. Only the error field of a refused request may change.
#include <cerrno>
#include <cstring>

#include "client/nbd/reply_errno.h"
#include "proto/base/check.h"
#include "tests/fuzz/input.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  weir::fuzz::Input input(data, size);
  const int noted = input.Byte();
  const absl::string_view bytes = input.Rest();
  weir::nbd::NoteReplyError(noted);
  unsigned char corrected[weir::nbd::kSimpleReplyBytes] = {};
  if (weir::nbd::CorrectReply(bytes.data(), bytes.size(), corrected)) {
    CHECK_EQ(noted, EOPNOTSUPP);
    CHECK_EQ(bytes.size(), weir::nbd::kSimpleReplyBytes);
    CHECK(std::memcmp(bytes.data(), corrected, 4) == 0);
    CHECK(std::memcmp(bytes.data() + 8, corrected + 8, 8) == 0);
    // Once: the next reply of this thread is another's.
    CHECK(!weir::nbd::CorrectReply(bytes.data(), bytes.size(), corrected));
  }
  weir::nbd::NoteReplyError(0);
  CHECK_NE(weir::nbd::ErrorForClient(noted == 0 ? EIO : noted), 0);
  return 0;
}
