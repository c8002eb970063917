// What the driver keeps of a volume, in the volume's attributes in the catalog: whoever is asked next,
// another instance of the driver too, finds it there.
//
// Thread-safety: pure functions.
#ifndef WEIR_CLIENT_CSI_VOLUME_STATE_H_
#define WEIR_CLIENT_CSI_VOLUME_STATE_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "client/csi/parameters.h"
#include "client/csi/use.h"
#include "csi/v1/csi.pb.h"
#include "weir/v1/volume.pb.h"

namespace weir::csi {

// Names of attributes.
inline constexpr char kNameAttribute[] = "csi.name";              // as the caller gave it; absent: not of our making
inline constexpr char kParametersAttribute[] = "csi.parameters";  // Parameters::text
inline constexpr char kKindsAttribute[] = "csi.kinds";            // KindsText
inline constexpr char kSourceAttribute[] = "csi.source";          // SourceText
inline constexpr char kCreatedAttribute[] = "csi.created";        // CreatedText
inline constexpr char kMkfsAttribute[] = "csi.mkfs";              // Parameters::mkfs_options
inline constexpr char kNodeAttribute[] = "csi.node";              // where it is published; absent: nowhere
inline constexpr char kPublishedAttribute[] = "csi.published";    // PublishedText

// An attribute, or nothing.
std::string AttributeOf(const v1::Volume& volume, const char* name);

// As what the volume was asked for: each kind once, in order.
std::string KindsText(const std::vector<Use>& uses);

// "snapshot ID", "volume ID" or nothing, and back.
std::string SourceText(const v1csi::VolumeContentSource& source);
void SetSource(const std::string& text, v1csi::Volume* volume);

// A moment, to be compared as text.
std::string CreatedText(absl::Time time);
// Where a volume stands in lists: in the order in which they were made, so that those that come while somebody reads
// a list in pages are in it. Those that we have not made come first.
std::string OrderOf(const v1::Volume& volume);

// How it was published: two publications with the same text are compatible.
std::string PublishedText(const Use& use, bool read_only);

// The volume for callers, without its status.
v1csi::Volume Describe(const v1::Volume& volume);

// ABORTED: a deletion is under way, perhaps one that waits for a replica that is away; nothing else may begin.
absl::Status CheckNotBeingDeleted(const v1::Volume& volume);

// Whether somebody should look at it, and why.
v1csi::VolumeCondition ConditionOf(const v1::Volume& volume);

}  // namespace weir::csi

#endif  // WEIR_CLIENT_CSI_VOLUME_STATE_H_
