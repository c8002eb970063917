// A program that serves until it is told to end goes into the background, and whoever started it hears whether it serves.
//
// Thread-safety: free functions; GoIntoBackground before there are threads, and before gRPC, which does not survive a fork.
#ifndef WEIR_CLIENT_FUSE_BACKGROUND_H_
#define WEIR_CLIENT_FUSE_BACKGROUND_H_

#include <string>

#include "absl/strings/string_view.h"

namespace weir {

// Returns in a process that is nobody's child and writes to the file `log`. The first one stays until Tell is called: then it
// ends, with 0 and what was said on its standard output, or with 1 and that on its standard error after the
// program's name. So it ends, with 1, if nothing can be written to `log`. Returns whom to tell.
int GoIntoBackground(absl::string_view program, const std::string& log);

// That it serves, or why not. Once. `ready`: of GoIntoBackground; below 0: there is nobody. False: whoever started this is gone.
bool Tell(int ready, bool serves, absl::string_view words);

}  // namespace weir

#endif  // WEIR_CLIENT_FUSE_BACKGROUND_H_
