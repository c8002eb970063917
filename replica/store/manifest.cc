#include "replica/store/manifest.h"

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "proto/base/log.h"
#include "proto/base/status_macros.h"
#include "replica/store/directory.h"
#include "replica/store/rocks.h"

namespace weir::store {
namespace {

// RocksDB's log format: blocks of 32 KiB; in them records of checksum:4,
// length:2, type:1, data; a record does not cross a block, longer ones are split.
constexpr size_t kLogBlockBytes = 32 << 10;
constexpr size_t kLogHeaderBytes = 7;
enum LogRecordType : uint8_t { kFull = 1, kFirst = 2, kMiddle = 3, kLast = 4 };

uint32_t LittleEndian(absl::string_view bytes, size_t at, int size) {
  uint32_t number = 0;
  for (int i = size - 1; i >= 0; --i) {
    number = number << 8 | static_cast<uint8_t>(bytes[at + i]);
  }
  return number;
}

// RocksDB stores checksums masked.
uint32_t Unmask(uint32_t masked) {
  const uint32_t rotated = masked - 0xa282ead8u;
  return rotated >> 17 | rotated << 15;
}

// The bytes of the physical record at `at`, 0 if it is not whole.
size_t RecordBytes(absl::string_view log, size_t at) {
  const size_t in_block = kLogBlockBytes - at % kLogBlockBytes;
  if (log.size() - at < kLogHeaderBytes) return 0;
  const size_t bytes = kLogHeaderBytes + LittleEndian(log, at + 4, 2);
  if (bytes > in_block || bytes > log.size() - at) return 0;
  const uint32_t crc = ExtendCrc32c(0, log.substr(at + 6, bytes - 6));
  return crc == Unmask(LittleEndian(log, at, 4)) ? bytes : 0;
}

absl::Status CutTail(rocksdb::Env* env, const std::string& directory,
                     const std::string& name, absl::string_view whole) {
  const std::string what = absl::StrCat("cut the torn tail of ", name);
  LOG(WARNING) << "store " << directory << ": " << what << " at "
               << whole.size() << " bytes; nothing behind it was synced";
  // A name that RocksDB knows as temporary and removes if we die here.
  const std::string temporary = directory + "/000000.dbtmp";
  RETURN_IF_ERROR(FromRocksOpen(
      rocksdb::WriteStringToFile(env, AsSlice(whole), temporary, true), what));
  RETURN_IF_ERROR(FromRocksOpen(
      env->RenameFile(temporary, directory + "/" + name), what));
  return SyncDirectory(env, directory);
}

}  // namespace

bool ParseManifestName(absl::string_view name, uint64_t* number) {
  return absl::ConsumePrefix(&name, "MANIFEST-") &&
         absl::SimpleAtoi(name, number);
}

uint64_t WholeRecordsBytes(absl::string_view log) {
  size_t whole = 0;
  bool inside = false;  // of a record that was split
  for (size_t at = 0; at < log.size();) {
    const size_t in_block = kLogBlockBytes - at % kLogBlockBytes;
    if (in_block < kLogHeaderBytes) {  // a block's trailer
      at += in_block;
      continue;
    }
    const size_t bytes = RecordBytes(log, at);
    if (bytes == 0) break;
    const uint8_t type = static_cast<uint8_t>(log[at + 6]);
    const bool begins = type == kFull || type == kFirst;
    const bool ends = type == kFull || type == kLast;
    if (begins == inside || type < kFull || type > kLast) break;
    at += bytes;
    inside = !ends;
    if (ends) whole = at;
  }
  return whole;
}

absl::Status CheckManifest(rocksdb::Env* env, const std::string& directory,
                           const Floor& floor) {
  const std::string what = absl::StrCat("check MANIFEST in ", directory);
  std::string current;
  RETURN_IF_ERROR(FromRocksOpen(
      rocksdb::ReadFileToString(env, directory + "/CURRENT", &current), what));
  const std::string name(absl::StripSuffix(current, "\n"));
  uint64_t number = 0;
  if (!ParseManifestName(name, &number) || number < floor.manifest_number) {
    return absl::DataLossError(absl::StrCat(
        what, ": CURRENT names an older one than was synced"));
  }
  std::string manifest;
  RETURN_IF_ERROR(FromRocksOpen(
      rocksdb::ReadFileToString(env, absl::StrCat(directory, "/", name),
                                &manifest),
      what));
  // A newer one was begun after the floor was written; RocksDB synced it whole
  // before it renamed CURRENT.
  const uint64_t synced =
      number == floor.manifest_number ? floor.manifest_bytes : 0;
  const absl::string_view bytes(manifest);
  if (bytes.size() < synced ||
      (synced > 0 &&
       ExtendCrc32c(0, bytes.substr(0, synced)) != floor.manifest_crc)) {
    return absl::DataLossError(
        absl::StrCat(what, ": it has lost synced records"));
  }
  const uint64_t whole = WholeRecordsBytes(bytes);
  if (whole == bytes.size()) return absl::OkStatus();
  if (whole == 0 || whole < synced) {
    return absl::DataLossError(absl::StrCat(what, ": it is damaged"));
  }
  return CutTail(env, directory, name, bytes.substr(0, whole));
}

}  // namespace weir::store
