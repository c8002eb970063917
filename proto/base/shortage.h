// A process or a machine that is short of descriptors or memory for a moment
// (EMFILE, ENFILE, ENOMEM). A file that could not be opened for that has changed
// nothing on the disk, so opening it is tried again instead of taken for an
// error of the disk, which is final for a store.
#ifndef WEIR_PROTO_BASE_SHORTAGE_H_
#define WEIR_PROTO_BASE_SHORTAGE_H_

#include <sys/types.h>

#include <string>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace weir {

// For how long. Then the error stands. Longer than any deadline for what waits
// for it, so that the others go on without this process, which need not fail.
inline constexpr absl::Duration kShortageMax = absl::Minutes(10);

bool IsShortage(int error);

// Of one opening of the file `path`, which is not owned.
class Patience {
 public:
  Patience(const std::string& path, absl::Duration longest) : path_(path), longest_(longest) {}

  // To be called after each failure: whether to try again. Waits a moment.
  bool Lasts(absl::string_view why);

 private:
  const std::string& path_;
  const absl::Duration longest_;
  bool begun_ = false;
  absl::Duration since_;
};

// open(2), patiently: a descriptor, or -1 and errno.
int OpenPatiently(const std::string& path, int flags, mode_t mode,
                  absl::Duration longest = kShortageMax);

}  // namespace weir

#endif  // WEIR_PROTO_BASE_SHORTAGE_H_
