#include "client/csi/parameters.h"

#include <algorithm>
#include <functional>
#include <map>

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "proto/base/position.h"
#include "proto/base/size.h"
#include "proto/base/status_macros.h"

namespace weir::csi {
namespace {

constexpr uint64_t kDefaultBytes = 1 << 30;
constexpr uint64_t kXfsBytesMin = 300 << 20;  // mkfs.xfs refuses less since 5.19
constexpr uint32_t kReplicasMax = 7;
constexpr uint32_t kLanesMax = 64;
constexpr uint32_t kCopiesDefault = 3;
constexpr uint64_t kStripeBytesMax = 4 << 20;
constexpr char kSidecarPrefix[] = "csi.storage.k8s.io/";

uint64_t RoundUp(uint64_t bytes) { return (bytes + kBlockBytes - 1) / kBlockBytes * kBlockBytes; }

absl::Status Wrong(absl::string_view key, absl::string_view value, absl::string_view right) {
  return absl::InvalidArgumentError(
      absl::StrCat("parameter ", key, "='", absl::CHexEscape(value.substr(0, 80)), "': give ", right));
}

absl::Status SetNumber(absl::string_view key, absl::string_view value, uint32_t maximum, uint32_t* out) {
  if (absl::SimpleAtoi(value, out) && *out >= 1 && *out <= maximum) return absl::OkStatus();
  return Wrong(key, value, absl::StrCat("a number from 1 to ", maximum));
}

absl::Status SetHold(absl::string_view key, absl::string_view value, std::optional<uint32_t>* out) {
  const absl::StatusOr<uint32_t> seconds = ParseSeconds(value);
  if (!seconds.ok()) return Wrong(key, value, "whole seconds such as 90s or 5m, or 0 for ever");
  *out = *seconds;
  return absl::OkStatus();
}

absl::Status SetStripe(absl::string_view key, absl::string_view value, uint32_t* out) {
  const absl::StatusOr<uint64_t> bytes = ParseSize(value);
  if (!bytes.ok() || *bytes == 0 || *bytes > kStripeBytesMax || *bytes % kBlockBytes != 0) {
    return Wrong(key, value, "a size such as 256KiB, a multiple of 4096 and at most 4MiB");
  }
  *out = static_cast<uint32_t>(*bytes);
  return absl::OkStatus();
}

bool IsSidecars(absl::string_view key) {
  return key == absl::StrCat(kSidecarPrefix, "pvc/name") || key == absl::StrCat(kSidecarPrefix, "pvc/namespace") ||
         key == absl::StrCat(kSidecarPrefix, "pv/name");
}

absl::Status SetOne(absl::string_view key, const std::string& value, Parameters* out) {
  if (key == "replicas") return SetNumber(key, value, kReplicasMax, &out->replicas);
  if (key == "minInSync") return SetNumber(key, value, kReplicasMax, &out->min_in_sync);
  if (key == "holdDeadline") return SetHold(key, value, &out->hold_deadline_s);
  if (key == "lanes") return SetNumber(key, value, kLanesMax, &out->lanes);
  if (key == "stripeSize") return SetStripe(key, value, &out->stripe_bytes);
  if (key == "mkfsOptions") {
    out->mkfs_options = value;
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "parameter '", absl::CHexEscape(key.substr(0, 80)),
      "' is not known; there are replicas, minInSync, holdDeadline, lanes, stripeSize and mkfsOptions"));
}

}  // namespace

uint32_t Parameters::copies(size_t known) const {
  return replicas != 0 ? replicas : static_cast<uint32_t>(std::min<size_t>(kCopiesDefault, known));
}

absl::StatusOr<Parameters> ParametersOf(const StringMap& parameters, const StringMap& mutable_parameters) {
  Parameters out;
  for (const auto& [key, value] : std::map<std::string, std::string>(parameters.begin(), parameters.end())) {
    if (IsSidecars(key)) continue;
    RETURN_IF_ERROR(SetOne(key, value, &out));
    absl::StrAppend(&out.text, key, "=", value.size(), ":", value, ";");
  }
  if (!mutable_parameters.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("parameter '", absl::CHexEscape(mutable_parameters.begin()->first.substr(0, 80)),
                     "' cannot be changed: a volume has none that can"));
  }
  if (out.min_in_sync > out.copies(kCopiesDefault)) {
    return Wrong("minInSync", absl::StrCat(out.min_in_sync),
                 absl::StrCat("at most the number of replicas, ", out.copies(kCopiesDefault)));
  }
  return out;
}

absl::StatusOr<uint64_t> SizeFor(const v1csi::CapacityRange& range, const std::vector<Use>& uses,
                                 uint64_t source_bytes) {
  const auto refuse = [&range](absl::string_view why) {
    return absl::OutOfRangeError(absl::StrCat("required_bytes ", range.required_bytes(), ", limit_bytes ",
                                              range.limit_bytes(), ": ", why));
  };
  if (range.required_bytes() < 0 || range.limit_bytes() < 0) return refuse("a size below zero");
  const uint64_t required = static_cast<uint64_t>(range.required_bytes());
  const uint64_t limit = range.limit_bytes() == 0 ? kVolumeBytesMax : static_cast<uint64_t>(range.limit_bytes());
  if (required > kVolumeBytesMax) return refuse("a volume has at most 1 EiB");
  if (required > limit) return refuse("more is required than the limit allows");
  uint64_t minimum = kVolumeBytesMin;
  for (const Use& use : uses) {
    if (use.fs_type == "xfs") minimum = kXfsBytesMin;
  }
  minimum = std::max(minimum, source_bytes);
  uint64_t size = std::max(RoundUp(required), minimum);
  if (required == 0 && source_bytes == 0) size = std::max(std::min(kDefaultBytes, limit / kBlockBytes * kBlockBytes), minimum);
  if (size > limit) {
    return refuse(absl::StrCat("a volume has whole blocks of 4096 bytes, here at least ", minimum, " bytes"));
  }
  return size;
}

bool IsInRange(uint64_t size_bytes, const v1csi::CapacityRange& range) {
  if (range.required_bytes() < 0 || range.limit_bytes() < 0) return false;
  return size_bytes >= static_cast<uint64_t>(range.required_bytes()) &&
         (range.limit_bytes() == 0 || size_bytes <= static_cast<uint64_t>(range.limit_bytes()));
}

uint64_t AvailableBytes(const std::vector<v1::ReplicaSummary>& replicas, const Parameters& parameters) {
  std::vector<uint64_t> available;
  for (const v1::ReplicaSummary& replica : replicas) {
    if (replica.state() == "SERVING") available.push_back(replica.available_bytes());
  }
  const uint32_t copies = parameters.copies(replicas.size());
  if (copies == 0 || available.size() < copies) return 0;
  std::sort(available.begin(), available.end(), std::greater<>());
  return available[copies - 1] / kBlockBytes * kBlockBytes;
}

}  // namespace weir::csi
