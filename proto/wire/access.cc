#include "proto/wire/access.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace weir::wire {
namespace {

constexpr char kScheme[] = "weir://";

constexpr std::pair<Roles, const char*> kNames[] = {
    {kAdmin, "admin"},   {kFrontend, "frontend"}, {kCsi, "csi"},
    {kClient, "client"}, {kReplica, "replica"},   {kViewer, "viewer"},
};

constexpr Roles kLook = kAdmin | kCsi | kClient | kViewer;
constexpr Roles kManage = kAdmin | kCsi;
constexpr Roles kAttach = kAdmin | kCsi | kClient;
constexpr Roles kData = kAdmin | kClient;

struct Rule {
  const char* method;
  Roles allowed;
};

constexpr Rule kRules[] = {
    {"/weir.v1.VolumeService/ListVolumes", kLook},
    {"/weir.v1.VolumeService/GetVolume", kLook},
    {"/weir.v1.VolumeService/ListSnapshots", kLook},
    {"/weir.v1.VolumeService/GetSnapshot", kLook},
    {"/weir.v1.VolumeService/Explain", kLook},
    {"/weir.v1.VolumeService/Trace", kAdmin | kViewer},
    {"/weir.v1.VolumeService/ListReplicas", kLook},
    {"/weir.v1.VolumeService/ListFrontends", kLook},
    {"/weir.v1.VolumeService/CreateVolume", kManage},
    {"/weir.v1.VolumeService/DeleteVolume", kManage},
    {"/weir.v1.VolumeService/ExpandVolume", kManage},
    {"/weir.v1.VolumeService/CloneVolume", kManage},
    {"/weir.v1.VolumeService/FlattenVolume", kManage},
    {"/weir.v1.VolumeService/RestoreVolume", kManage},
    {"/weir.v1.VolumeService/CreateSnapshot", kManage},
    {"/weir.v1.VolumeService/DeleteSnapshot", kManage},
    {"/weir.v1.VolumeService/SetAttributes", kManage},
    {"/weir.v1.VolumeService/RebuildCatalog", kAdmin},
    {"/weir.v1.VolumeService/ForgetReplica", kAdmin},
    {"/weir.v1.VolumeService/Attach", kAttach},
    {"/weir.v1.VolumeService/Detach", kAttach},
    {"/weir.v1.VolumeService/Io", kData},
    {"/weir.v1.VolumeService/Read", kData},
    {"/weir.v1.VolumeService/Write", kData},
    {"/weir.v1.VolumeService/WriteZeroes", kData},
    {"/weir.v1.VolumeService/Discard", kData},
    {"/weir.v1.VolumeService/Barrier", kData},
    {"/weir.v1.VolumeService/Flush", kData},
    {"/weir.v1.VolumeService/Suspend", kAdmin},
    {"/weir.v1.VolumeService/Resume", kAdmin},
    {"/weir.v1.VolumeService/LoadTable", kAdmin},
    {"/weir.v1.VolumeService/ReplaceMember", kAdmin},
    {"/weir.v1.VolumeService/Scrub", kAdmin},
    {"/weir.v1.RegistryService/Register", kAdmin | kReplica},
    {"/weir.v1.ReplicaService/GetReplica", kAdmin | kFrontend | kViewer},
    {"/weir.v1.ReplicaService/ListFaults", kAdmin | kViewer},
    {"/weir.v1.ReplicaService/SetFault", kAdmin},
    {"/weir.v1.ReplicaService/ClearFaults", kAdmin},
    {"/weir.v1.ReplicaService/Io", kAdmin | kFrontend},
    {"/weir.v1.ReplicaService/CreateVolume", kAdmin | kFrontend},
    {"/weir.v1.ReplicaService/DeleteVolume", kAdmin | kFrontend},
    {"/weir.v1.ReplicaService/Seal", kAdmin | kFrontend},
    {"/weir.v1.ReplicaService/ReadTail", kAdmin | kFrontend},
    {"/weir.v1.ReplicaService/AdoptTail", kAdmin | kFrontend},
    {"/weir.v1.ReplicaService/TakeBase", kAdmin | kFrontend},
    {"/weir.v1.ReplicaService/UpdateVolume", kAdmin | kFrontend},
    {"/weir.v1.ReplicaService/KeepRecord", kAdmin | kFrontend},
    {"/weir.v1.ReplicaService/ListRecords", kAdmin | kFrontend},
    {"/weir.v1.ReplicaService/ReadPinned", kAdmin | kFrontend},
    {"/weir.v1.ReplicaService/GetChangedSince", kAdmin | kFrontend},
    {"/weir.v1.ReplicaService/GetDigests", kAdmin | kFrontend},
    {"/weir.v1.ReplicaService/GetChanges", kAdmin | kFrontend},
    {"/weir.v1.ReplicaService/BeginJoin", kAdmin | kFrontend},
    {"/weir.v1.ReplicaService/ReadVersions", kAdmin | kFrontend},
    {"/weir.v1.ReplicaService/CopyIn", kAdmin | kFrontend},
    {"/weir.v1.ReplicaService/GetJoin", kAdmin | kFrontend},
    {"/weir.v1.ReplicaService/FinishJoin", kAdmin | kFrontend},
};

}  // namespace

