// What every part calls this build.
#ifndef WEIR_PROTO_BASE_VERSION_H_
#define WEIR_PROTO_BASE_VERSION_H_

namespace weir {

inline constexpr char kVersion[] = "0.1.0";

}  // namespace weir

#endif  // WEIR_PROTO_BASE_VERSION_H_
