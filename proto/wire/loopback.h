// What may go in plain text without anybody's leave: what no other machine hears.
//
// Thread-safety: a free function, safe.
#ifndef WEIR_PROTO_WIRE_LOOPBACK_H_
#define WEIR_PROTO_WIRE_LOOPBACK_H_

#include "absl/strings/string_view.h"

namespace weir::wire {

// `address` is unix:PATH, or HOST:PORT with a loopback HOST: localhost, [::1] or 127.0.0.0/8. No other name is
// looked up: it may be anybody's tomorrow.
bool IsThisMachine(absl::string_view address);

}  // namespace weir::wire

#endif  // WEIR_PROTO_WIRE_LOOPBACK_H_
