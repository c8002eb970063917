// replica/store: the files that it reads before it lets RocksDB open: the floor, and the MANIFEST.
#include <memory>
#include <string>

#include "proto/base/check.h"
#include "replica/store/floor.h"
#include "replica/store/manifest.h"
#include "rocksdb/env.h"
#include "tests/fuzz/input.h"

namespace weir::store {
namespace {

constexpr char kFloorPath[] = "/d/floor";
constexpr char kManifestPath[] = "/d/MANIFEST-000007";

void WriteFile(rocksdb::Env* env, absl::string_view bytes, const std::string& path) {
  CHECK(rocksdb::WriteStringToFile(env, {bytes.data(), bytes.size()}, path).ok());
}

void ReadFloor(rocksdb::Env* env, absl::string_view file) {
  WriteFile(env, file, kFloorPath);
  const absl::StatusOr<std::unique_ptr<FloorFile>> opened = FloorFile::Open(env, kFloorPath);
  if (!opened.ok()) return;
  // A next one takes the place of the older slot, and is then the newest.
  Floor next = (*opened)->newest();
  if (next.serial == ~uint64_t{0}) return;
  ++next.serial;
  CHECK_OK((*opened)->Write(next));
  const absl::StatusOr<std::unique_ptr<FloorFile>> again = FloorFile::Open(env, kFloorPath);
  CHECK_OK(again);
  CHECK_EQ((*again)->newest().serial, next.serial);
}

void ReadManifest(rocksdb::Env* env, uint64_t bytes, uint64_t crc, absl::string_view file) {
  const uint64_t whole = WholeRecordsBytes(file);
  CHECK_LE(whole, file.size());
  // What is whole stays so without what follows it.
  CHECK_EQ(WholeRecordsBytes(file.substr(0, whole)), whole);
  Floor floor;
  floor.manifest_number = 7;
  floor.manifest_bytes = bytes;
  floor.manifest_crc = static_cast<uint32_t>(crc);
  WriteFile(env, file, kManifestPath);
  WriteFile(env, "MANIFEST-000007\n", "/d/CURRENT");
  if (!CheckManifest(env, "/d", floor).ok()) return;
  // What it has cut off it does not find again.
  CHECK_OK(CheckManifest(env, "/d", floor));
}

}  // namespace
}  // namespace weir::store

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  // Made once: its files are written anew each time.
  static rocksdb::Env* const env = rocksdb::NewMemEnv(rocksdb::Env::Default());
  weir::fuzz::Input input(data, size);
  const uint8_t kind = input.Byte();
  if (kind % 3 == 0) {
    weir::store::ReadFloor(env, input.Rest());
  } else if (kind % 3 == 1) {
    const uint64_t bytes = input.Number(2);
    const uint64_t crc = input.Number(4);
    weir::store::ReadManifest(env, bytes, crc, input.Rest());
  } else {
    uint64_t number = 0;
    weir::store::ParseManifestName(input.Rest(), &number);
  }
  return 0;
}
