#include "volume/host/attributes.h"

#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "google/protobuf/util/message_differencer.h"
#include "proto/base/status_macros.h"
#include "volume/host/local_host.h"

namespace weir::host {
namespace {

constexpr int kAttemptsMax = 16;
constexpr size_t kShownBytesMax = 80;

bool IsName(absl::string_view name) {
  bool ok = !name.empty() && absl::ascii_isalnum(name[0]) && absl::StrContains(name, '.');
  for (char c : name) {
    ok = ok && (absl::ascii_islower(c) || absl::ascii_isdigit(c) || absl::StrContains("._/-", c));
  }
  return ok;
}

}  // namespace

absl::Status CheckAttributes(const Attributes& attributes) {
  size_t bytes = 0;
  for (const auto& [name, value] : attributes) {
    if (!IsName(name)) {
      return absl::InvalidArgumentError(absl::StrCat(
          "attribute '", name.substr(0, kShownBytesMax), "': a name is made of a-z 0-9 . _ / - and begins with "
          "its owner's and a dot, such as csi.node"));
    }
    bytes += name.size() + value.size();
  }
  if (bytes > kAttributeBytesMax) {
    return absl::InvalidArgumentError(absl::StrCat(
        "attributes of ", bytes, " bytes: a volume may have ", kAttributeBytesMax, " bytes of them"));
  }
  return absl::OkStatus();
}

absl::Status ChangeAttributes(const v1::SetAttributesRequest& request, Attributes* attributes) {
  for (const auto& [name, value] : request.expected()) {
    const auto found = attributes->find(name);
    const std::string now = found == attributes->end() ? "" : found->second;
    if (now != value) {
      return absl::AbortedError(absl::StrCat(
          "volume ", request.name(), ": attribute ", name.substr(0, kShownBytesMax), " is '",
          now.substr(0, kShownBytesMax), "', not '", value.substr(0, kShownBytesMax),
          "': it was changed meanwhile; read it again and decide anew"));
    }
  }
  Attributes next = *attributes;
  for (const std::string& name : request.remove()) next.erase(name);
  for (const auto& [name, value] : request.set()) next[name] = value;
  RETURN_IF_ERROR(CheckAttributes(next));
  attributes->swap(next);
  return absl::OkStatus();
}

absl::StatusOr<v1::Volume> LocalHost::SetAttributes(const v1::SetAttributesRequest& request) {
  // The record of an attached volume too: whoever holds it puts its next change on top (VolumeRecordHolder).
  for (int attempt = 0; attempt < kAttemptsMax; ++attempt) {
    ASSIGN_OR_RETURN(catalog::VersionedVolume volume, catalog_->GetVolume(request.name()));
    RETURN_IF_ERROR(ChangeAttributes(request, volume.record.mutable_attributes()));
    const absl::Status put = catalog_->PutVolume(volume.record, volume.revision).status();
    if (put.ok()) return Describe(volume.record);
    if (!absl::IsAborted(put)) return put;
  }
  return absl::UnavailableError(
      absl::StrCat("volume ", request.name(), ": the catalog keeps changing; try again"));
}

absl::Status LocalHost::RegisterFrontend() {
  v1::FrontendRecord record;
  record.set_name(self_.name);
  record.set_address(self_.address);
  record.mutable_labels()->insert(options_.labels.begin(), options_.labels.end());
  // Another one that takes our name at the same time does so once.
  absl::Status put = absl::AbortedError("not tried");
  for (int attempt = 0; attempt < kAttemptsMax && absl::IsAborted(put); ++attempt) {
    const absl::StatusOr<catalog::VersionedFrontend> known = catalog_->GetFrontend(self_.name);
    if (!known.ok() && !absl::IsNotFound(known.status())) return known.status();
    if (known.ok() && google::protobuf::util::MessageDifferencer::Equals(known->record, record)) {
      return absl::OkStatus();
    }
    put = catalog_->PutFrontend(record, known.ok() ? known->revision : 0).status();
  }
  return put;
}

absl::StatusOr<std::vector<v1::FrontendSummary>> LocalHost::ListFrontends() {
  ASSIGN_OR_RETURN(const std::vector<catalog::VersionedFrontend> known, catalog_->ListFrontends());
  std::vector<v1::FrontendSummary> frontends;
  for (const catalog::VersionedFrontend& one : known) {
    v1::FrontendSummary& frontend = frontends.emplace_back();
    frontend.set_name(one.record.name());
    frontend.set_address(one.record.address());
    *frontend.mutable_labels() = one.record.labels();
  }
  return frontends;
}

}  // namespace weir::host
