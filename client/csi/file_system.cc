#include "client/csi/file_system.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <optional>
#include <system_error>

#include "absl/algorithm/container.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "client/csi/command.h"
#include "proto/base/status_macros.h"

namespace weir::csi {
namespace {

constexpr int kBlkidNothingFound = 2;
// e2fsck's: mended, and "reboot", which for a file system that is not mounted means mended too.
constexpr int kFsckMendedMax = 3;

absl::Status GiveOne(const std::string& path, gid_t group) {
  struct stat info;
  if (::lstat(path.c_str(), &info) != 0) return absl::OkStatus();  // gone meanwhile
  if (::lchown(path.c_str(), static_cast<uid_t>(-1), group) != 0) {
    return absl::InternalError(absl::StrCat("cannot give ", path, " to group ", group, ": ", std::strerror(errno)));
  }
  if (S_ISLNK(info.st_mode)) return absl::OkStatus();
  const mode_t wanted = S_ISDIR(info.st_mode) ? S_ISGID | 0070 : 0060;
  if (::chmod(path.c_str(), (info.st_mode & 07777) | wanted) != 0) {
    return absl::InternalError(absl::StrCat("cannot open ", path, " to group ", group, ": ", std::strerror(errno)));
  }
  return absl::OkStatus();
}

// The first number that stands behind `word`.
std::optional<uint64_t> NumberAfter(absl::string_view text, absl::string_view word) {
  const size_t at = text.find(word);
  if (at == absl::string_view::npos) return std::nullopt;
  absl::string_view digits = absl::StripLeadingAsciiWhitespace(text.substr(at + word.size()));
  digits = digits.substr(0, digits.find_first_not_of("0123456789"));
  uint64_t number = 0;
  return absl::SimpleAtoi(digits, &number) ? std::optional<uint64_t>(number) : std::nullopt;
}

}  // namespace

absl::StatusOr<std::string> ContentOf(const std::string& device, absl::Time deadline) {
  // -p: look at the device itself, not at what an earlier look has left.
  for (const char* tag : {"TYPE", "PTTYPE"}) {
    const std::vector<std::string> blkid = {"blkid", "-p", "-s", tag, "-o", "value", device};
    ASSIGN_OR_RETURN(const CommandResult result, RunCommand(blkid, deadline));
    if (result.exit_code != 0 && result.exit_code != kBlkidNothingFound) return CommandError(blkid, result);
    const std::string found(absl::StripAsciiWhitespace(result.out));
    if (!found.empty()) return found;
  }
  return std::string();
}

absl::Status Format(const std::string& device, const std::string& fs_type, const std::string& options,
                    absl::Time deadline) {
  // A volume reads as zeros where nothing was written, so there is nothing to discard.
  std::vector<std::string> mkfs = fs_type == "xfs"
                                      ? std::vector<std::string>{"mkfs.xfs", "-q", "-K"}
                                      : std::vector<std::string>{"mkfs.ext4", "-q", "-F", "-m0", "-E", "nodiscard"};
  for (absl::string_view word : absl::StrSplit(options, ' ', absl::SkipWhitespace())) mkfs.emplace_back(word);
  mkfs.push_back(device);
  return RunOrFail(mkfs, deadline).status();
}

absl::Status CheckFileSystem(const std::string& device, const std::string& fs_type, absl::Time deadline) {
  if (fs_type != "ext4") return absl::OkStatus();  // xfs mends itself when it is mounted
  const std::vector<std::string> fsck = {"e2fsck", "-p", device};
  ASSIGN_OR_RETURN(const CommandResult result, RunCommand(fsck, deadline));
  if (result.exit_code <= kFsckMendedMax) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat("the file system must be checked by hand: ",
                                                    CommandError(fsck, result).message()));
}

