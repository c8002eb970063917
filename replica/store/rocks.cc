#include "replica/store/rocks.h"

#include <isa-l/crc.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "proto/base/errno.h"

// Debian builds RocksDB for every amd64, so its own CRC32C goes by tables: 7 % of what all of Weir's processes use at depth
// 32. It calls this function by its name, like any of a library's, and a program's own one comes first.
namespace rocksdb::crc32c {

uint32_t Extend(uint32_t crc, const char* data, size_t size) {
  return weir::store::ExtendCrc32c(crc, absl::string_view(data, size));
}

}  // namespace rocksdb::crc32c

namespace weir::store {

uint32_t ExtendCrc32c(uint32_t crc, absl::string_view bytes) {
  constexpr size_t kPieceBytes = size_t{1} << 30;  // ISA-L counts by an int
  for (; !bytes.empty(); bytes.remove_prefix(std::min(kPieceBytes, bytes.size()))) {
    // It takes a non-const pointer but only reads.
    auto* data = reinterpret_cast<unsigned char*>(const_cast<char*>(bytes.data()));
    crc = ~crc32_iscsi(data, static_cast<int>(std::min(kPieceBytes, bytes.size())), ~crc);
  }
  return crc;
}

absl::Status FromRocks(const rocksdb::Status& status, absl::string_view what) {
  if (status.ok()) return absl::OkStatus();
  const std::string message = absl::StrCat(what, ": ", status.ToString());
  if (status.IsNoSpace()) return ErrnoToStatus(ENOSPC, message);
  // A file that RocksDB counts on and cannot find is lost data.
  if (status.IsCorruption() || status.IsPathNotFound() || status.IsNotFound()) {
    return ErrnoToStatus(EBADMSG, message);
  }
  return ErrnoToStatus(EIO, message);
}

bool TellsOfShortage(const absl::Status& error) {
  // RocksDB has no codes for these either. A sync that failed so would leave its data in doubt.
  if (!absl::StrContains(error.message(), "While open")) return false;
  for (const int shortage : {EMFILE, ENFILE, ENOMEM}) {
    if (absl::StrContains(error.message(), std::strerror(shortage))) return true;
  }
  return false;
}

absl::Status FromRocksOpen(const rocksdb::Status& status,
                           absl::string_view what) {
  if (status.ok()) return absl::OkStatus();
  const std::string text = status.ToString();
  // RocksDB has no codes for these; its messages end with strerror's text.
  if (absl::StrContains(text, "Permission denied") ||
      absl::StrContains(text, "Read-only file system")) {
    return absl::PermissionDeniedError(absl::StrCat(
        what, ": ", text, "; make the directory writable for this user"));
  }
  if (status.IsNoSpace() || absl::StrContains(text, "No space left") ||
      absl::StrContains(text, "Too many open files")) {
    return absl::ResourceExhaustedError(absl::StrCat(what, ": ", text));
  }
  return absl::DataLossError(absl::StrCat(what, ": ", text));
}

}  // namespace weir::store
