// Puts a function of ours in the place of a library's that somebody else's code calls, where that code has no other way
// to be told: nbdkit's executable, gRPC's listeners.
#ifndef WEIR_PROTO_BASE_CALL_REDIRECT_H_
#define WEIR_PROTO_BASE_CALL_REDIRECT_H_

#include "absl/strings/string_view.h"

namespace weir {

// What RedirectCall takes for the program itself, not one of its libraries.
inline constexpr absl::string_view kTheExecutable = "";

// Makes the calls that one loaded object makes to the library function `name` go to `function`, which has the same
// type. `object`: how its file's name begins ("libgrpc.so"), or kTheExecutable. Calls from everything else, ours included, stay
// as they are. Returns false, and changes nothing, where there is no such object or it has no such call.
// REQUIRES: nobody else redirects a call, and `object` has not begun to make it.
bool RedirectCall(absl::string_view object, absl::string_view name, void* function);

}  // namespace weir

#endif  // WEIR_PROTO_BASE_CALL_REDIRECT_H_
