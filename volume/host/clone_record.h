// How catalog records name clones and parents, as changes to them: what one call of LocalHost makes of a record, given
// that it is as somebody has read it.
//
// The order in which they are committed keeps a parent from vanishing under its clone; see clones.cc.
//
// Thread-safety: free functions, safe.
#ifndef WEIR_VOLUME_HOST_CLONE_RECORD_H_
#define WEIR_VOLUME_HOST_CLONE_RECORD_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "weir/v1/catalog.pb.h"

namespace weir::host {

// Has `record`'s snapshot name the clone, with `id` unless it does already, of an attempt that was cut short. The id
// that it has. NOT_FOUND: there is no such snapshot, or it is about to be deleted.
absl::StatusOr<uint64_t> NameClone(v1::VolumeRecord* record, const std::string& snapshot, const std::string& clone,
                                   uint64_t id);
// Whether the snapshot names it still: looked at once the clone's record is written.
bool NamesClone(const v1::VolumeRecord& record, const std::string& snapshot, const std::string& clone, uint64_t id);
// Has it named no more. Whether the snapshot was made for its clones, and has none now.
bool ForgetClone(v1::VolumeRecord* record, const std::string& snapshot, const std::string& clone);
// From when on no clone is made of it; or it may again.
void SetDeleting(v1::VolumeRecord* record, const std::string& snapshot, bool deleting);
// Whether the volume that `clone` is the record of is the one that a snapshot names, and still reads from it: who was
// flattened does not, though that may have been cut short before the snapshot was told.
bool ReadsFrom(const v1::VolumeRecord& clone, const v1::CloneRecord& named, const v1::SnapshotRecord& snapshot);

// What the volume, if it is a clone, reads from its parent a snapshot of it does too.
void TakeParent(const v1::VolumeRecord& record, v1::SnapshotRecord* snapshot);
// Whether the volume, if it is a clone, may do without its parent once it has all of that: its snapshots do not get what it is given.
bool MayBeFlattened(const v1::VolumeRecord& record);

}  // namespace weir::host

#endif  // WEIR_VOLUME_HOST_CLONE_RECORD_H_
