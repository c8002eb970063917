// LocalHost's growing of volumes: every member has room first, then the record says so, then clients may.
#include <cstdint>
#include <string>

#include "absl/strings/str_cat.h"
#include "proto/base/log.h"
#include "proto/base/position.h"
#include "proto/base/size.h"
#include "proto/base/status_macros.h"
#include "volume/host/local_host.h"
#include "volume/host/provision.h"

namespace weir::host {

absl::StatusOr<v1::Volume> LocalHost::ExpandVolume(const std::string& name, uint64_t size_bytes) {
  RETURN_IF_ERROR(CheckSize(size_bytes));
  RETURN_IF_ERROR(catalog_->GetVolume(name).status());
  ASSIGN_OR_RETURN(const Exclusive held, Exclusive::Take(this, name));
  ASSIGN_OR_RETURN(v1::VolumeRecord record, SettledRecordOf(name));
  if (size_bytes < record.size_bytes()) {
    return absl::InvalidArgumentError(
        absl::StrCat("volume ", name, " has ", FormatSize(record.size_bytes()), ", ",
                     FormatSize(size_bytes), " is less; a volume does not shrink"));
  }
  if (size_bytes == record.size_bytes()) return Describe(record);
  RETURN_IF_ERROR(WithAttached(name, [&](Attached& attached) -> absl::Status {
    RETURN_IF_ERROR(attached.runner->Grow(size_bytes / kBlockBytes));
    RETURN_IF_ERROR(attached.Commit([size_bytes](v1::VolumeRecord grown) {
      grown.set_size_bytes(size_bytes);
      return grown;
    }));
    attached.DropDoubtfulPins();
    attached.runner->set_size_bytes(size_bytes);
    record = attached.Record();
    return absl::OkStatus();
  }));
  LOG(INFO) << "volume=" << name << " has grown to " << FormatSize(size_bytes);
  return Describe(record);
}

}  // namespace weir::host
