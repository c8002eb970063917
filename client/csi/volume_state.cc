#include "client/csi/volume_state.h"

#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "client/csi/names.h"

namespace weir::csi {
namespace {

constexpr char kSnapshotWord[] = "snapshot ";
constexpr char kVolumeWord[] = "volume ";

}  // namespace

std::string AttributeOf(const v1::Volume& volume, const char* name) {
  const auto found = volume.attributes().find(name);
  return found == volume.attributes().end() ? "" : found->second;
}

absl::Status CheckNotBeingDeleted(const v1::Volume& volume) {
  if (volume.state() != "DELETING") return absl::OkStatus();
  return absl::AbortedError(absl::StrCat("volume ", volume.name(), " is being deleted; try again when it is gone"));
}

std::string KindsText(const std::vector<Use>& uses) {
  std::set<std::string> kinds;
  for (const Use& use : uses) kinds.insert(use.kind());
  return absl::StrJoin(kinds, ", ");
}

std::string SourceText(const v1csi::VolumeContentSource& source) {
  if (source.has_snapshot()) return absl::StrCat(kSnapshotWord, source.snapshot().snapshot_id());
  if (source.has_volume()) return absl::StrCat(kVolumeWord, source.volume().volume_id());
  return "";
}

void SetSource(const std::string& text, v1csi::Volume* volume) {
  absl::string_view id = text;
  if (absl::ConsumePrefix(&id, kSnapshotWord)) {
    volume->mutable_content_source()->mutable_snapshot()->set_snapshot_id(std::string(id));
  } else if (absl::ConsumePrefix(&id, kVolumeWord)) {
    volume->mutable_content_source()->mutable_volume()->set_volume_id(std::string(id));
  }
}

std::string CreatedText(absl::Time time) { return absl::StrFormat("%016d", absl::ToUnixMillis(time)); }

std::string OrderOf(const v1::Volume& volume) {
  return absl::StrCat(AttributeOf(volume, kCreatedAttribute), " ", volume.name());
}

std::string PublishedText(const Use& use, bool read_only) {
  return absl::StrCat(use.ToText(), read_only ? " ro" : " rw");
}

v1csi::Volume Describe(const v1::Volume& volume) {
  v1csi::Volume described;
  described.set_volume_id(volume.name());
  described.set_capacity_bytes(static_cast<int64_t>(volume.size_bytes()));
  const std::string mkfs = AttributeOf(volume, kMkfsAttribute);
  if (!mkfs.empty()) (*described.mutable_volume_context())[kMkfsContextKey] = mkfs;
  SetSource(AttributeOf(volume, kSourceAttribute), &described);
  return described;
}

v1csi::VolumeCondition ConditionOf(const v1::Volume& volume) {
  std::vector<std::string> wrong;
  uint32_t in_sync = 0;
  for (const v1::Target& target : volume.table().targets()) {
    if (target.state() == "in_sync" && target.health() != "failed") {
      ++in_sync;
    } else {
      wrong.push_back(absl::StrCat("replica ", target.replica(), " is ",
                                   target.state() == "in_sync" ? target.health() : target.state()));
    }
    if (target.damaged_blocks() > 0) {
      wrong.push_back(absl::StrCat("replica ", target.replica(), " has ", target.damaged_blocks(), " damaged blocks"));
    }
  }
  if (in_sync < volume.min_in_sync()) {
    wrong.push_back(absl::StrCat("requests wait: ", in_sync, " of the ", volume.min_in_sync(),
                                 " replicas that are needed are in sync"));
  }
  if (volume.state() == "CREATING" || volume.state() == "DELETING") {
    wrong.push_back(absl::StrCat("its ", volume.state() == "CREATING" ? "creation" : "deletion", " is not complete"));
  }
  v1csi::VolumeCondition condition;
  condition.set_abnormal(!wrong.empty());
  condition.set_message(wrong.empty() ? absl::StrCat(in_sync, " replicas are in sync")
                                      : absl::StrCat(absl::StrJoin(wrong, "; "), "; see weirctl explain ", volume.name()));
  return condition;
}

}  // namespace weir::csi
