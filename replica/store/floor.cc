#include "replica/store/floor.h"

#include <optional>

#include "absl/strings/str_cat.h"
#include "proto/base/check.h"
#include "proto/base/crc32c.h"
#include "proto/base/status_macros.h"
#include "replica/store/keys.h"
#include "replica/store/rocks.h"

namespace weir::store {
namespace {

constexpr absl::string_view kMagic = "weirfl01";
constexpr size_t kSlotBytes = 4096;
constexpr size_t kStoreIdBytes = 32;
// Magic, store id and six numbers; within one 512-byte sector.
constexpr size_t kSlotUsedBytes = 8 + kStoreIdBytes + 6 * 8;

std::string EncodeSlot(const Floor& floor) {
  CHECK_EQ(floor.store_id.size(), kStoreIdBytes);
  std::string slot(kMagic);
  slot += floor.store_id;
  slot += EncodeNumber(floor.domain);
  slot += EncodeNumber(floor.serial);
  slot += EncodeNumber(floor.manifest_number);
  slot += EncodeNumber(floor.manifest_bytes);
  slot += EncodeNumber(floor.manifest_crc);
  slot += EncodeNumber(Crc32c(slot));
  CHECK_EQ(slot.size(), kSlotUsedBytes);
  slot.resize(kSlotBytes);
  return slot;
}

std::optional<Floor> ParseSlot(absl::string_view slot) {
  if (slot.size() < kSlotUsedBytes || slot.substr(0, 8) != kMagic) {
    return std::nullopt;
  }
  uint64_t numbers[6];
  for (size_t i = 0; i < 6; ++i) {
    CHECK(ParseNumber(slot.substr(8 + kStoreIdBytes + 8 * i, 8), &numbers[i]));
  }
  if (numbers[5] != Crc32c(slot.substr(0, kSlotUsedBytes - 8))) {
    return std::nullopt;
  }
  Floor floor;
  floor.store_id = std::string(slot.substr(8, kStoreIdBytes));
  floor.domain = static_cast<uint32_t>(numbers[0]);
  floor.serial = numbers[1];
  floor.manifest_number = numbers[2];
  floor.manifest_bytes = numbers[3];
  floor.manifest_crc = static_cast<uint32_t>(numbers[4]);
  return floor;
}

}  // namespace

absl::Status FloorFile::Make(rocksdb::Env* env, const std::string& path,
                             const Floor& floor) {
  const std::string slot = EncodeSlot(floor);
  return FromRocksOpen(rocksdb::WriteStringToFile(env, slot + slot, path, true),
                       absl::StrCat("make floor ", path));
}

absl::StatusOr<std::unique_ptr<FloorFile>> FloorFile::Open(
    rocksdb::Env* env, const std::string& path) {
  const std::string what = absl::StrCat("open floor ", path);
  std::unique_ptr<rocksdb::RandomRWFile> file;
  RETURN_IF_ERROR(FromRocksOpen(
      env->NewRandomRWFile(path, &file, rocksdb::EnvOptions()), what));
  std::optional<Floor> newest;
  int newest_slot = 0;
  for (int slot = 0; slot < 2; ++slot) {
    char scratch[kSlotBytes];
    rocksdb::Slice bytes;
    RETURN_IF_ERROR(FromRocksOpen(
        file->Read(slot * kSlotBytes, kSlotBytes, &bytes, scratch), what));
    std::optional<Floor> floor = ParseSlot(View(bytes));
    if (floor && (!newest || floor->serial > newest->serial)) {
      newest = floor;
      newest_slot = slot;
    }
  }
  if (!newest) {
    return absl::DataLossError(absl::StrCat(
        what, ": neither copy is whole; this store lost synced data"));
  }
  return std::unique_ptr<FloorFile>(
      new FloorFile(path, std::move(file), *newest, newest_slot));
}

absl::Status FloorFile::Write(const Floor& floor) {
  CHECK_GT(floor.serial, newest_.serial);
  const std::string what = absl::StrCat("sync floor ", path_);
  const int slot = 1 - newest_slot_;
  RETURN_IF_ERROR(
      FromRocks(file_->Write(slot * kSlotBytes, EncodeSlot(floor)), what));
  RETURN_IF_ERROR(FromRocks(file_->Sync(), what));
  newest_ = floor;
  newest_slot_ = slot;
  return absl::OkStatus();
}

}  // namespace weir::store
