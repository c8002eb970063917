#include "client/csi/names.h"

#include <limits.h>

#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "openssl/sha.h"

namespace weir::csi {
namespace {

constexpr size_t kNameBytesMax = 128;
constexpr size_t kVolumeNameBytesMax = 63;
constexpr size_t kLegibleBytesMax = 40;
constexpr size_t kHashDigits = 20;
constexpr char kTokenPrefix[] = "after:";

bool IsNameChar(char c) {
  return absl::ascii_islower(c) || absl::ascii_isdigit(c) || c == '.' || c == '_' || c == '-';
}

bool IsControl(char c) {
  return absl::ascii_iscntrl(c) && c != '\t' && c != '\n' && c != '\r';
}

}  // namespace

absl::Status CheckGiven(absl::string_view what, absl::string_view value) {
  if (!value.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(what, " is missing"));
}

absl::Status CheckName(absl::string_view what, absl::string_view name) {
  if (name.empty()) return CheckGiven(what, name);
  if (name.size() > kNameBytesMax) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, " has ", name.size(), " bytes; at most ", kNameBytesMax));
  }
  for (char c : name) {
    if (IsControl(c)) {
      return absl::InvalidArgumentError(absl::StrCat(what, " has a control character in it"));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckPath(absl::string_view what, absl::string_view path) {
  if (path.empty()) return CheckGiven(what, path);
  if (path[0] == '/' && path.size() < PATH_MAX && !absl::StrContains(path, '\0')) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(what, " is no absolute path of at most ", PATH_MAX - 1, " bytes"));
}

bool IsVolumeName(absl::string_view name) {
  if (name.empty() || name.size() > kVolumeNameBytesMax) return false;
  bool ok = absl::ascii_islower(name[0]) || absl::ascii_isdigit(name[0]);
  for (char c : name) ok = ok && IsNameChar(c);
  return ok;
}

std::string VolumeNameOf(absl::string_view name) {
  if (IsVolumeName(name)) return std::string(name);
  std::string legible;
  for (char c : name.substr(0, kLegibleBytesMax)) {
    const char lower = absl::ascii_tolower(c);
    legible += IsNameChar(lower) ? lower : '-';
  }
  if (legible.empty() || !absl::ascii_isalnum(legible[0])) legible.insert(0, "v");
  return absl::StrCat(legible, "-", Sha256Hex(name).substr(0, kHashDigits));
}

absl::StatusOr<SnapshotName> SnapshotNameOf(absl::string_view id) {
  const std::pair<std::string, std::string> parts = absl::StrSplit(id, absl::MaxSplits('@', 1));
  if (IsVolumeName(parts.first) && IsVolumeName(parts.second)) return SnapshotName{parts.first, parts.second};
  return absl::NotFoundError(absl::StrCat("there is no snapshot '", absl::CHexEscape(id.substr(0, kNameBytesMax)), "'"));
}

std::string Sha256Hex(absl::string_view bytes) {
  unsigned char digest[SHA256_DIGEST_LENGTH];
  SHA256(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(), digest);
  return absl::BytesToHexString(absl::string_view(reinterpret_cast<char*>(digest), sizeof(digest)));
}

std::string TokenAfter(absl::string_view last) { return absl::StrCat(kTokenPrefix, last); }

absl::StatusOr<std::string> AfterOfToken(absl::string_view token) {
  if (token.empty()) return std::string();
  if (absl::ConsumePrefix(&token, kTokenPrefix)) return std::string(token);
  return absl::AbortedError("starting_token is none that this driver has given; begin again without one");
}

}  // namespace weir::csi
