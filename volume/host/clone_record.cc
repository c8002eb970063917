#include "volume/host/clone_record.h"

#include <algorithm>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace weir::host {
namespace {

v1::SnapshotRecord* Find(v1::VolumeRecord* record, const std::string& snapshot) {
  for (v1::SnapshotRecord& one : *record->mutable_snapshots()) {
    if (one.name() == snapshot) return &one;
  }
  return nullptr;
}

// 0: it is not named.
uint64_t IdOf(const v1::SnapshotRecord& snapshot, const std::string& clone) {
  for (const v1::CloneRecord& one : snapshot.clones()) {
    if (one.volume() == clone) return one.volume_id();
  }
  return 0;
}

}  // namespace

absl::StatusOr<uint64_t> NameClone(v1::VolumeRecord* record, const std::string& snapshot, const std::string& clone,
                                   uint64_t id) {
  v1::SnapshotRecord* found = Find(record, snapshot);
  if (found == nullptr || found->deleting()) {
    return absl::NotFoundError(absl::StrCat("volume ", record->name(), " has no snapshot ", snapshot));
  }
  if (const uint64_t before = IdOf(*found, clone)) return before;
  v1::CloneRecord* added = found->add_clones();
  added->set_volume(clone);
  added->set_volume_id(id);
  return id;
}

bool NamesClone(const v1::VolumeRecord& record, const std::string& snapshot, const std::string& clone, uint64_t id) {
  return std::any_of(record.snapshots().begin(), record.snapshots().end(), [&](const v1::SnapshotRecord& one) {
    return one.name() == snapshot && !one.deleting() && IdOf(one, clone) == id;
  });
}

bool ForgetClone(v1::VolumeRecord* record, const std::string& snapshot, const std::string& clone) {
  v1::SnapshotRecord* found = Find(record, snapshot);
  if (found == nullptr) return false;
  auto* clones = found->mutable_clones();
  clones->erase(std::remove_if(clones->begin(), clones->end(),
                               [&](const v1::CloneRecord& one) { return one.volume() == clone; }),
                clones->end());
  return found->of_clone() && clones->empty();
}

void SetDeleting(v1::VolumeRecord* record, const std::string& snapshot, bool deleting) {
  if (v1::SnapshotRecord* found = Find(record, snapshot)) found->set_deleting(deleting);
}

void TakeParent(const v1::VolumeRecord& record, v1::SnapshotRecord* snapshot) {
  if (record.has_parent()) *snapshot->mutable_parent() = record.parent();
}

bool MayBeFlattened(const v1::VolumeRecord& record) { return record.snapshots().empty(); }

bool ReadsFrom(const v1::VolumeRecord& clone, const v1::CloneRecord& named, const v1::SnapshotRecord& snapshot) {
  return clone.id() == named.volume_id() && clone.parent().pin() == snapshot.pin().id();
}

}  // namespace weir::host
