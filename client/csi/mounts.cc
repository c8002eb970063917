#include "client/csi/mounts.h"

#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>
#include <utility>

#include "absl/algorithm/container.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "proto/base/status_macros.h"

namespace weir::csi {
namespace {

constexpr char kTable[] = "/proc/self/mountinfo";
// A file that somebody has just closed may be busy for a moment.
constexpr absl::Duration kBusyMax = absl::Seconds(2);
constexpr absl::Duration kBusyPause = absl::Milliseconds(20);
// Mounts that lie on each other at one path.
constexpr int kLayersMax = 32;

absl::Status Failed(absl::string_view what, const std::string& path) {
  return absl::InternalError(absl::StrCat("cannot ", what, " ", path, ": ", std::strerror(errno)));
}

// Blanks, tabs, line ends and backslashes are written as three octal digits.
std::string Unescape(absl::string_view text) {
  std::string plain;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size()) {
      const absl::string_view digits = text.substr(i + 1, 3);
      if (absl::c_all_of(digits, [](char c) { return c >= '0' && c <= '7'; })) {
        plain += static_cast<char>((digits[0] - '0') * 64 + (digits[1] - '0') * 8 + (digits[2] - '0'));
        i += 3;
        continue;
      }
    }
    plain += text[i];
  }
  return plain;
}

bool HasOption(absl::string_view options, absl::string_view wanted) {
  return absl::c_linear_search(std::vector<absl::string_view>(absl::StrSplit(options, ',')), wanted);
}

std::optional<Mount> ParseLine(absl::string_view line) {
  const std::vector<absl::string_view> halves = absl::StrSplit(line, absl::MaxSplits(" - ", 1));
  if (halves.size() != 2) return std::nullopt;
  const std::vector<absl::string_view> left = absl::StrSplit(halves[0], ' ');
  const std::vector<absl::string_view> right = absl::StrSplit(halves[1], ' ');
  if (left.size() < 6 || right.size() < 3) return std::nullopt;
  const std::vector<absl::string_view> numbers = absl::StrSplit(left[2], ':');
  unsigned major_number = 0, minor_number = 0;
  if (numbers.size() != 2 || !absl::SimpleAtoi(numbers[0], &major_number) ||
      !absl::SimpleAtoi(numbers[1], &minor_number)) {
    return std::nullopt;
  }
  Mount mount;
  mount.device = makedev(major_number, minor_number);
  mount.root = Unescape(left[3]);
  mount.mount_point = Unescape(left[4]);
  mount.read_only = HasOption(left[5], "ro");
  mount.fs_type = std::string(right[0]);
  mount.source = Unescape(right[1]);
  mount.read_only_super = HasOption(right[2], "ro");
  return mount;
}

}  // namespace

std::vector<Mount> ParseMountinfo(absl::string_view text) {
  std::vector<Mount> mounts;
  for (absl::string_view line : absl::StrSplit(text, '\n', absl::SkipEmpty())) {
    std::optional<Mount> mount = ParseLine(line);
    if (mount.has_value()) mounts.push_back(*std::move(mount));
  }
  return mounts;
}

absl::StatusOr<std::vector<Mount>> ReadMounts() {
  std::ifstream file(kTable);
  std::ostringstream text;
  text << file.rdbuf();
  if (!file.good() && text.str().empty()) return absl::InternalError(absl::StrCat("cannot read ", kTable));
  return ParseMountinfo(text.str());
}

std::optional<Mount> MountAt(const std::vector<Mount>& mounts, absl::string_view path) {
  const auto found = std::find_if(mounts.rbegin(), mounts.rend(),
                                  [path](const Mount& mount) { return mount.mount_point == path; });
  if (found == mounts.rend()) return std::nullopt;
  return *found;
}

absl::Status BindMount(const std::string& source, const std::string& target, bool read_only) {
  if (::mount(source.c_str(), target.c_str(), nullptr, MS_BIND, nullptr) != 0) return Failed("bind-mount on", target);
  // The kernel takes read-only only for a bind mount that is there.
  if (read_only && ::mount(nullptr, target.c_str(), nullptr, MS_BIND | MS_REMOUNT | MS_RDONLY, nullptr) != 0) {
    const absl::Status failed = Failed("make read-only", target);
    ::umount2(target.c_str(), UMOUNT_NOFOLLOW);
    return failed;
  }
  return absl::OkStatus();
}

absl::Status UnmountAll(const std::string& path) {
  const absl::Time busy_until = absl::Now() + kBusyMax;
  for (int layers = 0; layers < kLayersMax;) {
    ASSIGN_OR_RETURN(const std::vector<Mount> mounts, ReadMounts());
    if (!MountAt(mounts, path).has_value()) return absl::OkStatus();
    if (::umount2(path.c_str(), UMOUNT_NOFOLLOW) == 0) {
      ++layers;
    } else if (errno == EBUSY && absl::Now() < busy_until) {
      absl::SleepFor(kBusyPause);
    } else if (errno == EBUSY) {
      return absl::FailedPreconditionError(absl::StrCat(path, " is in use: some process has a file or its folder there"));
    } else {
      return Failed("unmount", path);
    }
  }
  return absl::InternalError(absl::StrCat(path, " has too many mounts on each other"));
}

absl::Status RemoveMountPoint(const std::string& path) {
  struct stat info;
  if (::lstat(path.c_str(), &info) != 0) return errno == ENOENT || errno == ENOTDIR ? absl::OkStatus() : Failed("look at", path);
  if (S_ISDIR(info.st_mode)) {
    return ::rmdir(path.c_str()) == 0 ? absl::OkStatus() : Failed("remove", path);
  }
  if (!S_ISREG(info.st_mode) || info.st_size != 0) {
    return absl::FailedPreconditionError(absl::StrCat(path, " holds something that this driver has not put there"));
  }
  return ::unlink(path.c_str()) == 0 ? absl::OkStatus() : Failed("remove", path);
}

}  // namespace weir::csi
