// Names that nobody else has drawn.
#ifndef WEIR_VOLUME_CATALOG_UNIQUE_ID_H_
#define WEIR_VOLUME_CATALOG_UNIQUE_ID_H_

#include <string>

namespace weir::catalog {

// 128 bits from the system, as 32 hexadecimal digits. Thread-safe.
std::string NewUniqueId();

}  // namespace weir::catalog

#endif  // WEIR_VOLUME_CATALOG_UNIQUE_ID_H_
