#include "volume/catalog/floor.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "proto/base/crc32c.h"
#include "proto/base/shortage.h"
#include "proto/base/status_macros.h"

namespace weir::catalog {
namespace {

constexpr char kFloorName[] = "floor";
constexpr char kFloorTag[] = "weir-catalog-floor";

absl::Status FileError(absl::string_view doing, const std::string& path) {
  return absl::InternalError(
      absl::StrCat("cannot ", doing, " ", path, ": ", std::strerror(errno)));
}

std::string Body(const Floor& floor) {
  return absl::StrCat(kFloorTag, " ", floor.cluster_id, " ", floor.revision);
}

// Opens `path`, syncs it (after writing `text`, unless null), closes it.
absl::Status SyncPath(const std::string& path, int flags,
                      const absl::string_view* text) {
  const int fd = OpenPatiently(path, flags | O_CLOEXEC, 0600);
  if (fd < 0) return FileError("open", path);
  absl::Status status;
  if (text != nullptr && ::write(fd, text->data(), text->size()) !=
                             static_cast<ssize_t>(text->size())) {
    status = FileError("write", path);
  }
  if (status.ok() && ::fsync(fd) != 0) status = FileError("sync", path);
  ::close(fd);
  return status;
}

}  // namespace

absl::StatusOr<std::string> ReadWholeFile(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    if (errno == ENOENT) return absl::NotFoundError(path);
    return FileError("open", path);
  }
  std::string text;
  char buffer[512];
  ssize_t got = 0;
  while ((got = ::read(fd, buffer, sizeof(buffer))) > 0) {
    text.append(buffer, static_cast<size_t>(got));
  }
  const absl::Status status =
      got < 0 ? FileError("read", path) : absl::OkStatus();
  ::close(fd);
  if (!status.ok()) return status;
  return text;
}

absl::Status WriteFileDurably(const std::string& dir, const std::string& name,
                              absl::string_view text) {
  const std::string path = absl::StrCat(dir, "/", name);
  const std::string next = absl::StrCat(path, ".new");
  RETURN_IF_ERROR(SyncPath(next, O_WRONLY | O_CREAT | O_TRUNC, &text));
  if (::rename(next.c_str(), path.c_str()) != 0) {
    return FileError("rename", next);
  }
  return SyncPath(dir, O_RDONLY | O_DIRECTORY, nullptr);
}

absl::StatusOr<Floor> ReadFloor(const std::string& dir) {
  const std::string path = absl::StrCat(dir, "/", kFloorName);
  ASSIGN_OR_RETURN(const std::string text, ReadWholeFile(path));
  const std::vector<std::string> words =
      absl::StrSplit(text, absl::ByAnyChar(" \n"), absl::SkipEmpty());
  Floor floor;
  uint32_t crc = 0;
  if (words.size() == 4 && words[0] == kFloorTag &&
      absl::SimpleAtoi(words[2], &floor.revision) &&
      absl::SimpleAtoi(words[3], &crc)) {
    floor.cluster_id = words[1];
    if (Crc32c(Body(floor)) == crc) return floor;
  }
  return absl::DataLossError(absl::StrCat(path, " is damaged"));
}

absl::Status WriteFloor(const std::string& dir, const Floor& floor) {
  const std::string body = Body(floor);
  return WriteFileDurably(dir, kFloorName,
                          absl::StrCat(body, " ", Crc32c(body), "\n"));
}

}  // namespace weir::catalog