Roles RolesOf(const std::vector<std::string>& uris) {
  Roles roles = 0;
  for (absl::string_view uri : uris) {
    if (!absl::ConsumePrefix(&uri, kScheme)) continue;
    const absl::string_view role = *absl::StrSplit(uri, '/').begin();
    for (const auto& [bit, name] : kNames) {
      if (role == name) roles |= bit;
    }
  }
  return roles;
}

std::string Describe(Roles roles) {
  std::vector<std::string> names;
  for (const auto& [bit, name] : kNames) {
    if ((roles & bit) != 0) names.push_back(name);
  }
  return names.empty() ? "no role" : absl::StrJoin(names, " or ");
}

Roles Allowed(absl::string_view method) {
  const auto* rule = std::find_if(std::begin(kRules), std::end(kRules),
                                  [&](const Rule& each) { return method == each.method; });
  return rule == std::end(kRules) ? kAdmin : rule->allowed;
}

std::vector<std::string> RuledMethods() {
  std::vector<std::string> methods;
  for (const Rule& rule : kRules) methods.emplace_back(rule.method);
  return methods;
}

VolumeGrant VolumeGrant::Of(const std::vector<std::string>& uris) {
  VolumeGrant grant;
  grant.all_ = false;
  for (absl::string_view uri : uris) {
    if (!absl::ConsumePrefix(&uri, kScheme)) continue;
    const std::vector<absl::string_view> parts = absl::StrSplit(uri, '/');
    uint64_t volume = 0;
    if (parts[0] == "admin" || (parts[0] == "frontend" && parts.size() <= 2)) {
      grant.all_ = true;
    } else if (parts[0] == "frontend" && parts.size() == 4 && parts[2] == "volume" &&
               absl::SimpleAtoi(parts[3], &volume)) {
      grant.volumes_.insert(volume);
    }
  }
  return grant;
}

absl::Status VolumeGrant::Check(uint64_t volume_id) const {
  if (Covers(volume_id)) return absl::OkStatus();
  return absl::PermissionDeniedError(
      absl::StrCat("the caller's certificate is not for volume ", volume_id, " but for ", volumes_.size(),
                   " others (weir://frontend/NAME/volume/ID among its URIs)"));
}

absl::Status VolumeGrant::CheckAll() const {
  if (all_) return absl::OkStatus();
  return absl::PermissionDeniedError(
      absl::StrCat("the caller's certificate is for ", volumes_.size(), " volumes, and this is about all of them "
                   "(weir://frontend/NAME among its URIs)"));
}

bool IsForAll(absl::string_view method) {
  return absl::StartsWith(method, "/grpc.health.v1.Health/") ||
         absl::StartsWith(method, "/grpc.reflection.");
}

}  // namespace weir::wire
