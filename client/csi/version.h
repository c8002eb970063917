// What the driver says of its version.
#ifndef WEIR_CLIENT_CSI_VERSION_H_
#define WEIR_CLIENT_CSI_VERSION_H_

namespace weir::csi {

inline constexpr char kVersion[] = "0.1.0";

}  // namespace weir::csi

#endif  // WEIR_CLIENT_CSI_VERSION_H_
