// What a volume's makers keep with it: names and values of theirs, in the catalog.
//
// Thread-safety: pure functions.
#ifndef WEIR_VOLUME_HOST_ATTRIBUTES_H_
#define WEIR_VOLUME_HOST_ATTRIBUTES_H_

#include <cstddef>
#include <string>

#include "absl/status/status.h"
#include "google/protobuf/map.h"
#include "weir/v1/volume.pb.h"

namespace weir::host {

using Attributes = google::protobuf::Map<std::string, std::string>;

// All names and values of a volume. A record is read and written whole, and etcd takes 1.5 MiB.
inline constexpr size_t kAttributeBytesMax = 16 << 10;

// INVALID_ARGUMENT: too much, or a name that is not [a-z0-9]+ and more of [a-z0-9._/-], with a dot in it.
absl::Status CheckAttributes(const Attributes& attributes);

// Makes the change that `request` asks for. ABORTED: something does not stand as expected. After an
// error `attributes` is as it was.
absl::Status ChangeAttributes(const v1::SetAttributesRequest& request, Attributes* attributes);

}  // namespace weir::host

#endif  // WEIR_VOLUME_HOST_ATTRIBUTES_H_
