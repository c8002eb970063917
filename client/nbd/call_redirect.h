// Puts a function of ours in the place of one that nbdkit's executable calls.
#ifndef WEIR_CLIENT_NBD_CALL_REDIRECT_H_
#define WEIR_CLIENT_NBD_CALL_REDIRECT_H_

namespace weir::nbd {

// Makes the calls that this process's executable makes to the library function
// `name` go to `function`, which has the same type. Calls from libraries, this plugin
// included, stay as they are. Returns false, and changes nothing, where the
// executable has no such call.
// REQUIRES: no other thread yet.
bool RedirectCall(const char* name, void* function);

}  // namespace weir::nbd

#endif  // WEIR_CLIENT_NBD_CALL_REDIRECT_H_