absl::Status MountFileSystem(const std::string& device, const std::string& mount_point, const std::string& fs_type,
                             const std::vector<std::string>& flags, bool read_only, absl::Time deadline) {
  std::vector<std::string> options = flags;
  // A copy of a volume has the same identifier, and may be mounted beside it.
  if (fs_type == "xfs" && !absl::c_linear_search(options, "nouuid")) options.push_back("nouuid");
  if (read_only) options.push_back("ro");
  const auto attempt = [&](const std::vector<std::string>& with) {
    std::vector<std::string> mount = {"mount", "-t", fs_type};
    if (!with.empty()) {
      mount.push_back("-o");
      mount.push_back(absl::StrJoin(with, ","));
    }
    mount.push_back(device);
    mount.push_back(mount_point);
    return RunOrFail(mount, deadline).status();
  };
  const absl::Status mounted = attempt(options);
  if (mounted.ok() || !read_only) return mounted;
  // The log of one that was not unmounted cannot be replayed on a device that is read-only.
  options.push_back(fs_type == "xfs" ? "norecovery" : "noload");
  return attempt(options).ok() ? absl::OkStatus() : mounted;
}

absl::Status GrowFileSystem(const std::string& device, const std::string& mount_point, const std::string& fs_type,
                            absl::Time deadline) {
  if (fs_type == "xfs") return RunOrFail({"xfs_growfs", mount_point}, deadline).status();
  const std::vector<std::string> resize = {"resize2fs", device};
  ASSIGN_OR_RETURN(const CommandResult result, RunCommand(resize, deadline));
  if (result.exit_code == 0) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      "the file system cannot grow while it is mounted, it will when it is staged next: ",
      CommandError(resize, result).message()));
}

absl::StatusOr<uint64_t> FileSystemBytes(const std::string& device, const std::string& mount_point,
                                         const std::string& fs_type, absl::Time deadline) {
  const bool xfs = fs_type == "xfs";
  // -n: only say how it is. Its first line with "bsize=" is that of the data.
  const std::vector<std::string> show =
      xfs ? std::vector<std::string>{"xfs_growfs", "-n", mount_point} : std::vector<std::string>{"dumpe2fs", "-h", device};
  ASSIGN_OR_RETURN(const std::string said, RunOrFail(show, deadline));
  const std::optional<uint64_t> block_bytes = NumberAfter(said, xfs ? "bsize=" : "Block size:");
  const std::optional<uint64_t> blocks = NumberAfter(said, xfs ? "blocks=" : "Block count:");
  if (block_bytes.has_value() && blocks.has_value()) return *block_bytes * *blocks;
  return absl::InternalError(absl::StrCat(show[0], " does not say how large the file system on ", device, " is"));
}

absl::Status GrowUnmounted(const std::string& device, absl::Time deadline) {
  // resize2fs wants to see that all of it was looked at since it was mounted last.
  const std::vector<std::string> fsck = {"e2fsck", "-f", "-p", device};
  ASSIGN_OR_RETURN(const CommandResult result, RunCommand(fsck, deadline));
  if (result.exit_code > kFsckMendedMax) return CommandError(fsck, result);
  return RunOrFail({"resize2fs", device}, deadline).status();
}

absl::Status GiveToGroup(const std::string& root, const std::string& group) {
  gid_t number = 0;
  struct stat info;
  if (!absl::SimpleAtoi(group, &number)) return absl::InvalidArgumentError("volume_mount_group must be a number");
  if (::stat(root.c_str(), &info) != 0) {
    return absl::InternalError(absl::StrCat("cannot look at ", root, ": ", std::strerror(errno)));
  }
  constexpr mode_t kGiven = S_ISGID | 0070;
  if (info.st_gid == number && (info.st_mode & kGiven) == kGiven) return absl::OkStatus();
  std::error_code error;
  std::filesystem::recursive_directory_iterator end, at(root, error);
  for (; !error && at != end; at.increment(error)) RETURN_IF_ERROR(GiveOne(at->path().string(), number));
  if (error) return absl::InternalError(absl::StrCat("cannot look through ", root, ": ", error.message()));
  // The root last: it says that all is done.
  return GiveOne(root, number);
}

}  // namespace weir::csi
